/* SPDX-License-Identifier: Apache-2.0 */
/* A run and a small data set in a test's own folder. Include once per test program. */
#ifndef HD_TESTS_RUN_FOLDER_H
#define HD_TESTS_RUN_FOLDER_H

#include <math.h>
#include <string.h>

#include "heimdall/dataset.h"
#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/track/run.h"
#include "tests/folder.h"

#define RECORDING_SAMPLES 4000

static hd_run run;
static hd_settings settings;
static hd_backend *backend;
static hd_dataset dataset;
static char file_text[1 << 20]; /* of the last read_text */

static void start_run(void)
{
	start();
	cr_assert_eq(hd_run_create(&run, file_in("runs"), "experiment", "", "one"), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
}

static void stop_run(void)
{
	hd_dataset_close(&dataset);
	hd_backend_close(backend);
	hd_settings_free(&settings);
	hd_run_free(&run);
	stop();
}

static void set(const char *key, const char *value)
{
	cr_assert_eq(hd_settings_set(&settings, key, value, "test"), HD_OK, "%s", hd_error_text());
}

/* A file of the run's folder as a text. */
static const char *read_text(const char *name)
{
	char *path;
	const void *data;
	size_t bytes;
	cr_assert_eq(hd_run_path(&path, &run, name), HD_OK);
	cr_assert_eq(hd_file_map(&data, &bytes, path), HD_OK, "%s", hd_error_text());
	cr_assert_lt(bytes, sizeof file_text);
	if (bytes)
		memcpy(file_text, data, bytes);
	file_text[bytes] = 0;
	hd_file_unmap(data, bytes);
	free(path);
	return file_text;
}

/* A file below the test's folder. */
static void write_text(const char *name, const char *content)
{
	cr_assert_eq(
	        hd_file_write(file_in(name), &(hd_span){content, strlen(content)}, 1, 0), HD_OK, "%s", hd_error_text());
}

/* A tone in noise as a recording below the test's folder. */
static void write_recording(const char *name, int64_t samples, double tone)
{
	float *iq = calloc((size_t)(2 * samples), sizeof *iq);
	unsigned short state[3] = {1, 2, 3};
	for (int64_t i = 0; i < samples; i++) {
		double level = 0.4 * (1 + sin(tone * (double)i)), noise = 0.02 * erand48(state);
		iq[2 * i] = (float)(level + noise);
		iq[2 * i + 1] = (float)noise;
	}
	cr_assert_eq(hd_npy_write(file_in(name), "<c8", &samples, 1, iq, (size_t)(2 * samples) * sizeof *iq), HD_OK,
	        "%s", hd_error_text());
	free(iq);
}

/* Features of the settings' data set as small as they come. */
static void small_features(void)
{
	set("sample_rate", "12000");
	set("n_fft", "128");
	set("hop_length", "32");
	set("n_mels", "32");
	set("receivers", "all");
	set("assume_approved", "true");
}

static void open_data(void)
{
	hd_dataset_close(&dataset);
	dataset = (hd_dataset){0};
	cr_assert_eq(hd_dataset_open(&dataset, &settings, NULL), HD_OK, "%s", hd_error_text());
}

static void load_data(void)
{
	open_data();
	if (!backend)
		cr_assert_eq(hd_backend_open(&backend, "cpu", NULL, 1), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_dataset_load(&dataset, &settings, backend), HD_OK, "%s", hd_error_text());
}

#endif
