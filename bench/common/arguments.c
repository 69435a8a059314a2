/* SPDX-License-Identifier: Apache-2.0 */
/* Flags, lists of words, and the model that all benchmarks mean. */
#include "bench/common/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/checkpoint.h"
#include "heimdall/settings.h"
#include "host/train/precision.h"

#define LIBRARY "/libheimdall_cuda.so"
#define CHANNELS 3
#define HEIGHT 128
#define NUMBER_MOST 1e6

static hd_status usage(const hd_bench_flag *flags, size_t count, const char *program)
{
	char text[1024];
	size_t at = 0;
	for (size_t i = 0; i < count && at < sizeof text; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, " [%s %s]", flags[i].name, flags[i].help);
	return hd_fail(HD_E_USAGE, "usage: %s%s", program, text);
}

hd_status hd_bench_arguments(const hd_bench_flag *flags, size_t count, int argc, char **argv)
{
	for (int i = 1; i < argc; i += 2) {
		const hd_bench_flag *found = NULL;
		for (size_t f = 0; f < count; f++)
			found = strcmp(argv[i], flags[f].name) == 0 ? &flags[f] : found;
		if (!found || i + 1 == argc)
			return usage(flags, count, argv[0]);
		*found->text = argv[i + 1];
	}
	return HD_OK;
}

hd_status hd_bench_number(double *out, const char *flag, const char *text, double least)
{
	char *end;
	if (!text)
		return HD_OK;
	double value = strtod(text, &end);
	if (end == text || *end || !(value >= least))
		return hd_fail(HD_E_USAGE, "%s %s: give a number of at least %g", flag, text, least);
	*out = value;
	return HD_OK;
}

bool hd_bench_listed(const char *list, const char *word)
{
	size_t length = strlen(word);
	for (const char *p = list; p && *p;) {
		size_t own = strcspn(p, ",");
		if (own == length && !memcmp(p, word, length))
			return true;
		p += own + (p[own] == ',');
	}
	return !list;
}

int hd_bench_numbers(int *out, int room, const char *list)
{
	int count = 0;
	for (const char *p = list; *p && count < room;) {
		char *end;
		double value = strtod(p, &end);
		if (end == p || (*end && *end != ',') || !(value >= 1 && value <= NUMBER_MOST))
			return 0;
		out[count++] = (int)value;
		p = end + (*end == ',');
	}
	return count;
}

const char *hd_bench_dtype_name(hd_dtype dtype)
{
	return dtype == HD_BF16 ? "bf16" : dtype == HD_F16 ? "f16" : "f32";
}

hd_dtype hd_bench_precision_dtype(hd_precision precision)
{
	return precision == HD_PRECISION_BF16 ? HD_BF16 : precision == HD_PRECISION_F16 ? HD_F16 : HD_F32;
}

hd_status hd_bench_backend_open(hd_backend **out, const char *accelerator, int threads)
{
	char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof LIBRARY);
	for (int up = 0; up < 2 && length > 0; up++)
		for (length--; length > 0 && path[length] != '/'; length--)
			;
	if (length > 0 && !getenv("HEIMDALL_CUDA_LIBRARY")) {
		memcpy(path + length, LIBRARY, sizeof LIBRARY);
		if (access(path, R_OK) == 0)
			setenv("HEIMDALL_CUDA_LIBRARY", path, 0);
	}
	return hd_backend_open(out, accelerator, NULL, threads);
}

hd_status hd_bench_model(hd_model_config *out, const char *size, int batch, const char *precision, hd_backend *backend)
{
	hd_status st;
	hd_settings settings = {0};
	/* any bounds of sigma do: they cost nothing */
	const hd_data_card card = {.channels = CHANNELS,
	        .height = HEIGHT,
	        .frame = {.scale_m = 1},
	        .sigma_min_m = 0.001,
	        .sigma_max_m = 1};
	HD_TRY(hd_settings_init(&settings));
	HD_TRY(hd_settings_set(&settings, "backbone_size", size, "--models"));
	if (precision)
		HD_TRY(hd_settings_set(&settings, "precision", precision, "--precisions"));
	if (backend)
		HD_TRY(hd_precision_settle(&settings, backend));
	HD_TRY(hd_model_config_from(out, &settings, &card, batch));
	hd_precision_apply(out, &settings);
done:
	hd_settings_free(&settings);
	return st;
}
