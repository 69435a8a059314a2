/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cufft.h"

#include "kernels/cuda/library.h"

const hd_cufft *hd_cuda_cufft(void)
{
	static const char *const names[] = {"libcufft.so.12", "libcufft.so.11", NULL};
	static const char *const symbols[] = {
#define X(name) "cufft" #name,
	        HD_CUFFT_FUNCTIONS(X)
#undef X
	                NULL};
	static hd_cuda_library library = {.names = names, .symbols = symbols};
	static hd_cufft table;
	return hd_cuda_library_open(&library, &table, HD_CUDA_SLOTS(table)) ? &table : NULL;
}
