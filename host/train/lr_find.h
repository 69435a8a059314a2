/* SPDX-License-Identifier: Apache-2.0 */
/* The learning-rate range test (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3). */
#ifndef HD_TRAIN_LR_FIND_H
#define HD_TRAIN_LR_FIND_H

#include "heimdall/settings.h"

#define HD_LR_FIND_STEPS 100

typedef struct hd_lr_find {
	int steps; /* done: HD_LR_FIND_STEPS, or fewer where the loss ran away */
	double lr[HD_LR_FIND_STEPS];
	double loss[HD_LR_FIND_STEPS];   /* of the step's samples, before it */
	double smooth[HD_LR_FIND_STEPS]; /* Gaussian mean, deviation four steps */
	double suggestion;               /* where the smoothed loss falls fastest; NaN where it never falls */
} hd_lr_find;

/*
 * The suggestion from the losses of `steps` steps at rising rates: the steepest fall of the smoothed loss against the
 * logarithm of the rate, the first ten steps and the last left out. Fills smooth and suggestion. Pure.
 */
void hd_lr_find_suggest(hd_lr_find *find);

/*
 * Trains for up to 100 steps at rates from 1e-8 to 1, evenly on a logarithmic scale, and stops where the loss
 * has risen above its start by as much as it had fallen. Leaves lr_find.csv and lr_find.png in checkpoint_dir, and no
 * weights.
 */
hd_status hd_train_lr_find(hd_lr_find *out, hd_settings *settings);

#endif
