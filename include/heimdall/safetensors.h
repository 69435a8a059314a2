/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The safetensors format: 8-byte little-endian header length, a JSON header, raw tensors.
 * Source: the format's own description (huggingface/safetensors, README "Format").
 */
#ifndef HEIMDALL_SAFETENSORS_H
#define HEIMDALL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "heimdall/backend.h"

#define HD_TENSOR_DIMS 6

typedef struct hd_tensor {
	char *name;
	hd_dtype dtype; /* F32, F64, F16, BF16, I32, I8, U8, I16 (I64 tensors are refused by name) */
	int ndim;
	int64_t shape[HD_TENSOR_DIMS];
	const void *data; /* when reading: into the mapped file; when writing: the caller's */
	size_t bytes;
} hd_tensor;

typedef struct hd_metadata {
	char *key;
	char *value;
} hd_metadata;

typedef struct hd_safetensors {
	hd_tensor *tensors; /* in the order of their data */
	size_t tensor_count;
	hd_metadata *metadata; /* the "__metadata__" strings */
	size_t metadata_count;
	void *map; /* private: the mapped file */
	size_t map_bytes;
} hd_safetensors;

/*
 * Opens a file read-only by mapping. HD_E_DATA with the reason where it is not one or is damaged: header length
 * beyond the file or over 100 MB, offsets out of range, overlapping or not contiguous, sizes that do not match
 * dtype and shape, a duplicate name. Where "checksum:NAME" is among the metadata (hex CRC-32 of the tensor's
 * bytes) and verify is set, it is checked.
 */
hd_status hd_safetensors_open(hd_safetensors *out, const char *path, bool verify);
void hd_safetensors_close(hd_safetensors *file);                                    /* NULL-safe */
const hd_tensor *hd_safetensors_find(const hd_safetensors *file, const char *name); /* NULL: not there */
const char *hd_safetensors_metadata(const hd_safetensors *file, const char *key);   /* NULL: not there */

/*
 * Writes atomically: temporary file beside the target, fsync, rename, fsync of the folder. Adds a
 * "checksum:NAME" metadata string per tensor.
 */
hd_status hd_safetensors_write(const char *path, const hd_tensor *tensors, size_t tensor_count,
        const hd_metadata *metadata, size_t metadata_count);

/*
 * The same where the tensors' data (NULL) are fetched one after the other: fetch puts those of tensors[index] into out,
 * of tensors[index].bytes. Memory for the largest tensor is all it takes.
 */
typedef hd_status (*hd_tensor_fetch)(void *context, size_t index, void *out);
hd_status hd_safetensors_write_fetched(const char *path, const hd_tensor *tensors, size_t tensor_count,
        const hd_metadata *metadata, size_t metadata_count, hd_tensor_fetch fetch, void *context);

#endif
