/* SPDX-License-Identifier: Apache-2.0 */
/* The program on the kinds of recordings and catalogues that there are: layouts, rates, lengths, receivers. */
#include "tests/same_weights.h"

#define SMALL                                                                                                          \
	" --n_fft 512 --hop_length 128 --batch_size 8 --epochs 1 --warmup_epochs 0 --no-progress --backbone_size "     \
	"atto --no_export "
#define DCF77 "../shared/data/dcf77"

static void synth(const char *arguments)
{
	char command[512];
	snprintf(command, sizeof command, "synth --out $D/data --sample_rate 48000 --no-progress %s", arguments);
	make_folder();
	cr_assert_eq(heimdall(command), 0, "%s", text);
}

/* One catalogue, with a receiver missing now and then, as folder, SQLite and in the original's layout. */
Test(recordings, three_layouts_train_the_same_model, .timeout = 240)
{
	static const char *const formats[] = {"folder", "sqlite", "original"};
	char command[1024];
	synth("--sessions 40 --samples 3968");
	cr_assert_eq(shell("sed -i '/^3,\\|^25,\\|^100,/d' $D/data/manifest.csv"), 0, "%s", text);
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --checkpoint_dir $D/ck --receivers all --sample_rate 48000" SMALL),
	        0, "%s", text);
	expect_text("277 recordings");
	for (size_t i = 0; i < 3; i++) {
		snprintf(command, sizeof command,
		        "catalog export $D/data --format %s --out $D/%s --receivers all --sample_rate 48000",
		        formats[i], formats[i]);
		cr_assert_eq(heimdall(command), 0, "%s", text);
		snprintf(command, sizeof command,
		        "train --data_dir $D/%s --checkpoint_dir $D/ck_%s --receivers all --sample_rate 48000" SMALL,
		        formats[i], formats[i]);
		cr_assert_eq(heimdall(command), 0, "%s", text);
		snprintf(command, sizeof command, "ck_%s", formats[i]);
		expect_same_weights("ck", command);
		/* all but the seconds, the last column */
		snprintf(command, sizeof command,
		        "sed 's/,[^,]*$//' $D/ck/metrics.csv > $D/a; sed 's/,[^,]*$//' $D/ck_%s/metrics.csv | cmp - "
		        "$D/a",
		        formats[i]);
		cr_assert_eq(shell(command), 0, "%s: metrics differ: %s", formats[i], text);
	}
	remove_data();
}

/* Named by URLs the same files give the same model, and one that is not there is named. */
Test(recordings, files_named_by_urls, .timeout = 240)
{
	synth("--sessions 20 --samples 3968");
	cr_assert_eq(shell("rm $D/data/sessions/s000002/websdr_3.npy && mkdir $D/urls && "
	                   "sed \"s#,sessions/#,file://$(realpath $D/data)/sessions/#\" $D/data/manifest.csv > "
	                   "$D/urls/manifest.csv && grep -q file:// $D/urls/manifest.csv"),
	        0, "%s", text);
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --checkpoint_dir $D/ck --sample_rate 48000" SMALL), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/urls --checkpoint_dir $D/ck_urls --sample_rate 48000" SMALL), 0,
	        "%s", text);
	expect_text("s000002/websdr_3.npy: No such file");
	expect_same_weights("ck", "ck_urls");
	remove_data();
}

Test(recordings, receivers_used_and_what_that_keeps_are_named, .timeout = 120)
{
	synth("--sessions 30 --samples 3968");
	/* the last sessions are heard by receivers 6 and 7 alone */
	cr_assert_eq(shell("awk -F, 'NR == 1 || !($2 >= \"s000025\" && $4 < 6)' $D/data/manifest.csv > $D/m && "
	                   "mv $D/m $D/data/manifest.csv"),
	        0, "%s", text);
	cr_assert_eq(heimdall("train --dry_run --data_dir $D/data --sample_rate 48000 --receivers 1,2,3" SMALL), 0,
	        "%s", text);
	expect_text("receivers 3 of 7: 1, 2, 3");
	expect_text("that keeps 24 of 30 sessions (80.0 %); --receivers all takes every receiver");
	cr_assert_eq(heimdall("train --dry_run --data_dir $D/data --sample_rate 48000" SMALL), 0, "%s", text);
	expect_text("receivers 3 of 7: 1, 6, 7");
	cr_assert_eq(heimdall("train --dry_run --data_dir $D/data --sample_rate 48000 --receivers all" SMALL), 0, "%s",
	        text);
	expect_text("receivers 7 of 7: 1, 2, 3, 4, 5, 6, 7");
	remove_data();
}

Test(recordings, other_rates_are_refused_with_their_number_or_resampled, .timeout = 240)
{
	synth("--sessions 30 --samples 3968");
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --sample_rate 44100 --checkpoint_dir $D/ck" SMALL), 3, "%s", text);
	expect_text("210: sample rate differs");
	expect_text("--resample 44100");
	cr_assert_eq(heimdall("train --data_dir $D/data --resample 44100 --checkpoint_dir $D/ck" SMALL), 0, "%s", text);
	/* the model's own rate, then the one the data have */
	cr_assert_eq(
	        heimdall("eval --checkpoint $D/ck/best.safetensors --data_dir $D/data --split all"), 0, "%s", text);
	expect_text("median_m");
	cr_assert_eq(heimdall("train --data_dir $D/data --sample_rate 48000 --resample 44100"), 2, "%s", text);
	remove_data();
}

/* Windows of long recordings: drawn in training, fused in evaluation and prediction, which agree. */
Test(recordings, long_ones_are_windowed_and_fused, .timeout = 240)
{
	synth("--sessions 24 --samples 15872");
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --sample_rate 48000 --frame_mode windows --windows 3 --shift_max 0 "
	                 "--checkpoint_dir $D/ck" SMALL),
	        0, "%s", text);
	cr_assert_eq(heimdall("eval --checkpoint $D/ck/best.safetensors --data_dir $D/data --split all --predictions "
	                      "$D/p.csv"),
	        0, "%s", text);
	cr_assert_eq(shell("\"$H\" predict --windows 3 --checkpoint $D/ck/best.safetensors "
	                   "$D/data/sessions/s000003/websdr_[123].npy > $D/one && "
	                   "awk -F, -v p=\"$(cat $D/one)\" '$1 == \"s000003\" {split(p, a, \" \"); "
	                   "d = ($6 - a[2])^2 + ($7 - a[4])^2 + ($9 - a[6])^2; exit !(d < 1)}' $D/p.csv"),
	        0, "%s", text);
	/* by itself it takes as many windows as lie side by side */
	cr_assert_eq(heimdall("predict --checkpoint $D/ck/best.safetensors $D/data/sessions/s000003/websdr_[123].npy"),
	        0, "%s", text);
	expect_text("windows 3");
	cr_assert_eq(heimdall("predict --windows 1 --checkpoint $D/ck/best.safetensors none "
	                      "$D/data/sessions/s000003/websdr_2.npy"),
	        0, "%s", text);
	expect_text("windows 1");
	remove_data();
}

Test(recordings, short_ones_are_reflected_or_refused, .timeout = 120)
{
	synth("--sessions 24 --samples 1000");
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --sample_rate 48000 --checkpoint_dir $D/ck" SMALL), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/data --sample_rate 48000 --checkpoint_dir $D/ck2 --short_recordings "
	                      "refuse" SMALL),
	        3, "%s", text);
	expect_text("too short: ");
	expect_text("1000 samples give 9 frames, one input is 32");
	remove_data();
}

Test(recordings, standard_input_is_a_recording, .timeout = 120)
{
	synth("--sessions 24 --samples 3968");
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --sample_rate 48000 --receivers 1 --checkpoint_dir $D/ck" SMALL), 0,
	        "%s", text);
	cr_assert_eq(
	        shell("F=$D/data/sessions/s000003/websdr_1.npy; C=$D/ck/best.safetensors; "
	              "\"$H\" predict --checkpoint $C $F > $D/a && \"$H\" predict --checkpoint $C - < $F > $D/b && "
	              /* the same samples without their header */
	              "tail -c 15872 $F | \"$H\" predict --checkpoint $C --iq_format cs16 - > $D/c && cmp $D/a $D/b && "
	              "cmp $D/a $D/c && cat $D/a"),
	        0, "%s", text);
	expect_text("latitude ");
	cr_assert_eq(heimdall("predict --checkpoint $D/ck/best.safetensors - < /dev/null"), 3, "%s", text);
	remove_data();
}

Test(recordings, filters_features_offsets_and_pretrained_weights, .timeout = 240)
{
	synth("--sessions 40 --samples 3968");
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --sample_rate 48000 --where \"receiver in (2, 4, 6) and session >= "
	                 "'s000005'\" --checkpoint_dir $D/ck" SMALL),
	        0, "%s", text);
	expect_text("receivers 3 of 3: 2, 4, 6");
	expect_text("left out by --where");
	cr_assert_eq(
	        heimdall("train --data_dir $D/data --sample_rate 48000 --feature mfcc --checkpoint_dir $D/mfcc" SMALL),
	        0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/data --sample_rate 48000 --feature mfcc --level_jitter 1" SMALL), 2,
	        "%s", text);
	cr_assert_eq(heimdall("eval --checkpoint $D/mfcc/best.safetensors --data_dir $D/data"), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/data --sample_rate 48000 --gain_offsets --receivers 2,4,6 "
	                      "--checkpoint_dir $D/gain" SMALL),
	        0, "%s", text);
	cr_assert_eq(heimdall("eval --checkpoint $D/gain/best.safetensors --data_dir $D/data"), 0, "%s", text);
	/* no step is taken with a learning rate of 0: the weights are those it started from */
	cr_assert_eq(heimdall("train --data_dir $D/data --pretrained $D/gain/best.safetensors --learning_rate 0 "
	                      "--epochs 1 --warmup_epochs 0 --checkpoint_dir $D/tuned"),
	        0, "%s", text);
	expect_text("receivers 3 of 7: 2, 4, 6");
	expect_same_weights("gain", "tuned");
	/* the same weights as a file of another kind, without what only a checkpoint has */
	cr_assert_eq(heimdall("import $D/gain/best.safetensors --out $D/plain.safetensors"), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/data --sample_rate 48000 --receivers 2,4,6 --pretrained "
	                      "$D/plain.safetensors --learning_rate 0 --checkpoint_dir $D/imported" SMALL),
	        0, "%s", text);
	expect_same_weights("gain", "imported");
	cr_assert_eq(heimdall("train --data_dir $D/data --sample_rate 48000 --receivers 2,4,6 --pretrained "
	                      "$D/plain.safetensors --checkpoint_dir $D/other" SMALL "--backbone_size femto"),
	        3, "%s", text);
	cr_assert_eq(heimdall("import $D/data/manifest.csv --out $D/no.safetensors"), 3, "%s", text);
	remove_data();
}

/* Real recordings: two sessions, three receivers, 30 s; trained on one, tested on the other. */
Test(recordings, dcf77_sets_train_and_predict, .timeout = 240)
{
	if (access(DCF77, R_OK) != 0)
		cr_skip_test("no " DCF77);
	make_folder();
	char manifest[512];
	snprintf(manifest, sizeof manifest, "%s/manifest.csv", folder);
	FILE *f = fopen(manifest, "w");
	cr_assert_not_null(f);
	fprintf(f, "session,receiver,iq,sample_rate,frequency_mhz,latitude,longitude,approved,timestamp\n");
	for (int year = 2017; year <= 2020; year += 3)
		for (int rx = 1; rx <= 3; rx++)
			fprintf(f, "%d,rx%d,%d-rx%d.wav,12001,0.0775,50.0152,9.0112,true,%s\n", year, rx, year, rx,
			        year == 2017 ? "2017-11-27T10:41:56Z" : "2020-08-13T06:52:20Z");
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(shell("ln -s \"$PWD/" DCF77 "\"/*.wav $D/"), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D --sample_rate 12001 --n_fft 1024 --frame_mode windows --windows 16 "
	                      "--split_by session --validation_split 0.4 --test_split 0 --epochs 2 --warmup_epochs 0 "
	                      "--batch_size 2 --checkpoint_dir $D/ck --no-progress --backbone_size atto"),
	        0, "%s", text);
	expect_text("6 recordings");
	cr_assert_eq(heimdall("predict --checkpoint $D/ck/best.safetensors $D/2020-rx?.wav"), 0, "%s", text);
	expect_text("windows 22"); /* 706 frames of the longest */
	cr_assert_eq(heimdall("catalog check $D --sample_rate 12001"), 0, "%s", text);
	remove_data();
}
