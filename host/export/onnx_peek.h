/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ONNX file says of itself, read from the file alone: metadata, inputs, outputs, files of external data.
 * Neither ONNX Runtime nor memory for the weights is needed. Pure functions of the file.
 */
#ifndef HD_EXPORT_ONNX_PEEK_H
#define HD_EXPORT_ONNX_PEEK_H

#include <stdint.h>

#include "host/export/runtime.h"

typedef struct hd_onnx_entry {
	char *key, *value;
} hd_onnx_entry;

typedef struct hd_onnx_peek {
	hd_onnx_entry *metadata;
	size_t metadata_count, metadata_capacity;
	hd_port *inputs, *outputs; /* all of float32; sizes that only a run knows are -1 */
	size_t input_count, input_capacity, output_count, output_capacity;
	char **external; /* names of the files beside it that hold weights, each once */
	size_t external_count, external_capacity;
} hd_onnx_peek;

/* HD_E_DATA with the file where it is no ONNX model, or has ports of other types or of more than HD_PORT_DIMS sizes. */
hd_status hd_onnx_peek_file(hd_onnx_peek *out, const char *path);
void hd_onnx_peek_free(hd_onnx_peek *peek); /* NULL-safe; leaves zeroes */

/* NULL where there is no such key. */
const char *hd_onnx_peek_find(const hd_onnx_peek *peek, const char *key);

#endif
