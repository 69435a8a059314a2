/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HD_EMU_WITHOUT=cublaslt,cufft,cudnn,nccl,nvml: these libraries are not there for what opens libraries at run time,
 * neither their stand-ins nor those that are installed. The linker turns dlopen and dlsym of the tested objects into
 * these
 * (--wrap).
 */
#include "hooks.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlsym(void *library, const char *name);
void *__real_dlopen(const char *file, int mode);
void *__real_dlsym(void *library, const char *name);

/* By the name in the list: what functions' names begin with, and what the file's name does behind "lib". */
static const struct {
	const char *name, *prefix, *file;
} libraries[] = {{"cublaslt", "cublasLt", "cublasLt"}, {"cufft", "cufft", "cufft"}, {"cudnn", "cudnn", "cudnn"},
        {"nccl", "nccl", "nccl"}, {"nvml", "nvml", "nvidia-ml"}};
enum { LIBRARIES = sizeof libraries / sizeof *libraries };

/* The library that an entry of the list names, LIBRARIES for none. */
static int library_of(const char *entry, size_t length)
{
	int i = 0;
	while (i < LIBRARIES && (strlen(libraries[i].name) != length || strncmp(entry, libraries[i].name, length) != 0))
		i++;
	return i;
}

/* Whether a function of this name, or a file lib + name, belongs to a library that is not there. */
static bool is_hidden(const char *name, bool file)
{
	const char *list = getenv("HD_EMU_WITHOUT");
	bool hidden = false;
	for (const char *at = list ? list : ""; *at;) {
		size_t length = strcspn(at, ",");
		int i = library_of(at, length);
		if (i == LIBRARIES)
			hd_emu_fail("HD_EMU_WITHOUT=%s: '%.*s' is none of cublaslt, cufft, cudnn, nccl, nvml", list,
			        (int)length, at);
		const char *start = file ? libraries[i].file : libraries[i].prefix;
		hidden = hidden || !strncmp(name, start, strlen(start));
		at += length + (at[length] == ',');
	}
	return hidden;
}

void *__wrap_dlopen(const char *file, int mode)
{
	const char *slash = file ? strrchr(file, '/') : NULL, *name = slash ? slash + 1 : file;
	if (name && !strncmp(name, "lib", 3) && is_hidden(name + 3, true))
		return __real_dlopen("/hidden by HD_EMU_WITHOUT", mode); /* fails and says so to dlerror */
	return __real_dlopen(file, mode);
}

void *__wrap_dlsym(void *library, const char *name)
{
	return is_hidden(name, false) ? __real_dlsym(library, "hidden by HD_EMU_WITHOUT") : __real_dlsym(library, name);
}
