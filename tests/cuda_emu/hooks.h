/* SPDX-License-Identifier: Apache-2.0 */
/* What stand-ins for vendor libraries ask of the emulator. */
#ifndef HD_EMU_HOOKS_H
#define HD_EMU_HOOKS_H

#include <cuda_runtime_api.h>
#ifndef __cplusplus
#include <stdbool.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Queues work on a stream, or captures it. run(job) may be called any number of times (graphs), with device memory
 * readable, and calls nothing of the runtime; release(job) once, when the work cannot run again, also where this fails.
 */
cudaError_t hd_emu_submit(
        cudaStream_t stream, const char *what, void (*run)(void *job), void (*release)(void *job), void *job);

/* Ends the program with a report unless [address, address + bytes) lies inside one allocation of the device. */
void hd_emu_need(const void *address, size_t bytes, const char *what);

/* From run(): the range is about to be read or written; the thread sanitizer compares with kernels and copies. */
void hd_emu_reads(const void *address, size_t bytes);
void hd_emu_writes(const void *address, size_t bytes);

/* What NVML says of a device in CUDA's order; false: there is none. */
struct hd_emu_device {
	unsigned long long total, free;
	int utilization;
	int pid;                      /* of a process that has memory of it; 0: none */
	unsigned long long pid_bytes; /* all ones: not known */
};
bool hd_emu_describe(int device, struct hd_emu_device *out);

/* Ends the program with a report. */
void hd_emu_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif
#endif
