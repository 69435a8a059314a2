/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cufft.h"

#include <stddef.h>
#include <string.h>

#include "kernels/cuda/library.h"

const hd_cufft *hd_cuda_cufft(void)
{
	static const char *const names[] = {"libcufft.so.12", "libcufft.so.11", NULL};
	static const char *const symbols[] = {
#define X(name) "cufft" #name,
	        HD_CUFFT_FUNCTIONS(X)
#undef X
	                NULL};
	static hd_cufft table;
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
