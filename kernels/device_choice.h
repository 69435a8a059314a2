/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which GPU: what a user asks for, and which of those that are there it is. Nothing here starts a device; the
 * descriptions come from plugin.h. Any thread; nothing is owned.
 */
#ifndef HD_KERNELS_DEVICE_CHOICE_H
#define HD_KERNELS_DEVICE_CHOICE_H

#include "heimdall/status.h"
#include "kernels/cuda/plugin.h"

typedef enum hd_devices_kind { HD_DEVICES_FREEST, HD_DEVICES_INDEX, HD_DEVICES_UUID } hd_devices_kind;

typedef struct hd_devices {
	hd_devices_kind kind;
	int index;     /* in CUDA's order */
	char uuid[48]; /* its beginning, with "GPU-" or "MIG-" */
} hd_devices;

/*
 * "auto" or "1": one device, the freest. A number by itself is a count, as in Lightning; numbers in brackets, or with a
 * comma, are indices: "[2]", "2,". "GPU-8f3a", "MIG-...": the beginning of a UUID. HD_E_USAGE, beginning with
 * "devices", for more than one device and for anything else.
 */
hd_status hd_devices_parse(hd_devices *out, const char *text);

/*
 * Device numbers in the order to try them: by free memory in steps of 1 GiB, so that what an idle driver holds does not
 * count; then by utilization; then as they come. order (count).
 */
void hd_devices_order(int *order, const hd_cuda_device_info *info, int count);

/* The device that was asked for by index or UUID. HD_E_USAGE where none or several are meant, with those there are. */
hd_status hd_devices_find(int *out, const hd_devices *wanted, const hd_cuda_device_info *info, int count);

/* "GPU 2 of 4, NVIDIA H100: 79.1 GiB free; GPU 0: python (pid 4242) holds 61.2 GiB", cut where it is longer. */
void hd_devices_explain(char *out, size_t bytes, int taken, const hd_cuda_device_info *info, int count);

#endif
