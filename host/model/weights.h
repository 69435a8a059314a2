/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ConvNeXt weights under timm's names, from safetensors (timm) and PyTorch files (torchvision, the
 * original release, Lightning checkpoints), and their way into a model. One thread at a time per object.
 */
#ifndef HD_MODEL_WEIGHTS_H
#define HD_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "heimdall/model.h"
#include "heimdall/safetensors.h"
#include "host/model/torch_file.h"

typedef struct hd_weight {
	char name[96]; /* timm's, "stages.2.blocks.5.conv_dw.weight"; "" for a tensor with no place in a ConvNeXt */
	const char *file_name; /* as in the file */
	hd_torch_dtype dtype;
	int ndim;
	int64_t shape[HD_TENSOR_DIMS];
	int64_t elements;
	const void *data; /* in the file's dtype */
} hd_weight;

typedef struct hd_weights {
	char *path;
	const char *layout; /* whose names the file has: "timm", "torchvision" or "the original release" */
	hd_weight *tensors; /* in the order of the file */
	size_t count;
	hd_backbone size;         /* depths and widths as found; name NULL where no known size has these */
	int channels;             /* of the stem's input; 0 without a stem */
	hd_safetensors container; /* private */
	hd_torch_file torch;      /* private, but for what it says of other entries */
} hd_weights;

/*
 * Opens a file, tells its kind by its first bytes, and maps its names. The prefixes model., backbone., net., module.
 * and _orig_mod. are taken off, in any order and number. HD_E_DATA with path and reason: what hd_safetensors_open and
 * hd_torch_open refuse, two tensors for one place, a file without any tensor of a ConvNeXt's backbone.
 */
hd_status hd_weights_open(hd_weights *out, const char *path);
void hd_weights_close(hd_weights *weights); /* NULL-safe */

/* Elements as float, in the order of the file; false for a dtype of whole numbers. out: (elements). */
bool hd_weights_to_float(float *out, const hd_weight *weight);

/* Depths and widths as text, "depths 3, 3, 9, 3 and widths 96, 192, 384, 768 (tiny)"; returns buffer. */
const char *hd_weights_size_text(const hd_backbone *size, char *buffer, size_t bytes);

typedef struct hd_weights_report {
	const char *
	        *loaded; /* names of the model's parameters that were set; the arrays are owned, the names are not */
	const char **missing; /* names of the model's parameters that keep their values */
	const char **unused;  /* names in the file that were not used */
	size_t loaded_count, missing_count, unused_count;
	int64_t loaded_parameters, missing_parameters;
	int file_channels, model_channels; /* they differ where the stem was made to fit */
} hd_weights_report;

/*
 * Copies every tensor that fits into the model's weights, as float; parameters without a tensor, as the position and
 * uncertainty heads for a published file, keep their values. 1x1 convolutions (K,C,1,1) and linear layers (K,C) stand
 * for each other, as do (C) and (C,1,1). The report holds pointers into model and weights.
 *
 * A stem for F channels is made to fit M channels as timm does (R. Wightman, pytorch-image-models,
 * timm/models/_manipulate.py, adapt_input_conv), generalised from F = 3:
 *     M = 1:  w'[k,0] = sum over f of w[k,f]
 *     M > 1:  w'[k,c] = w[k, c mod F] * F / M
 * so that the response to channels that are all equal stays the same where M is 1 or a multiple of F, and nearly so
 * otherwise.
 *
 * HD_E_DATA: a backbone of another size than the model's (both are named), a backbone tensor of another shape.
 */
hd_status hd_weights_load(hd_model *model, const hd_weights *weights, hd_weights_report *report);
void hd_weights_report_free(hd_weights_report *report); /* NULL-safe */

/* A few lines of text: what was loaded, what of the file was not used, what keeps its values. */
void hd_weights_report_print(FILE *to, const hd_weights *weights, const hd_weights_report *report);

#endif
