/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics, schedule and order as pure functions; the program's own words where training or its input goes wrong. */
#include <math.h>

#include "heimdall/iq.h"
#include "host/common/statistics.h"
#include "host/train/batch.h"
#include "host/train/metrics.h"
#include "host/train/schedule.h"
#include "tests/program.h"

static void make_data(void)
{
	make_folder();
	cr_assert_eq(heimdall("synth --out $D/data --sessions 30 --sample_rate 48000 --samples 3968"), 0, "%s", text);
}

#define SMALL                                                                                                          \
	" --data_dir $D/data --checkpoint_dir $D/ck --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 "  \
	"--epochs 1 --warmup_epochs 0 --receivers all "

Test(metrics, quantiles_are_numpys)
{
	double v[] = {4, 1, 3, 2};
	cr_assert_float_eq(hd_quantile(v, 4, 0.5), 2.5, 1e-12);
	cr_assert_float_eq(hd_quantile(v, 4, 0.9), 3.7, 1e-12);
	cr_assert_float_eq(hd_quantile(v, 4, 1), 4, 0);
	cr_assert(isnan(hd_quantile(v, 0, 0.5)));
}

Test(metrics, of_known_errors)
{
	hd_prediction p[4] = {{0}};
	const double errors[] = {10, 40, 60, 200};
	hd_metrics m = {0};
	for (int i = 0; i < 4; i++) {
		p[i].error_m = errors[i];
		p[i].centre_error_m = 1000 * (i + 1);
		p[i].sigma_north_m = 50;
		p[i].sigma_east_m = 70;
	}
	cr_assert_eq(hd_metrics_compute(&m, p, 4), HD_OK);
	cr_assert_float_eq(m.mae_m, 77.5, 1e-9);
	cr_assert_float_eq(m.median_m, 50, 1e-9);
	cr_assert_float_eq(m.acc_30m, 0.25, 1e-9);
	cr_assert_float_eq(m.acc_50m, 0.5, 1e-9);
	cr_assert_float_eq(m.acc_100m, 0.75, 1e-9);
	cr_assert_float_eq(m.mean_sigma_m, 60, 1e-9);
	cr_assert_float_eq(m.calibration_error_m, 17.5, 1e-9);
	cr_assert_float_eq(m.centre_median_m, 2500, 1e-9);
}

Test(schedule, warms_up_and_falls_to_zero)
{
	cr_assert_float_eq(hd_schedule_lr(1e-3, true, 0, 10, 110), 1e-4, 1e-12);
	cr_assert_float_eq(hd_schedule_lr(1e-3, true, 9, 10, 110), 1e-3, 1e-12);
	cr_assert_float_eq(hd_schedule_lr(1e-3, true, 60, 10, 110), 5e-4, 1e-12);
	cr_assert_float_eq(hd_schedule_lr(1e-3, true, 110, 10, 110), 0, 1e-12);
	cr_assert_float_eq(hd_schedule_lr(1e-3, false, 109, 10, 110), 1e-3, 1e-12);
	cr_assert_float_eq(hd_schedule_lr(1e-3, true, 0, 0, 10), 1e-3, 1e-12);
}

Test(order, is_a_permutation_that_changes_with_the_epoch)
{
	enum { N = 50 };
	hd_sample rows[N] = {{0}};
	hd_samples samples = {.samples = rows, .count = N};
	int32_t first[N], again[N], next[N];
	bool seen[N] = {false};
	for (int i = 0; i < N; i++) {
		rows[i].key_hash = 1000u * (uint32_t)i;
		first[i] = i;
		again[i] = N - 1 - i;
		next[i] = i;
	}
	cr_assert_eq(hd_epoch_order(first, N, &samples, 7, 0), HD_OK);
	cr_assert_eq(hd_epoch_order(again, N, &samples, 7, 0), HD_OK);
	cr_assert_eq(hd_epoch_order(next, N, &samples, 7, 1), HD_OK);
	cr_assert(!memcmp(first, again, sizeof first), "the order depends on the one before");
	cr_assert(memcmp(first, next, sizeof first) != 0, "two epochs have one order");
	for (int i = 0; i < N; i++)
		seen[first[i]] = true;
	for (int i = 0; i < N; i++)
		cr_assert(seen[i], "sample %d is missing", i);
}

Test(program, trains_evaluates_predicts, .timeout = 120)
{
	make_data();
	cr_assert_eq(heimdall("train --dry_run" SMALL), 0, "%s", text);
	expect_text("samples");
	expect_text("s per step (measured)");
	cr_assert_neq(access(folder, F_OK), -1);
	cr_assert_eq(heimdall("train --json $D/result.json" SMALL), 0, "%s", text);
	expect_text("checkpoint_path");
	expect_text("median_m");
	cr_assert_eq(heimdall("eval --checkpoint $D/ck/best.safetensors --data_dir $D/data --split all --predictions "
	                      "$D/p.csv"),
	        0, "%s", text);
	expect_text("centre_median_m");
	/* predict on the recordings of one session gives what eval gave for it */
	cr_assert_eq(
	        heimdall(
	                "predict --checkpoint $D/ck/best.safetensors $D/data/sessions/s000003/websdr_?.npy > $D/one && "
	                "awk -F, -v p=\"$(cat $D/one)\" '$1 == \"s000003\" {split(p, a, \" \"); "
	                "d = ($6 - a[2])^2 + ($7 - a[4])^2; exit !(d < 1e-10)}' $D/p.csv"),
	        0, "%s", text);
	remove_data();
}

/* Overwrites one recording of session 2 with something that is none. */
static void spoil(void)
{
	char path[512];
	const int64_t shape[] = {3968};
	float *iq = calloc(2 * 3968, sizeof *iq);
	iq[77] = NAN;
	snprintf(path, sizeof path, "%s/data/sessions/s000002/websdr_1.npy", folder);
	cr_assert_eq(hd_npy_write(path, "<c8", shape, 1, iq, 2 * 3968 * sizeof *iq), HD_OK);
	free(iq);
	snprintf(path, sizeof path, "%s/data/sessions/s000002/websdr_2.npy", folder);
	FILE *f = fopen(path, "w");
	fputs("not a recording", f);
	fclose(f);
	snprintf(path, sizeof path, "%s/data/sessions/s000002/websdr_3.npy", folder);
	unlink(path);
}

Test(program, names_bad_recordings_and_goes_on, .timeout = 120)
{
	make_data();
	spoil();
	cr_assert_eq(heimdall("train" SMALL), 0, "%s", text);
	expect_text("sessions/s000002/websdr_1.npy: NaN or infinity among its samples");
	expect_text("sessions/s000002/websdr_2.npy: is no .npy file");
	expect_text("sessions/s000002/websdr_3.npy");
	expect_text("3 recordings could not be used");
	remove_data();
}

Test(program, stops_at_a_loss_that_is_not_finite, .timeout = 120)
{
	make_data();
	cr_assert_eq(heimdall("train --gradient_clip 0 --learning_rate 10 --weight_decay 10 --epochs 8" SMALL
	                      " --epochs 30"),
	        1, "%s", text);
	expect_text("is not finite in epoch");
	expect_text("sessions/s0000");
	/* the checkpoint of before is whole */
	cr_assert_eq(heimdall("train --resume_training --learning_rate 0.0001" SMALL
	                      " --epochs 1 --checkpoint $D/ck/last.safetensors"),
	        0, "%s", text);
	remove_data();
}

Test(program, lists_the_backbones)
{
	make_folder();
	cr_assert_eq(heimdall("train --list_backbones"), 0, "%s", text);
	static const char *const sizes[] = {"atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "xlarge",
	        "parameters", "GFLOP", "GB"};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		expect_text(sizes[i]);
	remove_data();
}

Test(program, exit_codes)
{
	make_data();
	cr_assert_eq(heimdall("--version"), 0);
	cr_assert_eq(heimdall("trian"), 2);
	expect_text("did you mean train?");
	cr_assert_eq(heimdall("export"), 2);
	expect_text("not part of version");
	cr_assert_eq(heimdall("train --learning_rat 1"), 2);
	expect_text("learning_rate");
	cr_assert_eq(heimdall("train --validation_split 0.6 --test_split 0.5"), 2);
	cr_assert_eq(heimdall("train --data_dir $D/nowhere"), 3);
	expect_text("no such catalogue");
	cr_assert_eq(heimdall("train --data_dir $D/data --accelerator gpu --sample_rate 48000"), 1);
	expect_text("no CUDA back end");
	cr_assert_eq(heimdall("train --data_dir $D/data"), 3); /* recorded at 48 kHz, not at the default rate */
	expect_text("recorded at 48000 Hz");
	cr_assert_eq(heimdall("eval --checkpoint $D/data/manifest.csv --data_dir $D/data"), 3);
	cr_assert_eq(heimdall("predict --checkpoint $D/nothing.safetensors x.npy"), 1);
	remove_data();
}
