/* SPDX-License-Identifier: Apache-2.0 */
/* A run's folder: names, lookup, status, its log of metrics, and what an earlier attempt logged. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/track/earlier.h"
#include "host/track/metrics_log.h"
#include "host/track/run.h"
#include "tests/folder.h"

#define GOOD(call) cr_assert_eq((call), HD_OK, "%s", hd_error_text())

TestSuite(run, .init = start, .fini = stop);

static hd_run make(const char *experiment, const char *name)
{
	hd_run run;
	GOOD(hd_run_create(&run, folder, experiment, "rf", name));
	return run;
}

/* ---- folders ---- */

Test(run, names_never_collide)
{
	hd_run a = make("e", "same"), b = make("e", "same"), c = make("other", "same"), d = make("e", NULL);
	cr_expect_str_eq(a.name, "same");
	cr_expect_str_eq(b.name, "same_2");
	cr_expect_str_eq(c.name, "same");
	cr_expect_str_neq(a.id, b.id);
	/* rf_YYYYmmdd_HHMMSS */
	cr_expect_eq(strlen(d.name), strlen("rf_20260101_000000"));
	cr_expect(!strncmp(d.name, "rf_20", 5));
	cr_expect_eq(strspn(a.id, "0123456789abcdef"), HD_RUN_ID - 1);
	hd_run_free(&a);
	hd_run_free(&b);
	hd_run_free(&c);
	hd_run_free(&d);
}

/* At the same moment, from many processes. */
Test(run, processes_never_share_a_folder)
{
	enum { PROCESSES = 8, RUNS = 20 };
	for (int i = 0; i < PROCESSES; i++) {
		if (fork() == 0) {
			for (int k = 0; k < RUNS; k++) {
				hd_run run;
				if (hd_run_create(&run, folder, "e", "rf", "r") != HD_OK)
					_exit(1);
				hd_run_free(&run);
			}
			_exit(0);
		}
	}
	for (int i = 0, status; i < PROCESSES; i++)
		cr_assert(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	hd_run *runs;
	size_t count;
	GOOD(hd_run_list(&runs, &count, folder, NULL));
	cr_assert_eq(count, PROCESSES * RUNS);
	hd_run_list_free(runs, count);
}

static void expect_meant(const char *which, const hd_run *want)
{
	hd_run run;
	GOOD(hd_run_find(&run, folder, which));
	cr_expect_str_eq(run.id, want->id, "'%s' means %s", which, run.folder);
	hd_run_free(&run);
}

Test(run, is_found_by_folder_name_and_id)
{
	hd_run a = make("one", "first"), b = make("two", "second"), c = make("two", "first"), none;
	char id[9], both[64];
	snprintf(id, sizeof id, "%.8s", b.id);
	snprintf(both, sizeof both, "two/%s", c.name);
	expect_meant(b.folder, &b);
	expect_meant("second", &b);
	expect_meant(b.id, &b);
	expect_meant(id, &b);
	expect_meant(both, &c);
	GOOD(hd_run_mark_latest(&a));
	GOOD(hd_run_mark_latest(&c));
	/* the link is another name of a run, not one more */
	hd_run *runs;
	size_t count;
	GOOD(hd_run_list(&runs, &count, folder, "two"));
	cr_expect_eq(count, 2);
	hd_run_list_free(runs, count);
	char link[512];
	snprintf(link, sizeof link, "%s/two/latest", folder);
	expect_meant(link, &c);

	cr_expect_eq(hd_run_find(&none, folder, "first"), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), "several") && strstr(hd_error_text(), a.folder), "%s", hd_error_text());
	cr_expect_eq(hd_run_find(&none, folder, "secnd"), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), "did you mean second?"), "%s", hd_error_text());
	cr_expect_eq(hd_run_newest(&none, folder, "three"), HD_E_DATA);
	hd_run_free(&a);
	hd_run_free(&b);
	hd_run_free(&c);
}

Test(run, that_never_began_leaves_nothing)
{
	hd_run run = make("e", "gone");
	char path[512];
	snprintf(path, sizeof path, "%s/checkpoints", run.folder);
	cr_assert_eq(mkdir(path, 0777), 0);
	hd_run_remove(&run);
	snprintf(path, sizeof path, "%s/e", folder);
	cr_expect_neq(access(path, F_OK), 0);
	hd_run_free(&run);
}

/* ---- status ---- */

Test(run, status_comes_back_and_notices_a_death)
{
	hd_run run = make("e", "r");
	hd_run_status in = {.state = HD_RUN_RUNNING, .start_ms = 1, .epoch = 3, .epochs = 9, .step = 77, .attempts = 2},
	              out;
	hd_run_status_this_process(&in);
	GOOD(hd_run_status_write(&run, &in));
	GOOD(hd_run_status_read(&out, &run));
	cr_expect_eq(out.state, HD_RUN_RUNNING);
	cr_expect(out.epoch == 3 && out.epochs == 9 && out.step == 77 && out.attempts == 2);
	/* another process that got the same number later */
	in.pid_start--;
	GOOD(hd_run_status_write(&run, &in));
	GOOD(hd_run_status_read(&out, &run));
	cr_expect_eq(out.state, HD_RUN_DIED);
	/* nobody here can tell about another host's */
	snprintf(in.host, sizeof in.host, "elsewhere.example");
	snprintf(in.message, sizeof in.message, "file \xff\xfe: no text");
	GOOD(hd_run_status_write(&run, &in));
	GOOD(hd_run_status_read(&out, &run));
	cr_expect_eq(out.state, HD_RUN_RUNNING);
	hd_run_free(&run);
}

/* ---- the log ---- */

static void append(hd_metrics_log *log, int64_t step, const char *name, double value)
{
	const hd_metrics_line line = {.time_ms = 1000 + step,
	        .step = step,
	        .epoch = step / 10,
	        .count = 2,
	        .metrics = {{name, value}, {"other", -value}}};
	GOOD(hd_metrics_log_append(log, &line));
}

static bool same_bits(double a, double b)
{
	return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

Test(run, log_gives_back_every_bit)
{
	const double values[] = {0, -0.0, 1.0 / 3, 1e308, 5e-324, NAN, INFINITY, -INFINITY, -NAN, 123456789.123456789};
	enum { COUNT = sizeof values / sizeof *values };
	hd_metrics_log *log;
	hd_metrics_reader *reader;
	hd_metrics_line line;
	bool got;
	char path[512];
	snprintf(path, sizeof path, "%s", file_in("metrics.log"));
	/* a reader that is there before the file */
	GOOD(hd_metrics_reader_open(&reader, path, 0));
	GOOD(hd_metrics_reader_next(reader, &line, &got));
	cr_assert(!got);
	GOOD(hd_metrics_log_open(&log, path));
	for (int i = 0; i < COUNT; i++) {
		append(log, i, "train/loss", values[i]);
		GOOD(hd_metrics_reader_next(reader, &line, &got));
		cr_assert(got && line.count == 2 && line.step == i && line.time_ms == 1000 + i && line.epoch == i / 10);
		cr_expect_str_eq(line.metrics[0].name, "train/loss");
		cr_expect(same_bits(line.metrics[0].value, values[i]), "%a is %a", values[i], line.metrics[0].value);
		GOOD(hd_metrics_reader_next(reader, &line, &got));
		cr_assert(!got);
	}
	cr_expect_eq(hd_metrics_reader_bad(reader), 0);
	const hd_metrics_line bad = {.count = 1, .metrics = {{"two words", 1}}};
	cr_expect_eq(hd_metrics_log_append(log, &bad), HD_E_USAGE);
	hd_metrics_reader_close(reader);
	hd_metrics_log_close(log);
}

/* Every byte of a line changed, and the line cut off at every byte, then written on. */
Test(run, log_leaves_out_what_is_damaged)
{
	char path[512], text[512], broken[512];
	hd_metrics_log *log;
	snprintf(path, sizeof path, "%s", file_in("metrics.log"));
	GOOD(hd_metrics_log_open(&log, path));
	append(log, 12, "a", 0.5);
	hd_metrics_log_close(log);
	FILE *file = fopen(path, "r");
	size_t bytes = fread(text, 1, sizeof text, file);
	fclose(file);
	for (size_t i = 0; i < 2 * bytes; i++) {
		bool cut = i >= bytes;
		size_t at = i % bytes, kept = cut ? at : bytes;
		memcpy(broken, text, bytes);
		if (!cut)
			broken[at] ^= 1;
		file = fopen(path, "w");
		fwrite(broken, 1, kept, file);
		fclose(file);
		GOOD(hd_metrics_log_open(&log, path));
		append(log, 13, "b", 1);
		hd_metrics_log_close(log);
		hd_metrics_reader *reader;
		hd_metrics_line line;
		bool got;
		int64_t lines = 0;
		GOOD(hd_metrics_reader_open(&reader, path, 0));
		for (;;) {
			GOOD(hd_metrics_reader_next(reader, &line, &got));
			if (!got)
				break;
			cr_expect(line.step == 13 || (cut && kept == bytes - 1 && line.step == 12),
			        "byte %zu: step %lld", at, (long long)line.step);
			lines++;
		}
		/* the cut that took the end of the line alone has taken nothing */
		cr_expect_eq(lines, cut && kept == bytes - 1 ? 2 : 1, "byte %zu, %s: %lld lines", at,
		        cut ? "cut" : "changed", (long long)lines);
		hd_metrics_reader_close(reader);
	}
}

Test(run, log_is_read_on_from_an_offset)
{
	enum { LINES = 20000 };
	char path[512];
	hd_metrics_log *log;
	hd_metrics_reader *reader;
	hd_metrics_line line;
	bool got;
	int64_t offset = 0, next = 0;
	snprintf(path, sizeof path, "%s", file_in("metrics.log"));
	GOOD(hd_metrics_log_open(&log, path));
	for (int i = 0; i < LINES; i++)
		append(log, i, "some/long.name-with:all_of-it", i / 7.0);
	hd_metrics_log_close(log);
	while (next < LINES) {
		GOOD(hd_metrics_reader_open(&reader, path, offset));
		for (int k = 0; k < 777 && next < LINES; k++, next++) {
			GOOD(hd_metrics_reader_next(reader, &line, &got));
			cr_assert(got && line.step == next, "line %lld", (long long)next);
		}
		offset = hd_metrics_reader_offset(reader);
		hd_metrics_reader_close(reader);
	}
	GOOD(hd_metrics_reader_open(&reader, path, offset));
	GOOD(hd_metrics_reader_next(reader, &line, &got));
	cr_expect(!got);
	hd_metrics_reader_close(reader);
}

Test(run, earlier_points_are_known_to_the_bit)
{
	char path[512];
	hd_metrics_log *log;
	hd_earlier *earlier;
	snprintf(path, sizeof path, "%s", file_in("metrics.log"));
	GOOD(hd_metrics_log_open(&log, path));
	for (int i = 1; i <= 9; i++)
		append(log, i, "loss", i / 3.0);
	hd_metrics_log_close(log);
	GOOD(hd_earlier_read(&earlier, path, 10));
	cr_assert_null(earlier);
	GOOD(hd_earlier_read(&earlier, path, 5));
	cr_expect(hd_earlier_has(earlier, 6, &(hd_metric){"loss", 2}));
	cr_expect(hd_earlier_has(earlier, 9, &(hd_metric){"other", -3}));
	cr_expect(!hd_earlier_has(earlier, 4, &(hd_metric){"loss", 4 / 3.0}), "before the step");
	cr_expect(!hd_earlier_has(earlier, 6, &(hd_metric){"loss", nextafter(2, 3)}));
	cr_expect(!hd_earlier_has(earlier, 7, &(hd_metric){"loss", 2}));
	cr_expect(!hd_earlier_has(earlier, 6, &(hd_metric){"losses", 2}));
	hd_earlier_free(earlier);
}
