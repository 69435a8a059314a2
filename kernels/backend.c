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
#include "kernels/device_choice.h"

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

/* Appends to the reason a device that does not start. */
static void add_skipped(char *skipped, size_t bytes, int device, const char *error)
{
	size_t used = strlen(skipped);
	snprintf(skipped + used, bytes - used, "; GPU %d is left out: %s", device, error);
}

/* The first of the order that starts; those in front of it in skipped. */
static hd_status open_freest(hd_backend **out, int *taken, const hd_cuda_plugin *plugin,
        const hd_cuda_device_info *info, int count, char *skipped, size_t bytes)
{
	hd_status st = HD_E_UNSUPPORTED;
	int *order = calloc((size_t)count, sizeof *order);
	if (!order)
		return hd_fail(HD_E_MEMORY, "out of memory for %d devices", count);
	hd_devices_order(order, info, count);
	for (int i = 0; i < count && st != HD_OK; i++) {
		*taken = order[i];
		st = plugin->open(out, *taken, hd_fail);
		if (st != HD_OK)
			add_skipped(skipped, bytes, *taken, hd_error_text());
	}
	free(order);
	return st;
}

/* One of the devices that are there. */
static hd_status open_one(hd_backend **out, const hd_devices *devices, const hd_cuda_plugin *plugin, int count)
{
	hd_status st = HD_OK;
	bool freest = devices->kind == HD_DEVICES_FREEST;
	char skipped[REASON_BYTES] = "";
	int taken = 0;
	hd_cuda_device_info *info = calloc((size_t)count, sizeof *info);
	if (!info)
		return hd_fail(HD_E_MEMORY, "out of memory for %d devices", count);
	for (int i = 0; i < count; i++)
		plugin->describe(&info[i], i, freest && count > 1);
	if (freest)
		st = open_freest(out, &taken, plugin, info, count, skipped, sizeof skipped);
	else
		st = hd_devices_find(&taken, devices, info, count);
	if (!freest && st == HD_OK)
		st = plugin->open(out, taken, hd_fail);
	if (*out) {
		hd_devices_explain((*out)->reason, REASON_BYTES, taken, info, count);
		size_t used = strlen((*out)->reason);
		snprintf((*out)->reason + used, REASON_BYTES - used, "%s", skipped);
	} else if (freest && count > 1 && skipped[0]) {
		st = hd_fail(st, "none of %d GPUs starts%s", count, skipped);
	}
	free(info);
	return st;
}

/* The back end of a GPU; else an error with the reason in why. */
static hd_status open_gpu(hd_backend **out, const hd_devices *devices, char *why, size_t bytes)
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
	hd_status st = open_one(out, devices, plugin, count);
	if (st != HD_OK)
		snprintf(why, bytes, "%s", hd_error_text());
	return st;
}

hd_status hd_backend_open(hd_backend **out, const char *accelerator, const char *devices, int threads)
{
	char why[REASON_BYTES] = "as asked";
	bool gpu = !strcmp(accelerator, "gpu"), any = !strcmp(accelerator, "auto");
	hd_devices wanted;
	*out = NULL;
	if (!gpu && !any && strcmp(accelerator, "cpu") != 0)
		return hd_fail(HD_E_USAGE, "--accelerator: '%s' is none of cpu, gpu, auto", accelerator);
	hd_status st = hd_devices_parse(&wanted, devices ? devices : "auto");
	if (st != HD_OK)
		return st;
	st = gpu || any ? open_gpu(out, &wanted, why, sizeof why) : HD_E_UNSUPPORTED;
	if (st == HD_OK || st == HD_E_USAGE)
		return st;
	if (gpu)
		return hd_fail(st, "--accelerator gpu: %s; use --accelerator cpu where there is no NVIDIA GPU", why);
	/* who names a device wants no other, and not the CPU either */
	if (any && wanted.kind != HD_DEVICES_FREEST)
		return hd_fail(st, "--devices %s: %s; leave it out to take any, or the CPU", devices, why);
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
