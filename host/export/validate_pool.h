/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs of a validation and the engine's answers to them. */
#ifndef HD_EXPORT_VALIDATE_POOL_H
#define HD_EXPORT_VALIDATE_POOL_H

#include "host/export/validate.h"

typedef struct hd_validate_pool {
	int made, real; /* rows */
	int ndim;       /* of an input, rows included */
	int64_t shape[HD_PORT_DIMS];
	int64_t row;            /* values of one */
	float *inputs;          /* (made + real, row) */
	hd_prediction *answers; /* the engine's */
} hd_validate_pool;

hd_status hd_validate_pool_open(hd_validate_pool *out, const hd_onnx_model *model, const hd_checkpoint *checkpoint,
        hd_backend *backend, const hd_dataset *real);
void hd_validate_pool_close(hd_validate_pool *pool); /* NULL-safe */

#endif
