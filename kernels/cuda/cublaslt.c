/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cublaslt.h"

#include "kernels/cuda/library.h"

const hd_cublaslt *hd_cuda_cublaslt(void)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
	static const char *const symbols[] = {
#define X(name) "cublasLt" #name,
	        HD_CUBLASLT_FUNCTIONS(X)
#undef X
	                NULL};
	static hd_cuda_library library = {.names = names, .symbols = symbols};
	static hd_cublaslt table;
	return hd_cuda_library_open(&library, &table, HD_CUDA_SLOTS(table)) ? &table : NULL;
}

size_t hd_cuda_cublaslt_version(void)
{
	const hd_cublaslt *blas = hd_cuda_cublaslt();
	return blas ? blas->GetVersion() : 0;
}
