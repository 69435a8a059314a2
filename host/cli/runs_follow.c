/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall runs tail and stop: a run that is under way. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/cli/runs.h"
#include "host/common/memory.h"
#include "host/common/progress.h"

#define LOOK_EVERY_MS 500
#define TELL_EVERY_S 10.0
#define BLOCK_BYTES 65536
#define KILL_PATIENCE_S 10.0

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* The run's state in a line on stderr, as the end of what was followed. */
static void tell_end(const hd_run *run, const hd_run_status *s)
{
	char took[16];
	hd_runs_duration(took, s->end_ms > s->start_ms ? s->end_ms - s->start_ms : -1);
	hd_message("%s: %s, epoch %lld of %lld, took %s%s%s", run->name, hd_run_state_word(s->state),
	        (long long)s->epoch, (long long)s->epochs, took, s->message[0] ? ": " : "", s->message);
}

/* ---- tail of output.log ---- */

/* Byte at which the last `lines` lines of a file begin. */
static hd_status last_lines(off_t *out, int fd, int64_t lines, const char *path)
{
	char block[BLOCK_BYTES];
	off_t end = lseek(fd, 0, SEEK_END), at = end;
	*out = 0;
	if (end < 0)
		return hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
	while (at > 0) {
		size_t bytes = at > BLOCK_BYTES ? BLOCK_BYTES : (size_t)at;
		at -= (off_t)bytes;
		if (pread(fd, block, bytes, at) != (ssize_t)bytes)
			return hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
		for (size_t i = bytes; i-- > 0;) {
			off_t here = at + (off_t)i + 1;
			/* the end of the last line stands before none */
			if (block[i] != '\n' || here == end || lines-- > 1)
				continue;
			*out = here;
			return HD_OK;
		}
	}
	return HD_OK;
}

/* All there is from *at on. */
static hd_status put_rest(int fd, off_t *at, const char *path)
{
	char block[BLOCK_BYTES];
	ssize_t bytes;
	while ((bytes = pread(fd, block, sizeof block, *at)) > 0) {
		fwrite(block, 1, (size_t)bytes, stdout);
		*at += bytes;
	}
	fflush(stdout);
	return bytes < 0 ? hd_fail(HD_E_IO, "%s: %s", path, strerror(errno)) : HD_OK;
}

static hd_status tail_output(const hd_settings *settings, const hd_run *run, const char *path, hd_run_status *status)
{
	hd_status st;
	off_t at;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
	HD_TRY(last_lines(&at, fd, settings->lines, path));
	if (!settings->lines)
		at = lseek(fd, 0, SEEK_END);
	HD_TRY(put_rest(fd, &at, path));
	/* what is printed at the end comes when the run has its state already */
	while (settings->follow && (status->state == HD_RUN_RUNNING || hd_run_status_is_alive(status))) {
		pause_ms(LOOK_EVERY_MS);
		/* the state first: what was written before the process ended is then there to read */
		HD_TRY(hd_run_status_read(status, run));
		HD_TRY(put_rest(fd, &at, path));
	}
	HD_TRY(put_rest(fd, &at, path));
done:
	close(fd);
	return st;
}

/* ---- tail of metrics.log ---- */

/* The figures that say most, in the order in which they stand. */
static const struct {
	const char *name, *label, *unit;
} shown[] = {{"train/loss", "train_loss", ""}, {"train/loss_epoch", "train_loss", ""}, {"val/loss", "val_loss", ""},
        {"val/median_m", "val_median", " m"}, {"best/loss", "best val_loss", ""}, {"best/epoch", "of epoch", ""},
        {"best/median_m", "val_median", " m"}, {"lr", "lr", ""}, {"grad_norm", "gradient", ""}};

static void print_line(const hd_metrics_line *line)
{
	char time_text[32];
	bool any = false;
	hd_runs_time(time_text, line->time_ms);
	printf("%s  step %lld", strlen(time_text) > 11 ? time_text + 11 : time_text, (long long)line->step);
	if (isnan(hd_metrics_line_value(line, "best/loss")))
		printf("  epoch %lld", (long long)line->epoch + 1);
	for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
		double value = hd_metrics_line_value(line, shown[i].name);
		if (!isnan(value))
			printf(fabs(value) >= 1e4 ? "  %s %.0f%s" : "  %s %.4g%s", shown[i].label, value,
			        shown[i].unit);
		any = any || !isnan(value);
	}
	for (size_t i = 0; !any && i < line->count && i < 3; i++)
		printf("  %s %.6g", line->metrics[i].name, line->metrics[i].value);
	putchar('\n');
}

/* Goes to the last `lines` lines of a log: counts them, then reads all but those again. */
static hd_status skip_to_last(hd_metrics_reader **out, const char *path, int64_t lines, hd_metrics_line *line)
{
	hd_status st;
	bool got = true;
	int64_t count = 0;
	HD_TRY(hd_metrics_reader_open(out, path, 0));
	while (got) {
		HD_TRY(hd_metrics_reader_next(*out, line, &got));
		count += got;
	}
	hd_metrics_reader_close(*out);
	*out = NULL;
	HD_TRY(hd_metrics_reader_open(out, path, 0));
	for (int64_t i = lines; i < count; i++)
		HD_TRY(hd_metrics_reader_next(*out, line, &got));
done:
	return st;
}

static hd_status tail_metrics(const hd_settings *settings, const hd_run *run, hd_run_status *status)
{
	hd_status st;
	char *path = NULL;
	hd_metrics_reader *reader = NULL;
	hd_metrics_line *line = NULL;
	bool got = false, ended;
	HD_TRY(hd_alloc(&line, 1, sizeof *line));
	HD_TRY(hd_run_path(&path, run, "metrics.log"));
	HD_TRY(skip_to_last(&reader, path, settings->lines, line));
	do {
		/* the state first: what was written before the run ended is then there to read */
		HD_TRY(hd_run_status_read(status, run));
		ended = !settings->follow || status->state != HD_RUN_RUNNING;
		do {
			HD_TRY(hd_metrics_reader_next(reader, line, &got));
			if (got)
				print_line(line);
		} while (got);
		fflush(stdout);
		if (!ended)
			pause_ms(LOOK_EVERY_MS);
	} while (!ended);
done:
	hd_metrics_reader_close(reader);
	free(line);
	free(path);
	return st;
}

/* Whether the latest attempt printed into output.log: one of before is of no interest. */
static bool is_detached(const char *path, const hd_run_status *status)
{
	struct stat info;
	return stat(path, &info) == 0 && (int64_t)info.st_mtim.tv_sec >= status->start_ms / 1000;
}

hd_status hd_runs_tail(const hd_settings *settings, const hd_run *run)
{
	hd_status st;
	char *output = NULL;
	hd_run_status status;
	HD_TRY(hd_run_status_read(&status, run));
	HD_TRY(hd_run_path(&output, run, "output.log"));
	HD_TRY(is_detached(output, &status) ? tail_output(settings, run, output, &status)
	                                    : tail_metrics(settings, run, &status));
	if (status.state != HD_RUN_RUNNING)
		tell_end(run, &status);
done:
	free(output);
	return st;
}

/* ---- stop ---- */

/* Waits until a process has ended; *has_ended is false where it did not within patience_s. process: a pidfd. */
static hd_status wait_for_end(bool *has_ended, int process, double patience_s)
{
	double begun = hd_now_s(), told = begun;
	*has_ended = false;
	for (;;) {
		double left_s = begun + patience_s - hd_now_s();
		int wait_ms = left_s <= 0 ? 0 : left_s < 1e-3 * LOOK_EVERY_MS ? (int)(1e3 * left_s) + 1 : LOOK_EVERY_MS;
		struct pollfd fd = {.fd = process, .events = POLLIN};
		int ready = poll(&fd, 1, wait_ms);
		if (ready < 0 && errno != EINTR)
			return hd_fail(HD_E_IO, "waiting for the run's end: %s", strerror(errno));
		*has_ended = ready > 0;
		if (*has_ended || left_s <= 0)
			return HD_OK;
		if (hd_now_s() - told >= TELL_EVERY_S) {
			told = hd_now_s();
			hd_message("still ending after %.0f s", told - begun);
		}
	}
}

static hd_status send_signal(int process, int number, int64_t pid)
{
	if (pidfd_send_signal(process, number, NULL, 0) == 0 || errno == ESRCH)
		return HD_OK;
	return hd_fail(HD_E_FAILED, "process %lld cannot be stopped: %s%s", (long long)pid, strerror(errno),
	        errno == EPERM ? "; it is another user's" : "");
}

/* What came of it, from the status that the run left behind. */
static hd_status tell_stopped(const hd_run *run, bool killed)
{
	hd_run_status s;
	hd_status st = hd_run_status_read(&s, run);
	if (st != HD_OK)
		return st;
	if (s.state == HD_RUN_FAILED)
		return hd_fail(HD_E_FAILED, "%s failed instead: %s", run->name, s.message);
	printf("%s: %s, epoch %lld of %lld, step %lld\n", run->name, hd_run_state_word(s.state), (long long)s.epoch,
	        (long long)s.epochs, (long long)s.step);
	if (s.state != HD_RUN_FINISHED)
		hd_runs_print_resume(run);
	return s.state != HD_RUN_DIED || killed
	               ? HD_OK
	               : hd_fail(HD_E_FAILED, "%s has ended without a word: it was not yet ready to be stopped",
	                         run->name);
}

static hd_status stop_process(const hd_settings *settings, const hd_run *run, const hd_run_status *status, int process)
{
	hd_status st;
	bool has_ended, killed = false;
	HD_TRY(send_signal(process, SIGTERM, status->pid));
	hd_message("%s: process %lld is asked to write a checkpoint and to end", run->name, (long long)status->pid);
	HD_TRY(wait_for_end(&has_ended, process, settings->patience));
	if (!has_ended && !settings->force) {
		st = hd_fail(HD_E_FAILED,
		        "%s has not ended after %g s; wait longer with --patience, or kill it without a checkpoint: "
		        "--force, or kill -KILL %lld",
		        run->name, settings->patience, (long long)status->pid);
		goto done;
	}
	if (!has_ended) {
		killed = true;
		HD_TRY(send_signal(process, SIGKILL, status->pid));
		hd_warn("%s: killed after %g s", run->name, settings->patience);
		HD_TRY(wait_for_end(&has_ended, process, KILL_PATIENCE_S));
	}
	st = tell_stopped(run, killed);
done:
	return st;
}

hd_status hd_runs_stop(const hd_settings *settings, const hd_run *run)
{
	hd_run_status status, here;
	hd_status st = hd_run_status_read(&status, run);
	if (st != HD_OK)
		return st;
	hd_run_status_this_process(&here);
	if (status.state == HD_RUN_RUNNING && strcmp(status.host, here.host) != 0)
		return hd_fail(HD_E_USAGE, "%s runs on %s as process %lld: stop it there", run->name, status.host,
		        (long long)status.pid);
	/* holds the process itself; what its number means is looked up behind it, for numbers are given again */
	int process = status.state == HD_RUN_RUNNING ? pidfd_open((pid_t)status.pid, 0) : -1;
	if (process < 0 || !hd_run_status_is_alive(&status)) {
		st = hd_run_status_read(&status, run);
		if (st == HD_OK && status.state == HD_RUN_RUNNING)
			st = hd_fail(HD_E_FAILED, "process %lld: %s", (long long)status.pid, strerror(errno));
		if (st == HD_OK)
			hd_message("%s is not running: %s, epoch %lld of %lld", run->name,
			        hd_run_state_word(status.state), (long long)status.epoch, (long long)status.epochs);
		if (st == HD_OK && status.state != HD_RUN_FINISHED)
			hd_runs_print_resume(run);
	} else {
		st = stop_process(settings, run, &status, process);
	}
	if (process >= 0)
		close(process);
	return st;
}
