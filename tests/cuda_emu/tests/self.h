/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Self-tests of the CUDA emulation. Every case runs in a process of its own, since settings are read at the start and
 * since a report ends the process: the runner starts this program again with the case's name and environment, and looks
 * at exit code and output. What a planted fault is caught by depends on the build: plain, asan or tsan.
 */
#ifndef HD_EMU_SELF_H
#define HD_EMU_SELF_H

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSES NULL       /* ends with exit code 0 */
#define NOT_RUN "not run" /* this build has nothing to say about the case */

typedef struct test_case {
	const char *name;
	const char *environment; /* "HD_EMU_ORDER=reverse HD_EMU_LAZY=1"; NULL: nothing */
	void (*run)(void);
	const char *expect[3]; /* plain, asan, tsan: PASSES, NOT_RUN or what a failing case says */
} test_case;

#define EVERY(text)                                                                                                    \
	{                                                                                                              \
		text, text, text                                                                                       \
	}

/* End with a name of NULL. */
extern const test_case kernel_cases[], fault_cases[], memory_cases[], stream_cases[], graph_cases[], device_cases[],
        blas_cases[], fft_cases[], nccl_cases[], without_cases[];

/* A condition that the case needs; its failure ends the case with "FAIL". */
#define CHECK(condition, ...)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: FAIL: %s: ", __FILE__, __LINE__, #condition);                          \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fputc('\n', stderr);                                                                           \
			exit(2);                                                                                       \
		}                                                                                                      \
	} while (0)

#define CUDA_OK(call) CHECK_CUDA(call, cudaSuccess)

/* The call returns this error. */
#define CHECK_CUDA(call, wanted)                                                                                       \
	do {                                                                                                           \
		cudaError_t got_ = (call);                                                                             \
		CHECK(got_ == (wanted), "got %s (%d), wanted %s", cudaGetErrorName(got_), (int)got_, #wanted);         \
	} while (0)

/* ---- helpers of cases ---- */

/* Uniform in -1 .. 1, the same numbers in every run. */
float random_float(void);
float *random_floats(size_t n);

/* Device memory with a copy of the host's; NULL: NaN. */
void *to_device(const void *host, size_t bytes);
void from_device(void *host, const void *device, size_t bytes);

cudaStream_t new_stream(void);

/* Ends the case unless all n numbers agree; NaN never does. */
void check_close(const float *got, const float *wanted, size_t n, double tolerance, const char *what);

#endif
