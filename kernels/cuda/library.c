/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* POSIX keeps functions and objects in pointers of one size: a slot takes what dlsym gives. */
static bool look_up(void *table, size_t slots, void *library, const char *const *symbols)
{
	for (size_t i = 0; i < slots; i++) {
		void *function = symbols[i] ? dlsym(library, symbols[i]) : NULL;
		if (!function)
			return false;
		memcpy((char *)table + i * sizeof function, &function, sizeof function);
	}
	return true;
}

static bool find(const hd_cuda_library *library, void *table, size_t slots)
{
	if (look_up(table, slots, RTLD_DEFAULT, library->symbols))
		return true;
	for (int i = 0; library->names[i]; i++) {
		void *opened = dlopen(library->names[i], RTLD_NOW | RTLD_LOCAL);
		if (!opened)
			continue;
		if (look_up(table, slots, opened, library->symbols))
			return true;
		dlclose(opened);
	}
	return false;
}

bool hd_cuda_library_open(hd_cuda_library *library, void *table, size_t slots)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&lock);
	if (!library->tried)
		library->found = find(library, table, slots);
	library->tried = true;
	pthread_mutex_unlock(&lock);
	return library->found;
}
