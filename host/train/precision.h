/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of training that the back end and the model's arithmetic take. */
#ifndef HD_TRAIN_PRECISION_H
#define HD_TRAIN_PRECISION_H

#include "heimdall/model.h"
#include "heimdall/settings.h"

/*
 * Hands conv to the back end. Puts what it computes best in place of precision auto, so that a checkpoint records it:
 * bf16-mixed where it has bfloat16, else 32. tf32 becomes 32, with a warning, where there is none.
 */
hd_status hd_precision_settle(hd_settings *settings, hd_backend *backend);

/* Precision, gradient_checkpointing and cuda_graph of a model that trains; precision auto counts as 32. */
void hd_precision_apply(hd_model_config *config, const hd_settings *settings);

#endif
