/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors of the files that torch.save writes since PyTorch 1.6 (.pth, .pt) and of Lightning's checkpoints (.ckpt):
 * a zip archive with the object tree as a pickle, NAME/data.pkl, and one entry of raw elements per storage,
 * NAME/data/KEY. Nothing in the file is ever run (host/model/pickle.h).
 * Source of the layout: PyTorch, docs/source/notes/serialization.rst and torch/serialization.py.
 */
#ifndef HD_MODEL_TORCH_FILE_H
#define HD_MODEL_TORCH_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "heimdall/safetensors.h"
#include "heimdall/status.h"

/* name in safetensors, PyTorch's storage class, bytes of an element */
#define HD_TORCH_DTYPES(X)                                                                                             \
	X(F64, "DoubleStorage", 8)                                                                                     \
	X(F32, "FloatStorage", 4)                                                                                      \
	X(F16, "HalfStorage", 2)                                                                                       \
	X(BF16, "BFloat16Storage", 2)                                                                                  \
	X(I64, "LongStorage", 8)                                                                                       \
	X(I32, "IntStorage", 4)                                                                                        \
	X(I16, "ShortStorage", 2)                                                                                      \
	X(I8, "CharStorage", 1)                                                                                        \
	X(U8, "ByteStorage", 1)                                                                                        \
	X(BOOL, "BoolStorage", 1)

typedef enum hd_torch_dtype {
#define X(name, storage, bytes) HD_TORCH_##name,
	HD_TORCH_DTYPES(X)
#undef X
	        HD_TORCH_DTYPE_COUNT
} hd_torch_dtype;

size_t hd_torch_dtype_bytes(hd_torch_dtype dtype);
const char *hd_torch_dtype_name(hd_torch_dtype dtype); /* "F32" */

typedef struct hd_torch_tensor {
	char *name; /* as in the file; printable */
	hd_torch_dtype dtype;
	int ndim;
	int64_t shape[HD_TENSOR_DIMS];
	void *data; /* contiguous, the last dimension fastest, little-endian; owned */
	size_t bytes;
} hd_torch_tensor;

typedef struct hd_torch_file {
	hd_torch_tensor *tensors; /* in the order of the file */
	size_t count, capacity;
	const char *container; /* the entry the tensors came from, "state_dict"; "" for the top level */
	char others[256]; /* the top level's other entries, "epoch, optimizer_states, ..."; "" where there are none */
} hd_torch_file;

/*
 * Reads the tensors of the first of the top level's entries state_dict, model, model_state, model_state_dict,
 * model_ema, state_dict_ema, or of the top level itself. Entries of these that are plain values are passed over.
 *
 * HD_E_IO for a file that cannot be opened. HD_E_DATA with path and reason: no zip archive or one that PyTorch did not
 * write, a file from before PyTorch 1.6 (with how to convert it), a malformed pickle, one that calls what could run
 * code, an object in place of a tensor, sizes, strides and offsets that do not match the storages, compressed or
 * missing entries, a wrong checksum.
 */
hd_status hd_torch_open(hd_torch_file *out, const char *path);
void hd_torch_close(hd_torch_file *file); /* NULL-safe */

/* Whether the file begins as a zip archive, or as a file that torch.save wrote before 1.6. False if unreadable. */
int hd_torch_looks_like(const char *path);

#endif
