/* SPDX-License-Identifier: Apache-2.0 */
/* Flags of the benchmark programs, "--name value" each, and what several of them take. Pure but for reading argv. */
#ifndef HD_BENCH_ARGUMENTS_H
#define HD_BENCH_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "heimdall/model.h"

typedef struct hd_bench_flag {
	const char *name;  /* with its dashes */
	const char **text; /* gets a pointer into argv */
	const char *help;  /* "FILE", "cpu|gpu|auto" */
} hd_bench_flag;

/* HD_E_USAGE with all flags in the text for one that is not known or lacks its value, and for --help. */
hd_status hd_bench_arguments(const hd_bench_flag *flags, size_t count, int argc, char **argv);

/* A number, HD_E_USAGE where it is none or below `least`; text NULL leaves *out. */
hd_status hd_bench_number(double *out, const char *flag, const char *text, double least);

/* Whether a word stands in a list with commas between; list NULL: yes. */
bool hd_bench_listed(const char *list, const char *word);

/* Numbers of such a list, at most `room`; their count, 0 where one is no positive number. */
int hd_bench_numbers(int *out, int room, const char *list);

/* "f32", "bf16", "f16". */
const char *hd_bench_dtype_name(hd_dtype dtype);

/* Of maps. */
hd_dtype hd_bench_precision_dtype(hd_precision precision);

/*
 * hd_backend_open, which finds the GPU back end of the build that the running program is of: the folder above it. What
 * HEIMDALL_CUDA_LIBRARY names goes first.
 */
hd_status hd_bench_backend_open(hd_backend **out, const char *accelerator, int threads);

/*
 * The model that `train --backbone_size SIZE --batch_size BATCH` makes of (3,128,32) inputs. precision: value of the
 * setting `precision`, NULL for its default; HD_E_USAGE where there is no such value. With a back end it becomes what
 * training on it computes in (host/train/precision.h); backend NULL: what is asked for, auto as 32.
 */
hd_status hd_bench_model(hd_model_config *out, const char *size, int batch, const char *precision, hd_backend *backend);

#endif
