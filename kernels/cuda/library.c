/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <stddef.h>

static bool look_up(void **functions, void *library, const char *const *symbols)
{
	for (int i = 0; symbols[i]; i++) {
		functions[i] = dlsym(library, symbols[i]);
		if (!functions[i])
			return false;
	}
	return true;
}

bool hd_cuda_library_open(void **functions, const char *const *names, const char *const *symbols)
{
	if (look_up(functions, RTLD_DEFAULT, symbols))
		return true;
	for (int i = 0; names[i]; i++) {
		void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
		if (!library)
			continue;
		if (look_up(functions, library, symbols))
			return true;
		dlclose(library);
	}
	return false;
}
