/* SPDX-License-Identifier: Apache-2.0 */
/* What a model is made of, as a table. */
#ifndef HD_MODEL_SUMMARY_H
#define HD_MODEL_SUMMARY_H

#include <stdio.h>

#include "heimdall/model.h"

/* One row per module: name, output shape (N,C,H,W) as files have it, parameters, whether they are trained; totals. */
void hd_model_summary_print(FILE *to, const hd_model *model);

#endif
