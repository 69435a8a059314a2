/* SPDX-License-Identifier: Apache-2.0 */
/* Which back end hd_backend_open takes, and what it says where there is no GPU. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/backend.h"
#include "kernels/cuda/plugin.h"

static void expect_text(const char *text, const char *part)
{
	cr_expect(strstr(text, part) != NULL, "got '%s', want '%s' in it", text, part);
}

/* Opens with that library: auto must give the CPU, gpu an error, both with `part` in the reason. */
static void check_without_gpu(const char *library, const char *part)
{
	hd_backend *backend;
	setenv("HEIMDALL_CUDA_LIBRARY", library, 1);
	cr_assert_eq(hd_backend_open(&backend, "auto", 1), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(backend->name, "cpu");
	cr_expect_eq(strncmp(backend->reason, "CPU: ", 5), 0, "got '%s'", backend->reason);
	expect_text(backend->reason, part);
	hd_backend_close(backend);
	cr_expect_eq(hd_backend_open(&backend, "gpu", 1), HD_E_UNSUPPORTED);
	cr_expect_null(backend);
	expect_text(hd_error_text(), "--accelerator gpu");
	expect_text(hd_error_text(), part);
}

Test(backend, unknown_name)
{
	hd_backend *backend;
	cr_expect_eq(hd_backend_open(&backend, "tpu", 1), HD_E_USAGE);
	cr_expect_null(backend);
	expect_text(hd_error_text(), "'tpu'");
}

Test(backend, cpu_as_asked)
{
	hd_backend *backend;
	cr_assert_eq(hd_backend_open(&backend, "cpu", 1), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(backend->name, "cpu");
	cr_expect_str_eq(backend->reason, "CPU: as asked");
	cr_expect_eq(backend->threads, 1);
	cr_expect_null(backend->collective, "sums over processes are the GPU's");
	hd_backend_close(backend);
}

Test(backend, cpu_tier_of_the_environment)
{
	hd_backend *backend;
	setenv("HEIMDALL_CPU_TIER", "v9", 1);
	cr_expect_eq(hd_backend_open(&backend, "cpu", 1), HD_E_USAGE);
	expect_text(hd_error_text(), "'v9'");
#if defined(__x86_64__)
	setenv("HEIMDALL_CPU_TIER", "v2", 1);
	cr_assert_eq(hd_backend_open(&backend, "cpu", 1), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(backend->tier, "v2");
	hd_backend_close(backend);
#endif
}

Test(backend, library_is_not_there)
{
	check_without_gpu("/nowhere/" HD_CUDA_PLUGIN_FILE, "/nowhere/" HD_CUDA_PLUGIN_FILE " is not there");
}

/* This program itself is no library. */
Test(backend, library_does_not_open)
{
	check_without_gpu("/proc/self/exe", "");
}

Test(backend, library_of_another_kind)
{
	static const char *const libraries[] = {
	        "/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"};
	for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
		if (access(libraries[i], R_OK) != 0)
			continue;
		check_without_gpu(libraries[i], "another version");
		return;
	}
	cr_skip_test("no libm.so.6 where Linux distributions have it");
}

/* With the library that the build made, where it made one: either a device answers, or its absence has a reason. */
Test(backend, library_of_this_build)
{
	hd_backend *backend;
	char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
	cr_assert_gt(length, 0);
	path[length] = '\0';
	strcpy(strrchr(path, '/'), "/../" HD_CUDA_PLUGIN_FILE);
	if (access(path, R_OK) != 0)
		cr_skip_test("this build has no %s", HD_CUDA_PLUGIN_FILE);
	setenv("HEIMDALL_CUDA_LIBRARY", path, 1);
	cr_assert_eq(hd_backend_open(&backend, "auto", 1), HD_OK, "%s", hd_error_text());
	if (!strcmp(backend->name, "cpu")) {
		hd_backend_close(backend);
		check_without_gpu(path, "no CUDA device: cudaGetDeviceCount: ");
		return;
	}
	cr_expect_str_eq(backend->name, "cuda");
	hd_backend_close(backend);
}
