/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of models with random weights. Include once per test program. */
#ifndef HD_TESTS_RANDOM_MODEL_H
#define HD_TESTS_RANDOM_MODEL_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "heimdall/checkpoint.h"
#include "tests/random_weights.h"

enum { MELS = 32, FRAMES = 32, CHANNELS = 3 };

/* ---- a model ---- */

static inline hd_data_card random_card(void)
{
	static char receivers[] = "a,b,c";
	static float mean[MELS], rstd[MELS];
	for (int m = 0; m < MELS; m++) {
		mean[m] = (float)uniform(-70, -50);
		rstd[m] = (float)uniform(0.05, 0.15);
	}
	return (hd_data_card){.receivers = receivers,
	        .channels = CHANNELS,
	        .frame = {.origin_latitude_deg = 52.1, .origin_longitude_deg = 13.4, .scale_m = 250000},
	        .centre_latitude_deg = 52,
	        .centre_longitude_deg = 13,
	        .sigma_min_m = 500,
	        .sigma_max_m = 400000,
	        .height = MELS,
	        .mean = mean,
	        .rstd = rstd};
}

/* Changes the weights of one parameter, in the order of the file. */
typedef void (*weight_edit)(const hd_parameter *p, float *values);

/* A model of a backbone's size on inputs of CHANNELS x MELS x FRAMES; edit may be NULL. */
static inline void save_random_model(const char *path, const char *size, weight_edit edit)
{
	hd_settings settings;
	hd_backend *backend = NULL;
	hd_model *model = NULL;
	hd_model_config config;
	hd_data_card card = random_card();
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "backbone_size", size, "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "n_mels", "32", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "frames", "32", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "pretrained", "none", "test"), HD_OK);
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 0), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_config_from(&config, &settings, &card, 1), HD_OK, "%s", hd_error_text());
	config.inference = true;
	cr_assert_eq(hd_model_create(&model, backend, &config), HD_OK, "%s", hd_error_text());
	int count;
	const hd_parameter *p = hd_model_parameters(model, &count);
	for (int i = 0; i < count; i++) {
		float *values = calloc((size_t)p[i].size, sizeof *values);
		for (int64_t k = 0; k < p[i].size; k++)
			values[k] = (float)random_weight(&p[i]);
		if (edit)
			edit(&p[i], values);
		cr_assert_eq(hd_model_write(model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		free(values);
	}
	cr_assert_eq(
	        hd_checkpoint_save(path, model, backend, &settings, &card, &(hd_train_state){.best_loss = 0}, false),
	        HD_OK, "%s", hd_error_text());
	hd_model_free(model);
	hd_backend_close(backend);
	hd_settings_free(&settings);
}

#endif
