/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that forwards while a run trains, and `track push`. Beside training it asks at most once a second, so that
 * a server on the same machine takes nothing from it that can be felt.
 */
#include "host/track/mlflow_sender.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/common/wait.h"
#include "host/track/mlflow_forward.h"

#define EVERY_S 1.0
#define IDLE_S 9.0 /* more, while nobody wakes it */
#define LONGEST_WAIT_S 30.0
#define FIRST_WAIT_S 1.0
#define SAY_EVERY_S 10.0
#define LEAST_S 2.0          /* at the end, whoever asks to stop */
#define TRIES 4              /* at the end, without getting on */
#define MANY_POINTS 5000     /* from here on `track push` shows how far it is */
#define PUSH_PATIENCE_S 60.0 /* with a server that fails */
#define PUSH_NOBODY_S 15.0   /* and where nobody is */
#define PUSH_WAIT_S 5.0

struct hd_sender {
	hd_forward forward;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool finishing, woken; /* guarded by mutex, as are these */
	double finish_s, patience_s;
	bool away_said; /* of the thread alone, as are these */
	char said[1024];
	double wait_s, said_s;
};

static double next_wait(double *wait_s, double longest_s, const hd_forward *f)
{
	*wait_s = *wait_s == 0 ? FIRST_WAIT_S : 2 * *wait_s < longest_s ? 2 * *wait_s : longest_s;
	double wait = *wait_s * (0.5 + 0.5 * hd_chance());
	return wait > f->retry_after_s ? wait : f->retry_after_s;
}

/* ---- the thread ---- */

static _Thread_local hd_sender *mine;

static bool is_finishing(hd_sender *s)
{
	pthread_mutex_lock(&s->mutex);
	bool finishing = s->finishing;
	pthread_mutex_unlock(&s->mutex);
	return finishing;
}

/* SIGTERM and SIGINT are blocked, and nobody takes them while the end is waited for. */
static bool is_told_to_stop(void)
{
	sigset_t pending;
	return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* When patience ends: no request has been done since and nothing moves, or somebody asks for it. */
static bool is_out_of_patience(hd_sender *s)
{
	const hd_forward *f = &s->forward;
	pthread_mutex_lock(&s->mutex);
	bool finishing = s->finishing;
	double begun = s->finish_s, last = begun, patience = s->patience_s;
	pthread_mutex_unlock(&s->mutex);
	double moved = hd_mlflow_moved_s(f->client);
	last = f->progress_s > last ? f->progress_s : last;
	last = moved > last ? moved : last;
	last = hd_s3_moved_s() > last ? hd_s3_moved_s() : last;
	double now = hd_now_s();
	/* who starts trainings sends the signal more than once at times */
	return finishing && (now - last > patience || (now - begun > LEAST_S && is_told_to_stop()));
}

/* Asked all through transfers, which makes it the place to say that they go on. */
static bool stop_mine(void)
{
	hd_sender *s = mine;
	if (!s || !is_finishing(s))
		return false;
	if (s->said_s == 0) {
		s->said_s = hd_now_s();
	} else if (hd_now_s() - s->said_s > SAY_EVERY_S) {
		s->said_s = hd_now_s();
		hd_message("tracking: sending what is left; %lld points and %zu files are there",
		        (long long)s->forward.state.points, json_object_size(s->forward.state.artifacts));
	}
	return is_out_of_patience(s);
}

static void say(hd_sender *s)
{
	const hd_forward *f = &s->forward;
	if (f->end == HD_MLFLOW_DONE) {
		if (s->away_said)
			hd_message("tracking: %s is back", hd_mlflow_shown(f->client));
		s->away_said = false;
		s->said[0] = 0;
	} else if (f->end == HD_MLFLOW_AWAY) {
		if (!s->away_said)
			hd_warn("tracking: %s; the run's folder keeps everything until the server is back", f->problem);
		s->away_said = true;
	} else if (strcmp(s->said, f->problem) != 0) {
		hd_warn("tracking: %s; the run's folder keeps everything", f->problem);
		snprintf(s->said, sizeof s->said, "%s", f->problem);
	}
}

/* One pass; *wait is how long to wait before the next one. */
static hd_status pass(hd_sender *s, bool whole, double *wait)
{
	hd_status st;
	bool ours;
	hd_forward *f = &s->forward;
	*wait = EVERY_S;
	HD_TRY(hd_forward_begin(f, &ours));
	if (ours)
		HD_TRY(hd_forward_pass(f, whole));
	say(s);
	if (f->end == HD_MLFLOW_DONE)
		s->wait_s = 0;
	else
		*wait = next_wait(&s->wait_s, LONGEST_WAIT_S, f);
done:
	if (st == HD_E_INTERRUPTED) {
		f->end = HD_MLFLOW_AWAY;
		snprintf(f->problem, sizeof f->problem, "%s: it did not all go in the time there was",
		        hd_mlflow_shown(f->client));
	} else if (st != HD_OK) {
		f->end = HD_MLFLOW_REFUSED;
		snprintf(f->problem, sizeof f->problem, "%s", hd_error_text());
		say(s);
		*wait = next_wait(&s->wait_s, LONGEST_WAIT_S, f);
	}
	return st;
}

/* Until the time is over; or the end has come, or somebody wakes it, where it shall look for that. */
static void wait_for(hd_sender *s, double seconds, bool for_end, bool for_more)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	int64_t ns = until.tv_nsec + (int64_t)(seconds * 1e9);
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	pthread_mutex_lock(&s->mutex);
	while (!(for_end && s->finishing) && !(for_more && s->woken) &&
	        pthread_cond_timedwait(&s->changed, &s->mutex, &until) == 0)
		continue;
	pthread_mutex_unlock(&s->mutex);
}

/*
 * Sends all that is left. An answer that was lost is asked for again; a server that was away already, or where nobody
 * is, is not waited for.
 */
static void finish(hd_sender *s)
{
	const hd_forward *f = &s->forward;
	double wait, progress_s = f->progress_s;
	int tries = s->away_said ? 1 : TRIES;
	for (;;) {
		hd_status st = pass(s, true, &wait);
		bool locked_out = st == HD_OK && f->lock_fd < 0;
		bool lost = st == HD_OK && f->end == HD_MLFLOW_AWAY && !f->unreachable;
		tries = f->progress_s > progress_s ? TRIES : tries - 1;
		progress_s = f->progress_s;
		if (!(locked_out || (lost && tries > 0)) || is_out_of_patience(s))
			break;
		wait_for(s, wait < EVERY_S ? wait : EVERY_S, false, false);
	}
}

static void *run(void *context)
{
	hd_sender *s = context;
	double wait;
	mine = s;
	while (!is_finishing(s)) {
		pthread_mutex_lock(&s->mutex);
		s->woken = false;
		pthread_mutex_unlock(&s->mutex);
		(void)pass(s, false, &wait);
		wait_for(s, wait, true, false);
		if (!s->forward.more)
			wait_for(s, IDLE_S, true, true);
	}
	finish(s);
	return NULL;
}

/* All signals stay with the threads of training, which ask for them. */
static hd_status start_thread(hd_sender *s)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? hd_fail(HD_E_FAILED, "cannot start a thread that sends to the tracking server: %s",
	                       strerror(error))
	             : HD_OK;
}

static void free_sender(hd_sender *s)
{
	hd_forward_close(&s->forward);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

hd_status hd_sender_start(hd_sender **out, const hd_run *run, const char *uri, const hd_settings *settings)
{
	hd_status st;
	hd_sender *s = NULL;
	pthread_condattr_t monotonic;
	*out = NULL;
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	pthread_mutex_init(&s->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	HD_TRY(hd_forward_open(&s->forward, run, uri, settings, stop_mine));
	HD_TRY(start_thread(s));
	*out = s;
	s = NULL;
done:
	if (s)
		free_sender(s);
	return st;
}

void hd_sender_wake(hd_sender *s)
{
	pthread_mutex_lock(&s->mutex);
	if (!s->woken)
		pthread_cond_signal(&s->changed);
	s->woken = true;
	pthread_mutex_unlock(&s->mutex);
}

void hd_sender_finish(hd_sender *s, hd_sent *out, double patience_s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->mutex);
	s->finishing = true;
	s->finish_s = hd_now_s();
	s->patience_s = patience_s;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	pthread_join(s->thread, NULL);
	hd_forward *f = &s->forward;
	hd_status st = f->lock_fd < 0 ? hd_sender_state(out, f->run) : hd_forward_tell(out, f->run, &f->state);
	if (st != HD_OK)
		snprintf(out->problem, sizeof out->problem, "%s", hd_error_text());
	if (!out->all && f->problem[0])
		snprintf(out->problem, sizeof out->problem, "%s", f->problem);
	free_sender(s);
}

hd_status hd_sender_state(hd_sent *out, const hd_run *run)
{
	hd_mlflow_state state;
	*out = (hd_sent){0};
	hd_status st = hd_mlflow_state_read(&state, run);
	if (st == HD_OK)
		st = hd_forward_tell(out, run, &state);
	hd_mlflow_state_free(&state);
	return st;
}

/* ---- by hand ---- */

/* Passes until all is there, the server refuses, or it stays away. */
static hd_status push_patiently(hd_forward *f)
{
	hd_status st;
	double begun = hd_now_s(), wait_s = 0;
	bool said = false;
	for (;;) {
		HD_TRY(hd_forward_pass(f, true));
		double last = f->progress_s > begun ? f->progress_s : begun, wait = next_wait(&wait_s, PUSH_WAIT_S, f);
		if (f->end != HD_MLFLOW_AWAY)
			break;
		double patience = f->unreachable ? PUSH_NOBODY_S : PUSH_PATIENCE_S;
		if (hd_now_s() + wait - last > patience) {
			st = hd_fail(HD_E_IO, "%s; it stayed away for %.0f s", f->problem, hd_now_s() - last);
			goto done;
		}
		if (!said)
			hd_message("%s; trying again for up to %.0f s", f->problem, patience);
		said = true;
		if (!hd_wait(wait, hd_stop_requested)) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted");
			goto done;
		}
	}
	if (f->end == HD_MLFLOW_REFUSED)
		st = hd_fail(HD_E_FAILED, "%s", f->problem);
done:
	return st;
}

hd_status hd_sender_push(hd_sent *out, const hd_run *run, const char *uri, const hd_settings *settings)
{
	hd_status st;
	hd_forward f = {.lock_fd = -1};
	bool ours = false;
	*out = (hd_sent){0};
	HD_TRY(hd_forward_open(&f, run, uri, settings, hd_stop_requested));
	HD_TRY(hd_forward_begin(&f, &ours));
	if (!ours) {
		st = hd_fail(HD_E_USAGE, "%s: another process sends this run; wait until it is done", run->folder);
		goto done;
	}
	HD_TRY(hd_forward_tell(out, run, &f.state));
	if (out->points_left >= MANY_POINTS)
		f.bar = hd_progress_start(run->name, "points", out->points_left);
	f.bar_begin = f.state.points;
	HD_TRY(push_patiently(&f));
done:
	hd_progress_end(f.bar);
	if (ours) {
		/* the error is what sending ended with */
		char *problem = strdup(st == HD_OK ? "" : hd_error_text());
		if (hd_forward_tell(out, run, &f.state) == HD_OK && problem && *problem)
			snprintf(out->problem, sizeof out->problem, "%s", problem);
		if (st != HD_OK && problem)
			(void)hd_fail(st, "%s", problem);
		free(problem);
	}
	hd_forward_close(&f);
	return st;
}
