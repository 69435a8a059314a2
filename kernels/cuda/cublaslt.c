/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cublaslt.h"

#include <stddef.h>
#include <string.h>

#include "kernels/cuda/library.h"

static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};

const hd_cublaslt *hd_cuda_cublaslt(void)
{
	static const char *const symbols[] = {
#define X(name) "cublasLt" #name,
	        HD_CUBLASLT_FUNCTIONS(X)
#undef X
	                NULL};
	static hd_cublaslt table;
	static bool tried, found;
	if (!tried) {
		void *functions[sizeof symbols / sizeof *symbols];
		tried = true;
		found = hd_cuda_library_open(functions, names, symbols);
		_Static_assert(sizeof table == sizeof functions - sizeof *functions, "one slot per symbol");
		if (found)
			memcpy(&table, functions, sizeof table);
	}
	return found ? &table : NULL;
}

size_t hd_cuda_cublaslt_version(void)
{
	static const char *const symbols[] = {"cublasLtGetVersion", NULL};
	void *function = NULL;
	if (!hd_cuda_library_open(&function, names, symbols))
		return 0;
	__typeof__(&cublasLtGetVersion) version = NULL;
	memcpy(&version, &function, sizeof version);
	return version();
}
