/* SPDX-License-Identifier: Apache-2.0 */
/* Runs at the command line: list, show, follow, stop, in the background, and once more. */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "host/cli/reproduce_compare.h"
#include "host/track/metrics_log.h"
#include "host/track/run.h"
#include "tests/program.h"

#define EXPERIMENT "heimdall-localization"
#define RUNS " --runs_dir $D/runs "
#define SMALL                                                                                                          \
	RUNS " --data_dir $D/data --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 --warmup_epochs 0 "  \
	     "--receivers all --backbone_size atto --pretrained none --no_export --tracking_uri none --no-progress "   \
	     "--log_every_n_steps 1 --threads 2 "

static void make_data(void)
{
	make_folder();
	/* libgomp's threads that spin take the processor from a second program */
	setenv("OMP_WAIT_POLICY", "passive", 1);
	cr_assert_eq(heimdall("synth --out $D/data --sessions 30 --sample_rate 48000 --samples 3968"), 0, "%s", text);
}

static void expect_no_text(const char *words)
{
	cr_assert_null(strstr(text, words), "'%s' in:\n%s", words, text);
}

/* ---- folders of runs, without training ---- */

/* A folder as a run leaves it behind that did `epochs` of 5; val/loss is least in epoch 2. */
static void make_run(const char *experiment, const char *name, hd_run_state state, int epochs)
{
	char runs[512];
	hd_run run;
	hd_metrics_log *log;
	char *path;
	snprintf(runs, sizeof runs, "%s/runs", folder);
	cr_assert_eq(hd_run_create(&run, runs, experiment, "rf-localization", name), HD_OK, "%s", hd_error_text());
	hd_run_status s = {.state = state,
	        .start_ms = hd_time_ms() - 3723000,
	        .attempts = 1,
	        .epoch = epochs,
	        .epochs = 5,
	        .step = 4 * epochs};
	hd_run_status_this_process(&s);
	s.end_ms = state == HD_RUN_RUNNING ? 0 : hd_time_ms();
	if (state == HD_RUN_FAILED)
		snprintf(s.message, sizeof s.message, "the loss is not finite");
	cr_assert_eq(hd_run_status_write(&run, &s), HD_OK);
	cr_assert_eq(hd_run_path(&path, &run, "metrics.log"), HD_OK);
	cr_assert_eq(hd_metrics_log_open(&log, path), HD_OK);
	for (int e = 0; e < epochs; e++) {
		const hd_metrics_line line = {.time_ms = hd_time_ms(),
		        .step = 4 * e + 4,
		        .epoch = e,
		        .count = 3,
		        .metrics = {{"train/loss_epoch", 1.5 / (e + 1)}, {"val/loss", fabs(e - 1.0) + 1},
		                {"val/median_m", 412 + 100 * fabs(e - 1.0)}}};
		cr_assert_eq(hd_metrics_log_append(log, &line), HD_OK);
	}
	hd_metrics_log_close(log);
	free(path);
	hd_run_free(&run);
	/* runs are sorted by when they were made, in milliseconds */
	nanosleep(&(struct timespec){0, 3000000}, NULL);
}

static void expect_80_columns(void)
{
	for (const char *line = text; *line;) {
		size_t length = strcspn(line, "\n");
		cr_assert_leq(length, 80, "%zu columns: %.*s", length, (int)length, line);
		line += length + (line[length] == '\n');
	}
}

static void expect_order(const char *first, const char *second)
{
	const char *a = strstr(text, first), *b = strstr(text, second);
	cr_assert(a && b && a < b, "%s does not stand before %s in:\n%s", first, second, text);
}

Test(runs, are_listed)
{
	make_folder();
	cr_assert_eq(heimdall("runs ls" RUNS), 0, "%s", text);
	expect_text("no runs");
	make_run(EXPERIMENT, "one", HD_RUN_FINISHED, 5);
	make_run(EXPERIMENT, NULL, HD_RUN_FAILED, 3);
	make_run(EXPERIMENT, "a-name-that-is-longer-than-the-table-has-room-for-7", HD_RUN_KILLED, 1);
	cr_assert_eq(heimdall("runs ls --json $D/ls.json" RUNS), 0, "%s", text);
	expect_80_columns();
	expect_order("a-name-that", "rf-localization_");
	expect_order("rf-localization_", "one ");
	expect_text("room-for-7 KILLED"); /* names differ at their ends */
	expect_text("FAILED");
	expect_text("1h02m");
	expect_text("3/5   412 m");
	expect_text("1/5   512 m");
	expect_no_text(EXPERIMENT); /* there is but one */
	cr_assert_eq(
	        shell("grep -q '\"name\": \"one\"' $D/ls.json && grep -q '\"val/median_m\": 412.0' $D/ls.json"), 0);

	make_run("other", "one", HD_RUN_RUNNING, 0);
	cr_assert_eq(heimdall("runs ls" RUNS), 0, "%s", text);
	expect_order("other\nrun ", "\n\n" EXPERIMENT "\nrun ");
	expect_text("RUNNING"); /* the process is this one */
	cr_assert_eq(heimdall("runs ls --experiment_name other" RUNS), 0, "%s", text);
	expect_no_text("FINISHED");
	cr_assert_eq(heimdall("runs ls --experiment_name othr" RUNS), 3, "%s", text);
	expect_text("did you mean other?");
	remove_data();
}

Test(runs, are_shown_and_named)
{
	make_folder();
	make_run(EXPERIMENT, "one", HD_RUN_FAILED, 3);
	make_run("other", "one", HD_RUN_FINISHED, 5);
	cr_assert_eq(heimdall("runs show " EXPERIMENT "/one" RUNS), 0, "%s", text);
	expect_text("FAILED, epoch 3 of 5, step 12: the loss is not finite");
	expect_text("best validation loss in epoch 2");
	expect_text("metrics.log");
	cr_assert_eq(heimdall("runs show one" RUNS), 3, "%s", text);
	expect_text("several");
	cr_assert_eq(heimdall("runs show onne" RUNS), 3, "%s", text);
	expect_text("did you mean one?");
	cr_assert_eq(heimdall("runs show latest --json $D/show.json" RUNS), 0, "%s", text);
	expect_text("experiment  other");
	cr_assert_eq(shell("grep -q '\"state\": \"FINISHED\"' $D/show.json"), 0);
	cr_assert_eq(heimdall("runs tail $D/runs/other/one --lines 2" RUNS), 0, "%s", text);
	expect_no_text("epoch 3 ");
	expect_text("epoch 4  train_loss 0.375  val_loss 3  val_median 612 m");
	expect_text("one: FINISHED, epoch 5 of 5");
	cr_assert_eq(heimdall("runs"), 2, "%s", text);
	cr_assert_eq(heimdall("runs shw one"), 2, "%s", text);
	cr_assert_eq(heimdall("runs show"), 2, "%s", text);
	cr_assert_eq(heimdall("runs ls one"), 2, "%s", text);
	remove_data();
}

/* A process that is there and is not the run's: the number was given again. */
Test(runs, stop_only_their_own_process)
{
	make_folder();
	make_run(EXPERIMENT, "ended", HD_RUN_FINISHED, 5);
	make_run(EXPERIMENT, "elsewhere", HD_RUN_RUNNING, 2);
	make_run(EXPERIMENT, "again", HD_RUN_RUNNING, 2);
	cr_assert_eq(
	        shell("sed -i 's/\"host\": .*/\"host\": \"no-host-of-this-name\",/' $D/runs/*/elsewhere/status.json && "
	              "sed -i 's/\"pid_start\": .*/\"pid_start\": 7,/' $D/runs/*/again/status.json"),
	        0);
	cr_assert_eq(heimdall("runs stop ended" RUNS), 0, "%s", text);
	expect_text("is not running: FINISHED");
	cr_assert_eq(heimdall("runs stop elsewhere" RUNS), 2, "%s", text);
	expect_text("runs on no-host-of-this-name as process");
	cr_assert_eq(heimdall("runs stop again" RUNS), 0, "%s", text);
	expect_text("is not running: DIED");
	remove_data();
}

/* One that takes no notice of SIGTERM. */
Test(runs, stop_kills_when_forced, .timeout = 60)
{
	make_folder();
	pid_t child = fork();
	if (child == 0) {
		signal(SIGTERM, SIG_IGN);
		make_run(EXPERIMENT, "deaf", HD_RUN_RUNNING, 2);
		pause();
		_exit(0);
	}
	cr_assert_eq(shell("for i in $(seq 100); do test -s $D/runs/*/deaf/metrics.log && break; sleep 0.1; done"), 0);
	cr_assert_eq(heimdall("runs stop deaf --patience 0.5" RUNS), 1, "%s", text);
	expect_text("has not ended after 0.5 s");
	cr_assert_eq(kill(child, 0), 0);
	cr_assert_eq(heimdall("runs stop deaf --patience 0.5 --force" RUNS), 0, "%s", text);
	expect_text("deaf: DIED");
	int status;
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	remove_data();
}

/* A run that has its state and whose process still prints. */
Test(runs, tail_goes_on_until_the_process_has_ended, .timeout = 60)
{
	make_folder();
	pid_t child = fork();
	if (child == 0) {
		make_run(EXPERIMENT, "bg", HD_RUN_FINISHED, 2);
		shell("echo early >> $D/runs/" EXPERIMENT "/bg/output.log; sleep 2; echo late >> $D/runs/" EXPERIMENT
		      "/bg/output.log");
		_exit(0);
	}
	cr_assert_eq(shell("for i in $(seq 100); do test -s $D/runs/*/bg/output.log && break; sleep 0.1; done"), 0);
	cr_assert_eq(heimdall("runs tail bg --no-follow" RUNS), 0, "%s", text);
	expect_no_text("late");
	cr_assert_eq(heimdall("runs tail bg" RUNS), 0, "%s", text);
	expect_order("early", "late");
	expect_order("late", "bg: FINISHED");
	cr_assert_eq(waitpid(child, NULL, 0), child);
	remove_data();
}

/* ---- in the background ---- */

static void wait_for_epoch(void)
{
	cr_assert_eq(shell("for i in $(seq 600); do grep -qs '^epoch 1/' $D/runs/*/bg/output.log && exit 0; sleep 0.1; "
	                   "done; cat $D/runs/*/bg/output.log; exit 1"),
	        0, "no epoch has ended:\n%s", text);
}

Test(detached, tails_stops_and_resumes, .timeout = 240)
{
	make_data();
	cr_assert_eq(
	        heimdall("train --detach --run_name bg --epochs 150 --early_stop_patience 0" SMALL), 0, "%s", text);
	expect_text("run ");
	expect_text("/runs/" EXPERIMENT "/bg, process ");
	expect_text("heimdall runs tail ");
	expect_no_text("epoch 1/");
	wait_for_epoch();
	cr_assert_eq(heimdall("runs ls" RUNS), 0, "%s", text);
	expect_text("RUNNING");
	cr_assert_eq(heimdall("runs tail bg --no-follow --lines 1000" RUNS), 0, "%s", text);
	expect_text("epoch 1/150");
	expect_no_text("\033");
	cr_assert_eq(heimdall("train --resume_training --checkpoint $D/runs/" EXPERIMENT
	                      "/bg/checkpoints/last.safetensors" SMALL),
	        2, "a run that runs was resumed: %s", text);
	/* followed by one who goes on until it ends */
	cr_assert_eq(
	        shell("\"$H\" runs tail bg" RUNS "> $D/tail 2>&1 & \"$H\" runs stop bg" RUNS "; c=$?; wait; exit $c"),
	        0, "%s", text);
	expect_text("bg: KILLED");
	expect_text("go on with: heimdall train --resume_training --checkpoint ");
	cr_assert_eq(shell("cat $D/tail"), 0);
	expect_text("bg: KILLED, epoch ");
	cr_assert_eq(heimdall("runs stop bg" RUNS), 0, "%s", text);
	expect_text("is not running: KILLED");
	/* with the words that were printed */
	cr_assert_eq(shell("n=$(sed -n 's/^ *\"epoch\": \\([0-9]*\\).*/\\1/p' $D/runs/*/bg/status.json); "
	                   "$(\"$H\" runs stop bg" RUNS
	                   "2> $D/err | sed \"s:^go on with. heimdall:$H:\") --epochs $((n + 1))" SMALL),
	        0, "%s", text);
	cr_assert_eq(heimdall("runs show bg" RUNS), 0, "%s", text);
	expect_text("FINISHED");
	expect_text("attempt 2");
	remove_data();
}

/* The run is found from its checkpoint, whatever folder that is named from. */
Test(detached, goes_on_from_within_its_folder, .timeout = 120)
{
	static const char *const ways[][2] = {
	        {"", "checkpoints/last.safetensors"}, {"/checkpoints", "last.safetensors"}};
	char words[1024];
	make_data();
	cr_assert_eq(heimdall("train --run_name here --epochs 1" SMALL), 0, "%s", text);
	for (int i = 0; i < 2; i++) {
		snprintf(words, sizeof words,
		        "h=$(realpath \"$H\") && cd $D/runs/" EXPERIMENT "/here%s && \"$h\" train --resume_training "
		        "--checkpoint %s --no_export --tracking_uri none --runs_dir $D/other --epochs %d",
		        ways[i][0], ways[i][1], i + 2);
		cr_assert_eq(shell(words), 0, "%s", text);
		expect_no_text("go into a new one");
		cr_assert_neq(shell("test -e $D/other"), 0);
	}
	cr_assert_eq(heimdall("runs show here" RUNS), 0, "%s", text);
	expect_text("FINISHED, epoch 3 of 3");
	expect_text("attempt 3");
	remove_data();
}

Test(detached, that_is_killed_has_died, .timeout = 120)
{
	make_data();
	cr_assert_eq(
	        heimdall("train --detach --run_name bg --epochs 150 --early_stop_patience 0" SMALL), 0, "%s", text);
	wait_for_epoch();
	cr_assert_eq(shell("kill -KILL $(sed -n 's/^ *\"pid\": \\([0-9]*\\).*/\\1/p' $D/runs/*/bg/status.json)"), 0);
	/* what follows it ends by itself */
	cr_assert_eq(heimdall("runs tail bg" RUNS), 0, "%s", text);
	expect_text("bg: DIED");
	cr_assert_eq(heimdall("runs ls" RUNS), 0, "%s", text);
	expect_text("DIED");
	remove_data();
}

/* The whole of stdout and stderr is in the log, and whoever waits for the command's output is not kept waiting. */
Test(detached, outlives_its_terminal, .timeout = 120)
{
	make_data();
	cr_assert_eq(shell("script -qec \"'$H' train --detach --run_name bg --epochs 3" SMALL "\" /dev/null"), 0, "%s",
	        text);
	expect_text("heimdall runs stop");
	cr_assert_eq(heimdall("runs tail bg --lines 1000" RUNS), 0, "%s", text);
	expect_text("epoch 3/3");
	expect_text("checkpoint_path ");
	expect_text("bg: FINISHED, epoch 3 of 3");
	expect_no_text("\033");
	/* reproducing it in the background too; its verdict comes behind the end of its run */
	cr_assert_eq(heimdall("reproduce bg --detach --run_name again" RUNS), 0, "%s", text);
	expect_no_text("reproduced");
	cr_assert_eq(heimdall("runs tail again" RUNS), 0, "%s", text);
	expect_text("reproduced: all ");
	remove_data();
}

Test(detached, that_cannot_begin_says_so, .timeout = 60)
{
	make_folder();
	cr_assert_eq(heimdall("train --detach --run_name bg" SMALL " --data_dir $D/nowhere"), 3, "%s", text);
	expect_text("no such catalogue");
	cr_assert_eq(heimdall("runs show bg" RUNS), 3, "%s", text);
	cr_assert_eq(heimdall("train --detach --run_name bg --checkpoint_every x" SMALL), 2, "%s", text);
	expect_text("checkpoint_every");
	remove_data();
}

/* ---- once more ---- */

/* Two logs, of which the second has `change` added to one value of its last epoch. */
static void compare(hd_run_comparison *out, double change, int64_t more, bool whole)
{
	hd_run run[2] = {{0}};
	hd_run_points *points[2];
	hd_metrics_log *log;
	for (int k = 0; k < 2; k++) {
		char path[512];
		snprintf(path, sizeof path, "%s/%d", folder, k);
		mkdir(path, 0777);
		run[k].folder = path;
		strcat(path, "/metrics.log");
		unlink(path);
		cr_assert_eq(hd_metrics_log_open(&log, path), HD_OK);
		for (int e = 0; e < 3 + (k ? more : 0); e++) {
			const hd_metrics_line line = {.time_ms = hd_time_ms(),
			        .step = 4 * e + 4,
			        .epoch = e,
			        .count = 4,
			        .metrics = {{"val/loss", 0.1 * e + (k && e == 2 ? change : 0)}, {"val/median_m", NAN},
			                {"epoch_seconds", k + 0.5}, {"memory_mb", 100 * k}}};
			/* a step that was done twice, first with another figure */
			hd_metrics_line before = line;
			before.metrics[0].value = 77;
			if (k == 0 && e == 1)
				cr_assert_eq(hd_metrics_log_append(log, &before), HD_OK);
			cr_assert_eq(hd_metrics_log_append(log, &line), HD_OK);
		}
		hd_metrics_log_close(log);
		*strrchr(path, '/') = 0;
		cr_assert_eq(hd_run_points_read(&points[k], &run[k]), HD_OK, "%s", hd_error_text());
	}
	hd_run_compare(out, points[0], points[1], whole);
	for (int k = 0; k < 2; k++)
		hd_run_points_free(points[k]);
}

Test(reproduce, compares_point_for_point)
{
	hd_run_comparison c;
	make_folder();
	compare(&c, 0, 0, true);
	cr_assert(hd_run_is_equal(&c));
	cr_assert(c.compared == 6 && c.equal == 6 && c.epochs == 3 && c.equal_epochs == 3, "%lld of %lld points",
	        (long long)c.equal, (long long)c.compared);
	compare(&c, 1e-16, 0, true);
	cr_assert(!hd_run_is_equal(&c));
	cr_assert(c.equal == 5 && c.equal_epochs == 2 && c.first_step == 12 && c.first_epoch == 3);
	cr_assert_str_eq(c.first_name, "val/loss");
	/* epochs that the first did not come to count where it came to its end */
	compare(&c, 0, 2, false);
	cr_assert(hd_run_is_equal(&c));
	compare(&c, 0, 2, true);
	cr_assert(!hd_run_is_equal(&c) && c.only_now == 4);
	remove_data();
}

Test(reproduce, gives_the_same_and_says_what_changed, .timeout = 300)
{
	make_data();
	cr_assert_eq(heimdall("train --epochs 2 --run_name first --tags a=b" SMALL), 0, "%s", text);
	cr_assert_eq(heimdall("reproduce first --json $D/r.json" RUNS), 0, "%s", text);
	expect_text("0 changed, 0 gone, 0 new");
	expect_text("2 of 2 epochs");
	expect_text("reproduced: all ");
	expect_no_text("warning: version");
	cr_assert_eq(shell("grep -q '\"equal\": true' $D/r.json && id=$(sed -n 's/.*\"id\": \"\\(.*\\)\".*/\\1/p' "
	                   "$D/runs/*/first/run.json) && grep -q \"\\\"heimdall.reproduces\\\": \\\"$id\\\"\" "
	                   "$D/runs/*/rf-*/tags.json && grep -q '\"a\": \"b\"' $D/runs/*/rf-*/tags.json && "
	                   "test -s $D/runs/*/rf-*/checkpoints/best.safetensors && "
	                   "test ! -L $D/runs/*/rf-*/checkpoints"),
	        0, "%s", text);
	/* a reproduction can be reproduced, and has one tag for where it comes from */
	cr_assert_eq(heimdall("reproduce latest" RUNS), 0, "%s", text);
	expect_text("reproduced: all ");
	/* the same data and program, and not the same settings: what a fault in the program would look like */
	cr_assert_eq(
	        shell("cp $D/runs/*/first/config.yaml $D/kept && sed -i 's/learning_rate: .*/learning_rate: 0.0011/' "
	              "$D/runs/*/first/config.yaml && "
	              "\"$H\" reproduce first" RUNS),
	        1, "%s", text);
	expect_text("not reproduced: metrics differ with the same program and data");
	expect_text("first difference: ");
	cr_assert_eq(shell("cp $D/kept $D/runs/" EXPERIMENT "/first/config.yaml"), 0);
	/* a session at another position, one that is not there any more */
	cr_assert_eq(shell("awk -F, -v OFS=, 'NR == 1 {for (i = 1; i <= NF; i++) if ($i "
	                   "== \"latitude\") c = i} "
	                   "$2 == \"s000001\" {$c = $c + 0.01} NR != 30' $D/data/manifest.csv > $D/m && mv $D/m "
	                   "$D/data/manifest.csv && "
	                   "\"$H\" reproduce first" RUNS),
	        3, "%s", text);
	expect_text("7 changed, 1 gone, 0 new");
	expect_text("position moved by");
	expect_text("not reproduced: the data are not what they were");
	remove_data();
}

Test(reproduce, refuses_what_it_cannot_do)
{
	make_folder();
	make_run(EXPERIMENT, "running", HD_RUN_RUNNING, 2);
	make_run(EXPERIMENT, "empty", HD_RUN_FAILED, 0);
	cr_assert_eq(heimdall("reproduce"), 2, "%s", text);
	cr_assert_eq(heimdall("reproduce runing" RUNS), 3, "%s", text);
	expect_text("did you mean running?");
	cr_assert_eq(heimdall("reproduce running" RUNS), 2, "%s", text);
	expect_text("is running");
	cr_assert_eq(heimdall("reproduce empty" RUNS), 3, "%s", text);
	expect_text("config.yaml");
	cr_assert_eq(heimdall("reproduce empty --epochs 3" RUNS), 2, "%s", text);
	remove_data();
}
