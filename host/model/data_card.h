/* SPDX-License-Identifier: Apache-2.0 */
/* The data card as JSON, as checkpoints and exported models carry it. */
#ifndef HD_MODEL_DATA_CARD_H
#define HD_MODEL_DATA_CARD_H

#include "heimdall/checkpoint.h"

/* One line of JSON, new text. */
hd_status hd_data_card_write(char **out, const hd_data_card *card);

/* HD_E_DATA with "metadata 'KEY': " and the reason where it is no card; *out is free then. */
hd_status hd_data_card_read(hd_data_card *out, const char *json, const char *key);

#endif
