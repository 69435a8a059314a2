/* SPDX-License-Identifier: Apache-2.0 */
/* The batch size that --batch_size auto stands for. */
#ifndef HD_TRAIN_BATCH_SIZE_H
#define HD_TRAIN_BATCH_SIZE_H

#include "heimdall/checkpoint.h"

/*
 * Where batch_size is 0 (auto), sets it to the largest power of two whose plan fits into nine tenths of the back end's
 * free memory and that is not above `samples`; says which. HD_E_MEMORY where not even one sample fits.
 */
hd_status hd_batch_size_resolve(
        hd_settings *settings, const hd_data_card *card, hd_backend *backend, int64_t samples, bool inference);

#endif
