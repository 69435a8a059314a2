/* SPDX-License-Identifier: Apache-2.0 */
/* Models to publish, made in a moment: random weights, metrics that nobody measured. Include once per test program. */
#ifndef HD_TESTS_PUBLISHED_H
#define HD_TESTS_PUBLISHED_H

#include <criterion/criterion.h>
#include <sys/stat.h>

#include "host/common/sha256.h"
#include "host/export/write.h"
#include "host/model/data_card.h"
#include "tests/random_model.h"

/* The ONNX model of a checkpoint. median_m: of the validation split; negative: never evaluated. of: what it says it was
 * written from. more: settings beside those of a random model. */
static inline void export_model(const char *onnx, const char *checkpoint, const char *of, double median_m,
        const char *const (*more)[2], size_t count)
{
	char sha256[HD_SHA256_HEX_BYTES];
	hd_settings settings;
	hd_checkpoint c;
	hd_onnx_form form;
	hd_metrics metrics = {.samples = 12, .median_m = median_m, .mae_m = 1.25 * median_m, .z_variance = 1.1};
	cr_assert_eq(hd_checkpoint_open(&c, checkpoint), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_sha256_file(sha256, of), HD_OK);
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	for (size_t i = 0; i < count; i++) {
		cr_assert_eq(hd_settings_set(&settings, more[i][0], more[i][1], "test"), HD_OK, "%s", hd_error_text());
		cr_assert_eq(hd_settings_set(&c.settings, more[i][0], more[i][1], "test"), HD_OK);
	}
	cr_assert_eq(hd_onnx_form_from(&form, &settings), HD_OK);
	cr_assert_eq(hd_onnx_model_write(onnx, &c, &form, median_m < 0 ? NULL : &metrics, sha256), HD_OK, "%s",
	        hd_error_text());
	hd_settings_free(&settings);
	hd_checkpoint_close(&c);
}

/* FOLDER/best.safetensors and its model.onnx. */
static inline void make_model(const char *model_folder, double median_m, const char *const (*more)[2], size_t count)
{
	char checkpoint[512], onnx[512];
	mkdir(model_folder, 0755);
	snprintf(checkpoint, sizeof checkpoint, "%s/best.safetensors", model_folder);
	snprintf(onnx, sizeof onnx, "%s/model.onnx", model_folder);
	save_random_model(checkpoint, "atto", NULL);
	export_model(onnx, checkpoint, checkpoint, median_m, more, count);
}

/*
 * A model of a few kilobytes that says of itself what others say, and whose answers are of no use. key: a setting that
 * is another one (value), or NULL.
 */
static inline void make_tiny_model(const char *path, double median_m, const char *key, const char *value)
{
	hd_onnx *g;
	hd_settings settings;
	hd_data_card card = random_card();
	char *yaml, *card_json, metrics[128];
	const hd_onnx_dim batch = {.name = "batch"}, two = {.size = 2};
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "n_mels", "32", "test"), HD_OK);
	if (key)
		cr_assert_eq(hd_settings_set(&settings, key, value, "test"), HD_OK);
	cr_assert_eq(hd_settings_dump(&settings, &yaml), HD_OK);
	cr_assert_eq(hd_data_card_write(&card_json, &card), HD_OK);
	cr_assert_eq(hd_onnx_create(&g, 17, "heimdall"), HD_OK);
	hd_onnx_value x = hd_onnx_input(g, "features", HD_ONNX_F32, 4,
	        (hd_onnx_dim[]){batch, {.size = CHANNELS}, {.size = MELS}, {.size = FRAMES}});
	hd_onnx_value flat = HD_ONNX_NODE(g, "Flatten", x);
	hd_onnx_value first = HD_ONNX_NODE(g, "Gather", flat, hd_onnx_i64s(g, 2, (const int64_t[]){0, 1}));
	hd_onnx_attr_int(g, "axis", 1);
	hd_onnx_output(g, first, "positions", HD_ONNX_F32, 2, (hd_onnx_dim[]){batch, two});
	hd_onnx_output(g, HD_ONNX_NODE(g, "Exp", first), "uncertainties", HD_ONNX_F32, 2, (hd_onnx_dim[]){batch, two});
	snprintf(metrics, sizeof metrics, "{\"val/median_m\": %.17g, \"val/mae_m\": %.17g}", median_m, 1.25 * median_m);
	const char *const entries[][2] = {{HD_ONNX_KEY_FORMAT, HD_ONNX_FORMAT}, {HD_ONNX_KEY_CONFIG, yaml},
	        {HD_ONNX_KEY_CARD, card_json}, {HD_ONNX_KEY_INPUT, "features"},
	        {HD_ONNX_KEY_OUTPUTS,
	                hd_onnx_outputs_names[settings.raw_outputs ? HD_ONNX_OUTPUTS_RAW : HD_ONNX_OUTPUTS_POSITIONS]},
	        {HD_ONNX_KEY_METRICS, metrics}};
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
		hd_onnx_metadata(g, entries[i][0], entries[i][1]);
	cr_assert_eq(hd_onnx_write(g, path, HD_ONNX_EXTERNAL_AUTO), HD_OK, "%s", hd_error_text());
	hd_onnx_free(g);
	free(card_json);
	free(yaml);
	hd_settings_free(&settings);
}

#endif
