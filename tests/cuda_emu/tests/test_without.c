/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that HD_EMU_WITHOUT takes away. */
#include "self.h"

#include <dlfcn.h>

static bool has(const char *function)
{
	return dlsym(RTLD_DEFAULT, function) != NULL;
}

static void all_there(void)
{
	CHECK(has("cublasLtCreate") && has("cufftCreate") && has("ncclAllReduce"), "a stand-in is missing");
}

static void two_away(void)
{
	CHECK(!has("cublasLtCreate") && !has("ncclAllReduce"), "is there");
	CHECK(has("cufftCreate") && has("cufftExecR2C"), "is not there");
	CHECK(!dlopen("libcublasLt.so.13", RTLD_NOW) && !dlopen("/usr/lib/libnccl.so.2", RTLD_NOW), "can be opened");
	CHECK(strstr(dlerror(), "HD_EMU_WITHOUT"), "does not say why");
}

const test_case without_cases[] = {
        {"without_nothing", NULL, all_there, EVERY(PASSES)},
        {"without_two", "HD_EMU_WITHOUT=cublaslt,nccl", two_away, EVERY(PASSES)},
        {"without_unknown", "HD_EMU_WITHOUT=cufft,cublas", two_away, EVERY("'cublas' is none of")},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
