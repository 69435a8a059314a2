/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which back end hd_backend_open takes, and what it says where there is no GPU; which of several GPUs, from
 * descriptions of them (tests/gpu/devices.c: from emulated ones).
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/backend.h"
#include "kernels/cuda/plugin.h"
#include "kernels/device_choice.h"

static void expect_text(const char *text, const char *part)
{
	cr_expect(strstr(text, part) != NULL, "got '%s', want '%s' in it", text, part);
}

/* Opens with that library: auto must give the CPU, gpu an error, both with `part` in the reason. */
static void check_without_gpu(const char *library, const char *part)
{
	hd_backend *backend;
	setenv("HEIMDALL_CUDA_LIBRARY", library, 1);
	cr_assert_eq(hd_backend_open(&backend, "auto", NULL, 1), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(backend->name, "cpu");
	cr_expect_eq(strncmp(backend->reason, "CPU: ", 5), 0, "got '%s'", backend->reason);
	expect_text(backend->reason, part);
	hd_backend_close(backend);
	cr_expect_eq(hd_backend_open(&backend, "gpu", NULL, 1), HD_E_UNSUPPORTED);
	cr_expect_null(backend);
	expect_text(hd_error_text(), "--accelerator gpu");
	expect_text(hd_error_text(), part);
	/* who names a device does not mean the CPU */
	cr_expect_eq(hd_backend_open(&backend, "auto", "[0]", 1), HD_E_UNSUPPORTED);
	cr_expect_null(backend);
	expect_text(hd_error_text(), "--devices [0]: ");
	expect_text(hd_error_text(), part);
}

Test(backend, unknown_name)
{
	hd_backend *backend;
	cr_expect_eq(hd_backend_open(&backend, "tpu", NULL, 1), HD_E_USAGE);
	cr_expect_null(backend);
	expect_text(hd_error_text(), "'tpu'");
}

Test(backend, cpu_as_asked)
{
	hd_backend *backend;
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(backend->name, "cpu");
	cr_expect_str_eq(backend->reason, "CPU: as asked");
	cr_expect_eq(backend->threads, 1);
	cr_expect_null(backend->collective, "sums over processes are the GPU's");
	cr_expect(!backend->bf16 && !backend->allow_tf32, "so are narrow products");
	cr_expect(!backend->begin_capture && !backend->end_capture && !backend->run_graph && !backend->close_graph,
	        "and recordings");
	hd_backend_close(backend);
}

/* Devices that are asked for and not there, or not to be had, are no matter of the CPU; their text is read all the
 * same. */
Test(backend, cpu_has_no_devices)
{
	hd_backend *backend;
	cr_assert_eq(hd_backend_open(&backend, "cpu", "[7]", 1), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(backend->name, "cpu");
	hd_backend_close(backend);
	cr_expect_eq(hd_backend_open(&backend, "cpu", "7", 1), HD_E_USAGE);
	cr_expect_null(backend);
	expect_text(hd_error_text(), "trains on one device");
}

/* ---- which of several devices ---- */

Test(devices, one_is_asked_for)
{
	static const struct {
		const char *text;
		hd_devices_kind kind;
		int index;
		const char *uuid;
	} cases[] = {
	        {"auto", HD_DEVICES_FREEST, 0, ""},
	        {"1", HD_DEVICES_FREEST, 0, ""},
	        {"0,", HD_DEVICES_INDEX, 0, ""},
	        {"2,", HD_DEVICES_INDEX, 2, ""},
	        {"[0]", HD_DEVICES_INDEX, 0, ""},
	        {"[ 12 ]", HD_DEVICES_INDEX, 12, ""},
	        {"[3,]", HD_DEVICES_INDEX, 3, ""},
	        {"GPU-8", HD_DEVICES_UUID, 0, "GPU-8"},
	        {"GPU-8f3a,", HD_DEVICES_UUID, 0, "GPU-8f3a"},
	        {"MIG-8F3A0000-0000-0000-0000-000000000000", HD_DEVICES_UUID, 0,
	                "MIG-8F3A0000-0000-0000-0000-000000000000"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_devices got;
		cr_expect_eq(hd_devices_parse(&got, cases[i].text), HD_OK, "%s: %s", cases[i].text, hd_error_text());
		cr_expect(got.kind == cases[i].kind && got.index == cases[i].index, "%s: kind %d, index %d",
		        cases[i].text, (int)got.kind, got.index);
		cr_expect_str_eq(got.uuid, cases[i].uuid, "%s: got '%s'", cases[i].text, got.uuid);
	}
}

Test(devices, not_one_is_asked_for)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
	        {"2", "devices 2: this version trains on one device"},
	        {"-1", "trains on one device"},
	        {"0,1", "trains on one device"},
	        {"[0, 1]", "trains on one device"},
	        {"GPU-1,GPU-2", "trains on one device"},
	        {"0", "no device at all"},
	        {"", "neither auto"},
	        {"gpu", "neither auto"},
	        {"1.0", "neither auto"},
	        {"[", "neither auto"},
	        {"[1", "neither auto"},
	        {"[]", "neither auto"},
	        {"[1]2", "neither auto"},
	        {"[1 2]", "neither auto"},
	        {"[-1]", "neither auto"},
	        {"1,x", "neither auto"},
	        {",", "neither auto"},
	        {"99999999999,", "neither auto"},
	        {"GPU-", "neither auto"},
	        {"GPU-xyz", "neither auto"},
	        {"GPU-00000000-0000-0000-0000-000000000000-0000000000", "neither auto"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_devices got;
		cr_expect_eq(hd_devices_parse(&got, cases[i].text), HD_E_USAGE, "'%s' is taken", cases[i].text);
		expect_text(hd_error_text(), cases[i].want);
	}
}

#define GIB ((size_t)1 << 30)
#define MIB ((size_t)1 << 20)

static const hd_cuda_device_info described[] = {
        {.name = "NVIDIA H100",
                .uuid = "GPU-aa000000-0000-0000-0000-000000000000",
                .available = 18 * GIB,
                .total = 80 * GIB,
                .utilization = 99,
                .holder_count = 2,
                .holders = {{4242, "python", 61 * GIB + 205 * MIB}, {77, "", 0}}},
        {.name = "NVIDIA H100",
                .uuid = "GPU-ab000000-0000-0000-0000-000000000000",
                .available = 79 * GIB + 800 * MIB,
                .total = 80 * GIB,
                .utilization = 40},
        {.name = "NVIDIA H100",
                .uuid = "GPU-ac000000-0000-0000-0000-000000000000",
                .available = 79 * GIB + 102 * MIB,
                .total = 80 * GIB,
                .utilization = 0},
        {.name = "NVIDIA A100 MIG 1g.5gb",
                .uuid = "MIG-aa000000-0000-0000-0000-000000000000",
                .available = SIZE_MAX,
                .utilization = -1},
        {.name = "NVIDIA H100",
                .uuid = "GPU-ad000000-0000-0000-0000-000000000000",
                .available = 79 * GIB,
                .total = 80 * GIB,
                .utilization = 0},
};
#define DESCRIBED ((int)(sizeof described / sizeof *described))

Test(devices, by_memory_then_use_then_place)
{
	static const int want[DESCRIBED] = {2, 4, 1, 0, 3};
	int order[DESCRIBED];
	hd_devices_order(order, described, DESCRIBED);
	for (int i = 0; i < DESCRIBED; i++)
		cr_expect_eq(order[i], want[i], "place %d: got device %d, want %d", i, order[i], want[i]);
}

Test(devices, by_index_and_uuid)
{
	static const struct {
		const char *text;
		int want;         /* -1: none */
		const char *said; /* where none */
	} cases[] = {
	        {"[4]", 4, NULL},
	        {"[5]", -1, "--devices [5]: no such GPU; there are [0] NVIDIA H100 GPU-aa00"},
	        {"GPU-ab", 1, NULL},
	        {"GPU-AC000000-0000-0000-0000-000000000000", 2, NULL},
	        {"MIG-a", 3, NULL},
	        {"GPU-a", -1, "--devices GPU-a: that is the beginning of several UUIDs"},
	        {"GPU-b", -1, "[3] NVIDIA A100 MIG 1g.5gb MIG-aa000000"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_devices wanted;
		int got = -1;
		cr_assert_eq(hd_devices_parse(&wanted, cases[i].text), HD_OK, "%s", hd_error_text());
		hd_status st = hd_devices_find(&got, &wanted, described, DESCRIBED);
		if (cases[i].want >= 0) {
			cr_expect_eq(st, HD_OK, "%s: %s", cases[i].text, hd_error_text());
			cr_expect_eq(got, cases[i].want, "%s: got %d", cases[i].text, got);
		} else {
			cr_expect_eq(st, HD_E_USAGE, "%s: found", cases[i].text);
			expect_text(hd_error_text(), cases[i].said);
		}
	}
}

Test(devices, what_is_said_of_them)
{
	char text[512], small[40];
	hd_devices_explain(text, sizeof text, 2, described, DESCRIBED);
	cr_expect_str_eq(text,
	        "GPU 2 of 5, NVIDIA H100: 79.1 GiB free; GPU 0: python (pid 4242) holds 61.2 GiB, pid 77 "
	        "holds memory");
	hd_devices_explain(text, sizeof text, 3, described + 1, 4);
	cr_expect_str_eq(text, "GPU 3 of 4, NVIDIA H100: 79.0 GiB free");
	hd_devices_explain(text, sizeof text, 0, described + 3, 1);
	cr_expect_str_eq(text, "GPU 0 of 1, NVIDIA A100 MIG 1g.5gb");
	memset(small, 'x', sizeof small);
	hd_devices_explain(small, sizeof small - 1, 0, described, DESCRIBED);
	cr_expect_str_eq(small, "GPU 0 of 5, NVIDIA H100: 18.0 GiB free");
	cr_expect_eq(small[sizeof small - 1], 'x');
}

Test(backend, cpu_tier_of_the_environment)
{
	hd_backend *backend;
	setenv("HEIMDALL_CPU_TIER", "v9", 1);
	cr_expect_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_E_USAGE);
	expect_text(hd_error_text(), "'v9'");
#if defined(__x86_64__)
	setenv("HEIMDALL_CPU_TIER", "v2", 1);
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK, "%s", hd_error_text());
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
	cr_assert_eq(hd_backend_open(&backend, "auto", NULL, 1), HD_OK, "%s", hd_error_text());
	if (!strcmp(backend->name, "cpu")) {
		hd_backend_close(backend);
		check_without_gpu(path, "no CUDA device: cudaGetDeviceCount: ");
		return;
	}
	cr_expect_str_eq(backend->name, "cuda");
	hd_backend_close(backend);
}
