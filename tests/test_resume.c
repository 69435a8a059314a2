/* SPDX-License-Identifier: Apache-2.0 */
/* Training killed at any moment and resumed ends with the same bits as training left alone. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heimdall/checkpoint.h"
#include "heimdall/safetensors.h"
#include "host/track/metrics_log.h"
#include "host/track/run.h"

#define PATH_BYTES 1024
#define MOST_ATTEMPTS 12
#define INTERRUPTED 4 /* exit code: a checkpoint was written */

static char folder[256];

static const char *program(void)
{
	static char path[PATH_BYTES];
	const char *build = getenv("BUILD");
	snprintf(path, sizeof path, "%s/heimdall", build ? build : "build");
	return path;
}

static void quiet_exec(const char **argv)
{
	char log[PATH_BYTES];
	snprintf(log, sizeof log, "%s/log", folder);
	if (!freopen(log, "a", stderr) || !freopen(log, "a", stdout))
		_exit(126);
	execv(program(), (char **)argv);
	_exit(127);
}

/* Runs the program; after_ms >= 0 sends it a signal then. Exit code, or -signal. */
static int run(const char **argv, long after_ms, int signal_number)
{
	pid_t child = fork();
	cr_assert(child >= 0);
	if (child == 0)
		quiet_exec(argv);
	if (after_ms >= 0) {
		nanosleep(&(struct timespec){after_ms / 1000, after_ms % 1000 * 1000000}, NULL);
		kill(child, signal_number);
	}
	int status;
	while (waitpid(child, &status, 0) < 0)
		cr_assert_eq(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/*
 * All that a resumed run must take up: the average of the weights, running statistics, a backbone let go on the way,
 * half an optimizer step's batches, early stopping (no loss falls by as much as it asks for), random frames and draws.
 */
static int train(const char *checkpoints, const char *threads, bool resume, long after_ms, int signal_number)
{
	char data[PATH_BYTES];
	snprintf(data, sizeof data, "%s/data", folder);
	const char *argv[] = {"heimdall", "train", "--data_dir", data, "--checkpoint_dir", checkpoints, "--threads",
	        threads, "--sample_rate", "48000", "--n_fft", "512", "--hop_length", "128", "--epochs", "5",
	        "--batch_size", "4", "--warmup_epochs", "1", "--checkpoint_every", "1", "--frame_mode", "random",
	        "--backbone_size", "atto", "--pretrained", "none", "--accumulate_grad_batches", "2", "--ema_decay",
	        "0.9", "--head_norm", "batch", "--freeze_backbone", "--unfreeze_epoch", "1", "--drop_path", "0.2",
	        "--gelu", "tanh", "--early_stop_patience", "2", "--early_stop_min_delta", "1000", "--log_every_n_steps",
	        "1", "--no_export", resume ? "--resume_training" : "--no-resume_training", NULL};
	return run(argv, after_ms, signal_number);
}

static void make_data(void)
{
	char out[PATH_BYTES];
	snprintf(folder, sizeof folder, "%s/heimdall-resume.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(out, sizeof out, "%s/data", folder);
	const char *argv[] = {"heimdall", "synth", "--out", out, "--sessions", "40", "--sample_rate", "48000",
	        "--samples", "6000", NULL};
	cr_assert_eq(run(argv, -1, 0), 0, "synth failed; see %s/log", folder);
}

static void remove_data(void)
{
	char command[PATH_BYTES];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	cr_assert_eq(system(command), 0);
}

/* Weights and moments, and the state but for what names the way there. */
static void expect_same(const char *a_folder, const char *b_folder, const char *name)
{
	char a_path[PATH_BYTES], b_path[PATH_BYTES];
	hd_safetensors a, b;
	snprintf(a_path, sizeof a_path, "%s/%s.safetensors", a_folder, name);
	snprintf(b_path, sizeof b_path, "%s/%s.safetensors", b_folder, name);
	cr_assert_eq(hd_safetensors_open(&a, a_path, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_safetensors_open(&b, b_path, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(a.tensor_count, b.tensor_count);
	for (size_t i = 0; i < a.tensor_count; i++) {
		const hd_tensor *t = hd_safetensors_find(&b, a.tensors[i].name);
		cr_assert_not_null(t, "%s is missing", a.tensors[i].name);
		cr_assert(t->bytes == a.tensors[i].bytes && !memcmp(t->data, a.tensors[i].data, t->bytes),
		        "%s differs after resuming", a.tensors[i].name);
	}
	cr_assert_str_eq(hd_safetensors_metadata(&a, "state"), hd_safetensors_metadata(&b, "state"));
	cr_assert_str_eq(hd_safetensors_metadata(&a, "data"), hd_safetensors_metadata(&b, "data"));
	hd_safetensors_close(&b);
	hd_safetensors_close(&a);
}

/* Rows of a table; timed: without their last column, the seconds. How many they were, the header too. */
static int expect_same_table(const char *a_folder, const char *b_folder, const char *name, bool timed)
{
	char path[PATH_BYTES], a_line[PATH_BYTES], b_line[PATH_BYTES];
	snprintf(path, sizeof path, "%s/%s", a_folder, name);
	FILE *a = fopen(path, "r");
	snprintf(path, sizeof path, "%s/%s", b_folder, name);
	FILE *b = fopen(path, "r");
	int rows = 0;
	cr_assert(a && b, "%s is missing", path);
	while (fgets(a_line, sizeof a_line, a)) {
		cr_assert_not_null(fgets(b_line, sizeof b_line, b), "row %d is missing", rows);
		if (timed)
			*strrchr(a_line, ',') = *strrchr(b_line, ',') = 0;
		cr_assert_str_eq(a_line, b_line);
		rows++;
	}
	cr_assert_null(fgets(b_line, sizeof b_line, b), "a row too many");
	fclose(b);
	fclose(a);
	return rows;
}

/* The log of the run that a folder of checkpoints belongs to. */
static hd_metrics_reader *open_points(const char *checkpoints)
{
	char path[PATH_BYTES];
	hd_checkpoint last;
	hd_run run;
	hd_metrics_reader *reader;
	const char *runs = getenv("HEIMDALL_RUNS_DIR");
	snprintf(path, sizeof path, "%s/last.safetensors", checkpoints);
	cr_assert_eq(hd_checkpoint_open(&last, path), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_run_find(&run, runs ? runs : "runs", last.run), HD_OK, "%s", hd_error_text());
	snprintf(path, sizeof path, "%s/metrics.log", run.folder);
	cr_assert_eq(hd_metrics_reader_open(&reader, path, 0), HD_OK, "%s", hd_error_text());
	hd_run_free(&run);
	hd_checkpoint_close(&last);
	return reader;
}

/* Figures that every attempt measures anew. */
static bool is_measured(const char *name)
{
	return !strcmp(name, "samples_per_s") || !strcmp(name, "memory_mb") || !strcmp(name, "epoch_seconds");
}

/* Step, name and value of each point, in the log's order; without those of measured ones. */
static int write_points(const char *path, const char *checkpoints)
{
	bool got = true;
	int points = 0;
	hd_metrics_line line;
	hd_metrics_reader *reader = open_points(checkpoints);
	FILE *to = fopen(path, "w");
	for (;;) {
		cr_assert_eq(hd_metrics_reader_next(reader, &line, &got), HD_OK, "%s", hd_error_text());
		if (!got)
			break;
		for (size_t i = 0; i < line.count; i++) {
			if (is_measured(line.metrics[i].name))
				continue;
			fprintf(to, "%lld %s %a\n", (long long)line.step, line.metrics[i].name, line.metrics[i].value);
			points++;
		}
	}
	fclose(to);
	hd_metrics_reader_close(reader);
	return points;
}

/* A run that was killed and resumed has logged what one left alone has, each point once. */
static void expect_same_points(const char *a, const char *b)
{
	char command[3 * PATH_BYTES], a_path[PATH_BYTES], b_path[PATH_BYTES];
	snprintf(a_path, sizeof a_path, "%s/points", a);
	snprintf(b_path, sizeof b_path, "%s/points", b);
	int points = write_points(a_path, a);
	cr_assert(points > 100, "%d points", points);
	cr_assert_eq(write_points(b_path, b), points);
	/* a line that a kill cut off is written again, behind those that came before it in the first attempt */
	snprintf(command, sizeof command, "sort '%s' >'%s.sorted' && sort '%s' | cmp - '%s.sorted'", a_path, a_path,
	        b_path, a_path);
	cr_assert_eq(system(command), 0, "points differ: %s and %s", a_path, b_path);
}

/* Interrupts again and again, at times that walk through start, steps, checkpoints and validation. */
static void interrupt_until_done(const char *whole, const char *checkpoints, const char *threads, int signal_number)
{
	int interruptions = 0;
	char last[PATH_BYTES];
	snprintf(last, sizeof last, "%s/last.safetensors", checkpoints);
	for (int attempt = 0;; attempt++) {
		long after_ms = attempt < MOST_ATTEMPTS ? 150 + attempt * 137 % 900 : -1;
		int code = train(checkpoints, threads, access(last, F_OK) == 0, after_ms, signal_number);
		if (code == 0)
			break;
		cr_assert(code == -SIGKILL || code == -SIGTERM || code == INTERRUPTED, "exit code %d; see %s/log", code,
		        folder);
		interruptions++;
	}
	cr_assert(interruptions >= 2, "only %d interruptions: the test proves nothing", interruptions);
	expect_same(whole, checkpoints, "last");
	expect_same(whole, checkpoints, "best");
	int epochs = expect_same_table(whole, checkpoints, "metrics.csv", true) - 1;
	cr_assert_eq(epochs, 3, "%d epochs, want to stop after the two that are not better than the first", epochs);
	int steps = expect_same_table(whole, checkpoints, "steps.csv", false) - 1;
	expect_same_points(whole, checkpoints);
	cr_assert(steps > 2 * epochs && steps % epochs == 0, "%d steps of %d epochs", steps, epochs);
}

static void check(const char *threads)
{
	char whole[PATH_BYTES], killed[PATH_BYTES], stopped[PATH_BYTES];
	make_data();
	snprintf(whole, sizeof whole, "%s/whole", folder);
	snprintf(killed, sizeof killed, "%s/killed", folder);
	snprintf(stopped, sizeof stopped, "%s/stopped", folder);
	int code = train(whole, threads, false, -1, 0);
	cr_assert_eq(code, 0, "exit code %d; see %s/log", code, folder);
	interrupt_until_done(whole, killed, threads, SIGKILL);
	interrupt_until_done(whole, stopped, threads, SIGTERM);
	remove_data();
}

Test(resume, one_thread, .timeout = 300)
{
	check("1");
}

Test(resume, two_threads, .timeout = 300)
{
	check("2");
}

/* Results that come late, and checkpoints that are written beside training, as on a GPU. */
Test(resume, device_with_memory_of_its_own, .timeout = 300)
{
	setenv("HD_CPU_OWN_MEMORY", "1", 1);
	check("1");
}
