/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics, schedule and order as pure functions; the program's own words where training or its input goes wrong. */
#include <math.h>

#include "heimdall/iq.h"
#include "host/common/statistics.h"
#include "host/train/batch.h"
#include "heimdall/metrics.h"
#include "host/train/lr_find.h"
#include "host/train/schedule.h"
#include "host/train/trainer.h"
#include "tests/program.h"

static void make_data(void)
{
	make_folder();
	cr_assert_eq(heimdall("synth --out $D/data --sessions 30 --sample_rate 48000 --samples 3968"), 0, "%s", text);
}

#define SMALL                                                                                                          \
	" --data_dir $D/data --checkpoint_dir $D/ck --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 "  \
	"--epochs 1 --warmup_epochs 0 --receivers all --backbone_size atto --no_export "

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

Test(metrics, expected_radius_of_two_sigmas)
{
	cr_assert_float_eq(hd_expected_radius(3, 3), 3 * sqrt(M_PI / 2), 1e-12);
	cr_assert_float_eq(hd_expected_radius(0, 2), 2 * sqrt(2 / M_PI), 1e-12);
	/* by the mean over all directions, sqrt(pi/2) * sqrt(a^2 cos^2 + b^2 sin^2) */
	double sum = 0;
	for (int i = 0; i < 100000; i++) {
		double angle = 2 * M_PI * i / 100000;
		sum += sqrt(M_PI / 2) * hypot(5 * cos(angle), 0.7 * sin(angle));
	}
	cr_assert_float_eq(hd_expected_radius(0.7, 5), sum / 100000, 1e-9);
}

Test(metrics, calibration_of_known_errors)
{
	hd_prediction p[2] = {
	        {.error_m = 5, .error_north_m = 3, .error_east_m = 4, .sigma_north_m = 3, .sigma_east_m = 4},
	        {.error_m = 10, .error_north_m = 6, .error_east_m = 8, .label_sigma_m = 2, .at_bound = true}};
	hd_metrics m = {0};
	p[1].sigma_north_m = p[1].sigma_east_m = sqrt(5); /* 3 with the label's 2 */
	cr_assert_eq(hd_metrics_compute(&m, p, 2), HD_OK);
	cr_assert_float_eq(m.z_variance, (1 + (4 + 64.0 / 9) / 2) / 2, 1e-12);
	cr_assert_float_eq(m.sigma_at_bound, 0.5, 1e-12);
	cr_assert_float_eq(m.expected_error_m, (hd_expected_radius(3, 4) + 3 * sqrt(M_PI / 2)) / 2, 1e-12);
	cr_assert_float_eq(m.expected_minus_observed_m, m.expected_error_m - 7.5, 1e-12);
}

/* A loss that falls from 1e-5 to 1e-2, fastest where its slope is steepest, under noise, and then explodes. */
Test(lr_find, takes_the_steepest_fall)
{
	hd_lr_find f = {.steps = 90};
	for (int i = 0; i < f.steps; i++) {
		double x = (i - 60) / 6.0, noise = 0.05 * sin(12.9898 * i * i);
		f.lr[i] = 1e-8 * pow(10, 0.08 * i);
		f.loss[i] = -1 / (1 + exp(-x)) + noise + (i > 80 ? (i - 80) * 1.0 : 0);
	}
	hd_lr_find_suggest(&f);
	cr_assert(f.suggestion >= f.lr[55] && f.suggestion <= f.lr[65], "%g, want about %g", f.suggestion, f.lr[60]);
	for (int i = 0; i < f.steps; i++)
		f.loss[i] = i;
	hd_lr_find_suggest(&f);
	cr_assert(isnan(f.suggestion), "%g from a loss that only rises", f.suggestion);
}

Test(every, steps_and_times)
{
	static const struct {
		const char *text;
		int64_t steps;
		double seconds;
	} good[] = {{"", 0, 0}, {"500", 500, 0}, {"30s", 0, 30}, {"10m", 0, 600}, {"1.5h", 0, 5400}};
	static const char *const bad[] = {"x", "1.5", "-3", "10 m", "10min", "m"};
	hd_every e;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		cr_assert_eq(hd_every_parse(&e, good[i].text), HD_OK, "%s: %s", good[i].text, hd_error_text());
		cr_assert(e.steps == good[i].steps && e.seconds == good[i].seconds, "%s: %ld steps, %g s", good[i].text,
		        (long)e.steps, e.seconds);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert_eq(hd_every_parse(&e, bad[i]), HD_E_USAGE, "%s", bad[i]);
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
	cr_assert_eq(heimdall("train --json $D/result.json" SMALL "--export"), 0, "%s", text);
	expect_text("checkpoint_path");
	expect_text("ck/model.onnx");
	expect_text("median_m");
	cr_assert_eq(shell("grep -q '\"onnx_path\": .*ck/model.onnx' $D/result.json && test -s $D/ck/model.onnx"), 0,
	        "no model was written");
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

Test(program, fast_dev_run_writes_nothing, .timeout = 120)
{
	make_data();
	cr_assert_eq(heimdall("train --fast_dev_run" SMALL), 0, "%s", text);
	expect_text("fast_dev_run writes nothing");
	expect_text("uncertainty_head");
	cr_assert_eq(shell("test ! -e $D/ck"), 0, "a checkpoint folder was made");
	remove_data();
}

/* A few samples are learned by heart: their error goes below 1 % of the area's extent. */
Test(program, overfits_two_batches, .timeout = 300)
{
	make_data();
	cr_assert_eq(
	        heimdall("train --json $D/r.json" SMALL "--overfit_batches 2 --batch_size 4 --epochs 80 --no-progress"),
	        0, "%s", text);
	expect_text("these samples are validated on too");
	double extent_m = NAN, error_m = NAN;
	const char *unit = strstr(text, "unit "), *mae = strstr(text, "\n  mae_m");
	cr_assert(unit && mae && sscanf(unit, "unit %lf m", &extent_m) == 1 && sscanf(mae, " mae_m %lf", &error_m) == 1,
	        "no figures in:\n%s", text);
	extent_m *= 2; /* the unit is half the larger side */
	cr_assert(error_m < 0.01 * extent_m, "mean error %.0f m of an area of %.0f m", error_m, extent_m);
	remove_data();
}

Test(program, batch_size_auto, .timeout = 120)
{
	make_data();
	cr_assert_eq(heimdall("train --dry_run --data_dir $D/data --sample_rate 48000 --n_fft 512 --hop_length 128 "
	                      "--backbone_size atto --batch_size auto"),
	        0, "%s", text);
	expect_text("batch_size auto: 16, of at most"); /* a power of two, not above 30 samples */
	remove_data();
}

Test(program, suggests_a_learning_rate, .timeout = 300)
{
	make_data();
	cr_assert_eq(heimdall("train --lr_find" SMALL), 0, "%s", text);
	expect_text("suggestion");
	cr_assert_eq(shell("test -s $D/ck/lr_find.png && test $(wc -l < $D/ck/lr_find.csv) -gt 20 && "
	                   "test ! -e $D/ck/last.safetensors"),
	        0, "%s", text);
	remove_data();
}

/* With the heads alone in training the backbone stays as it was; its part of the checkpoint is what it began with. */
Test(program, freezes_the_backbone, .timeout = 120)
{
	make_data();
	cr_assert_eq(heimdall("train --learning_rate 0" SMALL "--checkpoint_dir $D/before"), 0, "%s", text);
	cr_assert_eq(heimdall("train --freeze_backbone --loss beta-nll --label_sigma_m 30" SMALL), 0, "%s", text);
	expect_text("1880960 frozen");
	char path[2][512];
	hd_safetensors file[2];
	snprintf(path[0], sizeof path[0], "%s/before/last.safetensors", folder);
	snprintf(path[1], sizeof path[1], "%s/ck/last.safetensors", folder);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(hd_safetensors_open(&file[i], path[i], true), HD_OK, "%s", hd_error_text());
	const char *const same[] = {"stem.0.weight", "stages.3.blocks.1.mlp.fc2.weight", "head.norm.bias"};
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		const hd_tensor *a = hd_safetensors_find(&file[0], same[i]),
		                *b = hd_safetensors_find(&file[1], same[i]);
		cr_assert_arr_eq(a->data, b->data, a->bytes, "%s", same[i]);
	}
	const hd_tensor *a = hd_safetensors_find(&file[0], "position_head.fc1.weight"),
	                *b = hd_safetensors_find(&file[1], "position_head.fc1.weight");
	cr_assert(memcmp(a->data, b->data, a->bytes) != 0, "the heads have not moved");
	cr_assert_null(hd_safetensors_find(&file[1], "exp_avg.stem.0.weight"), "moments of a frozen backbone");
	for (int i = 0; i < 2; i++)
		hd_safetensors_close(&file[i]);
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
	cr_assert_eq(heimdall("grid"), 2);
	expect_text("not part of version");
	cr_assert_eq(heimdall("export"), 2);
	expect_text("--checkpoint");
	cr_assert_eq(heimdall("export --checkpoint $D/nothing.safetensors --opset 21"), 2);
	expect_text("14 .. 20");
	cr_assert_eq(heimdall("train --export_only --checkpoint_dir $D/nowhere"), 1);
	expect_text("nowhere/best.safetensors");
	cr_assert_eq(heimdall("train --learning_rat 1"), 2);
	expect_text("learning_rate");
	cr_assert_eq(heimdall("train --validation_split 0.6 --test_split 0.5"), 2);
	cr_assert_eq(heimdall("train --data_dir $D/data --pretrained convnext_large"), 3);
	expect_text("hub/checkpoints");
	cr_assert_eq(heimdall("train --data_dir $D/data --head_widths 128,x"), 2, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/nowhere"), 3);
	expect_text("no such catalogue");
	cr_assert_eq(shell("HEIMDALL_CUDA_LIBRARY=$D/none \"$H\" train --data_dir $D/data --accelerator gpu "
	                   "--sample_rate 48000"),
	        1);
	expect_text("/none is not there");
	cr_assert_eq(heimdall("train --data_dir $D/data"), 3); /* recorded at 48 kHz, not at the default rate */
	expect_text("recorded at 48000 Hz");
	cr_assert_eq(heimdall("eval --checkpoint $D/data/manifest.csv --data_dir $D/data"), 3);
	cr_assert_eq(heimdall("predict --checkpoint $D/nothing.safetensors x.npy"), 1);
	remove_data();
}
