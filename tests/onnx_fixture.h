/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint of random weights that matter, and models made of it, right and wrong. Include once per test program. */
#ifndef HD_TESTS_ONNX_FIXTURE_H
#define HD_TESTS_ONNX_FIXTURE_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "heimdall/checkpoint.h"
#include "host/export/network.h"
#include "host/export/onnx_model.h"
#include "host/model/data_card.h"
#include "kernels/philox.h"

enum { MELS = 64, FRAMES = 32, CHANNELS = 3 };

/* What is wrong with a model. */
typedef enum fault {
	NO_FAULT,
	ONE_CONSTANT, /* the mean of one band is 1 dB off */
	AXES_SWAPPED, /* east before north */
	CHANNELS_SWAPPED,
	NO_NUMBER,    /* NaN where north is negative */
	SIGMA_SCALED, /* by 1.001 */
	NO_CONFIG,    /* the metadata lack 'heimdall.config' */
	OTHER_FORMAT,
	OTHER_OUTPUTS, /* the metadata promise other outputs */
	FIXED_ROWS     /* runs take 4 rows; no fault */
} fault;

/* Uniform in [lo, hi). */
static inline double draw(double lo, double hi, uint32_t tensor, uint32_t index)
{
	uint32_t words[4];
	hd_philox(words, (const uint32_t[4]){index, tensor, 0, 0}, (const uint32_t[2]){7, 7});
	return lo + (hi - lo) * (double)words[0] * 0x1p-32;
}

/* A new model's layer scale of 1e-6 and zero biases would hide most of the network. */
static inline void randomize(hd_model *model)
{
	int count;
	const hd_parameter *p = hd_model_parameters(model, &count);
	for (int i = 0; i < count; i++) {
		float *values = calloc((size_t)p[i].size, sizeof *values);
		double wide = p[i].ndim > 1 ? sqrt(3.0 * (double)p[i].shape[0] / (double)p[i].size) : 0.4;
		for (int64_t k = 0; k < p[i].size; k++)
			values[k] = (float)draw(-wide, wide, (uint32_t)i, (uint32_t)k);
		/* factors of norms, variances of batch norms */
		for (int64_t k = 0; p[i].ndim == 1 && (strstr(p[i].name, "norm") || strstr(p[i].name, "stem.1")) &&
		                    (strstr(p[i].name, "weight") || strstr(p[i].name, "var")) && k < p[i].size;
		        k++)
			values[k] = 1 + 0.5f * values[k];
		cr_assert_eq(hd_model_write(model, HD_FLAT_WEIGHTS, i, values), HD_OK);
		free(values);
	}
}

/* Writes a checkpoint: atto, MELS x FRAMES x CHANNELS, 120 km around 44.9 N 8.2 E. */
static inline void write_checkpoint(const char *path, const char *const (*more)[2], size_t more_count)
{
	static float mean[MELS], rstd[MELS], offset[CHANNELS] = {3, -2, -1};
	static const char *const basic[][2] = {{"backbone_size", "atto"}, {"n_mels", "64"}, {"sample_rate", "48000"},
	        {"n_fft", "512"}, {"hop_length", "128"}};
	hd_backend *backend;
	hd_settings settings;
	hd_model_config config;
	hd_model *model;
	hd_train_state state = {0};
	for (int m = 0; m < MELS; m++) {
		mean[m] = (float)draw(-75, -45, 1000, (uint32_t)m);
		rstd[m] = m == 9 ? 0 : (float)draw(0.06, 0.2, 1001, (uint32_t)m);
	}
	const hd_data_card card = {.receivers = (char *)"a,b,c",
	        .channels = CHANNELS,
	        .frame = {44.9, 8.2, 120000},
	        .centre_latitude_deg = 45,
	        .centre_longitude_deg = 8,
	        .sigma_min_m = 100,
	        .sigma_max_m = 240000,
	        .height = MELS,
	        .mean = mean,
	        .rstd = rstd,
	        .offset = offset};
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	for (size_t i = 0; i < sizeof basic / sizeof *basic; i++)
		cr_assert_eq(hd_settings_set(&settings, basic[i][0], basic[i][1], "test"), HD_OK);
	for (size_t i = 0; i < more_count; i++)
		cr_assert_eq(hd_settings_set(&settings, more[i][0], more[i][1], "test"), HD_OK);
	cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 0), HD_OK);
	cr_assert_eq(hd_model_config_from(&config, &settings, &card, 1), HD_OK, "%s", hd_error_text());
	config.inference = true;
	cr_assert_eq(hd_model_create(&model, backend, &config), HD_OK, "%s", hd_error_text());
	randomize(model);
	cr_assert_eq(hd_checkpoint_save(path, model, backend, &settings, &card, &state, false), HD_OK, "%s",
	        hd_error_text());
	hd_model_free(model);
	hd_settings_free(&settings);
	hd_backend_close(backend);
}

static inline hd_onnx_value take_columns(hd_onnx *g, hd_onnx_value v, int count, const int64_t *order)
{
	v = HD_ONNX_NODE(g, "Gather", v, hd_onnx_i64s(g, count, order));
	hd_onnx_attr_int(g, "axis", 1);
	return v;
}

static inline hd_onnx_value break_mu(hd_onnx *g, hd_onnx_value mu, fault what)
{
	if (what == AXES_SWAPPED)
		return take_columns(g, mu, 2, (const int64_t[]){1, 0});
	if (what == NO_NUMBER)
		return HD_ONNX_NODE(
		        g, "Add", mu, HD_ONNX_NODE(g, "Mul", hd_onnx_f32(g, 0), HD_ONNX_NODE(g, "Log", mu)));
	return mu;
}

static inline void write_metadata(hd_onnx *g, const hd_checkpoint *c, hd_onnx_outputs outputs, fault what)
{
	char *yaml, *card;
	cr_assert_eq(hd_settings_dump(&c->settings, &yaml), HD_OK);
	cr_assert_eq(hd_data_card_write(&card, &c->card), HD_OK);
	if (what != NO_CONFIG)
		hd_onnx_metadata(g, HD_ONNX_KEY_CONFIG, yaml);
	hd_onnx_metadata(g, HD_ONNX_KEY_CARD, card);
	hd_onnx_metadata(g, HD_ONNX_KEY_FORMAT, what == OTHER_FORMAT ? "2" : HD_ONNX_FORMAT);
	hd_onnx_metadata(g, HD_ONNX_KEY_INPUT, "features");
	if (what == OTHER_OUTPUTS)
		outputs = outputs == HD_ONNX_OUTPUTS_COMBINED ? HD_ONNX_OUTPUTS_RAW : HD_ONNX_OUTPUTS_COMBINED;
	hd_onnx_metadata(g, HD_ONNX_KEY_OUTPUTS, hd_onnx_outputs_names[outputs]);
	free(card);
	free(yaml);
}

static inline void write_model(const char *path, const hd_checkpoint *checkpoint, hd_onnx_outputs outputs, fault what)
{
	hd_onnx *g;
	hd_checkpoint source = *checkpoint;
	float mean[MELS];
	int64_t rows = what == FIXED_ROWS ? 4 : -1;
	const char *N = what == FIXED_ROWS ? NULL : "N";
	hd_onnx_value mu, sigma;
	if (what == ONE_CONSTANT) {
		memcpy(mean, checkpoint->card.mean, sizeof mean);
		mean[20] += 1;
		source.card.mean = mean;
	}
	cr_assert_eq(hd_onnx_create(&g, 17, "test"), HD_OK);
	hd_onnx_value features = hd_onnx_input(g, "features", HD_ONNX_F32, 4,
	        (const hd_onnx_dim[]){
	                {rows, N}, {checkpoint->card.channels, NULL}, {checkpoint->card.height, NULL}, {FRAMES, NULL}});
	if (what == CHANNELS_SWAPPED)
		features = take_columns(g, features, CHANNELS, (const int64_t[]){1, 0, 2});
	cr_assert_eq(
	        hd_export_network(g, &source, HD_ONNX_FP32, NULL, features, &mu, &sigma), HD_OK, "%s", hd_error_text());
	mu = break_mu(g, mu, what);
	if (what == SIGMA_SCALED)
		sigma = HD_ONNX_NODE(g, "Mul", sigma, hd_onnx_f32(g, 1.001f));
	if (outputs != HD_ONNX_OUTPUTS_RAW)
		hd_export_positions(g, &source.card.frame, mu, sigma, &mu, &sigma);
	if (outputs == HD_ONNX_OUTPUTS_COMBINED) {
		hd_onnx_value all = HD_ONNX_NODE(g, "Concat", mu, sigma);
		hd_onnx_attr_int(g, "axis", 1);
		hd_onnx_output(g, all, "combined", HD_ONNX_F32, 2, (const hd_onnx_dim[]){{rows, N}, {4, NULL}});
	} else {
		hd_onnx_output(g, mu, "positions", HD_ONNX_F32, 2, (const hd_onnx_dim[]){{rows, N}, {2, NULL}});
		hd_onnx_output(g, sigma, "uncertainties", HD_ONNX_F32, 2, (const hd_onnx_dim[]){{rows, N}, {2, NULL}});
	}
	write_metadata(g, checkpoint, outputs, what);
	cr_assert_eq(hd_onnx_write(g, path, HD_ONNX_EXTERNAL_AUTO), HD_OK, "%s", hd_error_text());
	hd_onnx_free(g);
}

#endif
