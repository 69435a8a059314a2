/* SPDX-License-Identifier: Apache-2.0 */
/* Which back end: the GPU's is a library of its own, opened at run time, so that the program starts without CUDA. */
#include "heimdall/backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"

#define DEVICE 0 /* CUDA_VISIBLE_DEVICES says which one that is */
#define REASON_BYTES (sizeof((hd_backend *)0)->reason)

/* The library's path: false where there is none, with the reason in why. */
static bool find_library(char path[PATH_MAX], char *why, size_t bytes)
{
	static const char *const places[] = {"", "../lib/heimdall/"};
	const char *given = getenv("HEIMDALL_CUDA_LIBRARY");
	char program[PATH_MAX], *absolute;
	if (given && *given) {
		absolute = realpath(given, path);
		if (!absolute)
			snprintf(why, bytes, "HEIMDALL_CUDA_LIBRARY: %s is not there", given);
		return absolute != NULL;
	}
	ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
	program[length > 0 ? length : 0] = '\0';
	char *slash = strrchr(program, '/');
	if (slash)
		slash[1] = '\0';
	for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
		char candidate[PATH_MAX];
		int written = snprintf(candidate, sizeof candidate, "%s%s%s", program, places[i], HD_CUDA_PLUGIN_FILE);
		if (written < (int)sizeof candidate && realpath(candidate, path))
			return true;
	}
	snprintf(why, bytes, "%s is neither beside the program nor in ../lib/heimdall (a build with nvcc makes it)",
	        HD_CUDA_PLUGIN_FILE);
	return false;
}

/*
 * The library's table, NULL with the reason in why. It stays open until the program ends: CUDA does not like to be
 * taken out.
 */
static const hd_cuda_plugin *load_library(char *why, size_t bytes)
{
	char path[PATH_MAX];
	if (!find_library(path, why, bytes))
		return NULL;
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(why, bytes, "%s", dlerror());
		return NULL;
	}
	/* POSIX: the address of a function through a pointer to an object */
	const hd_cuda_plugin *(*get)(void) = NULL;
	*(void **)&get = dlsym(library, HD_CUDA_PLUGIN_SYMBOL);
	const hd_cuda_plugin *plugin = get ? get() : NULL;
	if (plugin && plugin->abi == HD_CUDA_PLUGIN_ABI && plugin->backend_bytes == sizeof(hd_backend))
		return plugin;
	snprintf(why, bytes, "%s belongs to another version of this program: build both together", path);
	dlclose(library);
	return NULL;
}

/* The back end of the first device; HD_E_UNSUPPORTED with the reason in why. */
static hd_status open_gpu(hd_backend **out, char *why, size_t bytes)
{
	const hd_cuda_plugin *plugin = load_library(why, bytes);
	if (!plugin)
		return HD_E_UNSUPPORTED;
	char text[REASON_BYTES];
	int count = plugin->device_count(text, sizeof text);
	if (count < 1) {
		snprintf(why, bytes, "no CUDA device: %s", text);
		return HD_E_UNSUPPORTED;
	}
	hd_status st = plugin->open(out, DEVICE, hd_fail);
	if (st == HD_OK)
		snprintf((*out)->reason, REASON_BYTES, "GPU: the first of %d CUDA device%s", count,
		        count == 1 ? "" : "s");
	else
		snprintf(why, bytes, "%s", hd_error_text());
	return st;
}

hd_status hd_backend_open(hd_backend **out, const char *accelerator, int threads)
{
	char why[REASON_BYTES] = "as asked";
	bool gpu = !strcmp(accelerator, "gpu"), any = !strcmp(accelerator, "auto");
	*out = NULL;
	if (!gpu && !any && strcmp(accelerator, "cpu") != 0)
		return hd_fail(HD_E_USAGE, "--accelerator: '%s' is none of cpu, gpu, auto", accelerator);
	hd_status st = gpu || any ? open_gpu(out, why, sizeof why) : HD_E_UNSUPPORTED;
	if (st == HD_OK)
		return HD_OK;
	if (gpu)
		return hd_fail(st, "--accelerator gpu: %s; use --accelerator cpu where there is no NVIDIA GPU", why);
	st = hd_backend_open_cpu(out, NULL, threads);
	if (st == HD_OK)
		snprintf((*out)->reason, REASON_BYTES, "CPU: %s", why);
	return st;
}

void hd_backend_close(hd_backend *backend)
{
	if (backend)
		backend->close(backend);
}
