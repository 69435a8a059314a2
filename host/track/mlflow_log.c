/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points of metrics.log in batches. A batch begins where the acknowledged ones end and holds whole lines, so that one
 * whose answer was lost comes again with the same points, whoever sends it; the server's key is (name, time, step,
 * value), and what it has it does not take twice.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/track/mlflow_forward.h"
#include "host/track/mlflow_names.h"

#define MOST_FAILURES 6 /* answers of 500 to the same batch; then it is the batch */

/* ---- batches of anything ---- */

/* Whether a refusal is about what is in the batch. */
static bool is_about_items(const hd_forward *f, const hd_mlflow_answer *answer)
{
	if (answer->status == 500)
		return f->failures >= MOST_FAILURES;
	return answer->status == 413 || ((answer->status == 400 || answer->status == 422) && answer->code[0]);
}

static hd_status note_refused(hd_forward *f, const char *kind, const json_t *item)
{
	char what[HD_MLFLOW_NAME + 64];
	const char *key = json_string_value(json_object_get(item, "key"));
	const json_t *step = json_object_get(item, "step");
	if (step)
		snprintf(what, sizeof what, "%.*s %s, step %lld", (int)strlen(kind) - 1, kind, key,
		        (long long)json_integer_value(step));
	else
		snprintf(what, sizeof what, "%.*s %s", (int)strlen(kind) - 1, kind, key);
	f->end = HD_MLFLOW_DONE;
	return hd_mlflow_state_refuse(&f->state, what, f->problem);
}

static hd_status send_some(
        hd_forward *f, hd_mlflow_answer *answer, const char *kind, const json_t *items, size_t from, size_t count)
{
	hd_status st;
	json_t *some = json_array(), *body = NULL;
	for (size_t i = 0; some && i < count; i++)
		json_array_append(some, json_array_get(items, from + i));
	body = json_pack("{s:s, s:O}", "run_id", f->state.run_id, kind, some);
	HD_TRY(body ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	HD_TRY(hd_forward_ask(f, answer, "POST", "runs/log-batch", body));
	f->failures = answer->status == 500 ? f->failures + 1 : 0;
done:
	json_decref(body);
	json_decref(some);
	return st;
}

/* Pieces that are still to be sent, the next one last; each is half of one that was refused. */
typedef struct pieces {
	size_t from[32], count[32];
	int left;
	bool split, some_done;
} pieces;

static void push(pieces *p, size_t from, size_t count)
{
	p->from[p->left] = from;
	p->count[p->left++] = count;
}

/* What becomes of a piece that was not taken. *on: the others go on. */
static hd_status halve(hd_forward *f, pieces *p, bool *on, const hd_mlflow_answer *answer, const char *kind,
        const json_t *items, size_t from, size_t count)
{
	bool gone = false, failed = answer->status == 500;
	*on = is_about_items(f, answer) || (failed && p->split);
	/* a server that fails at everything is away; one that took something has a word on the rest */
	if (failed && count == 1 && !p->some_done)
		*on = false;
	if (!*on)
		return HD_OK;
	if (!p->split) {
		char why[sizeof f->problem];
		memcpy(why, f->problem, sizeof why);
		hd_status st = hd_forward_check_run(f, &gone);
		*on = st == HD_OK && !gone && f->end == HD_MLFLOW_DONE;
		if (!*on)
			return st;
		memcpy(f->problem, why, sizeof why);
	}
	p->split = true;
	if (count == 1)
		return note_refused(f, kind, json_array_get(items, from));
	f->end = HD_MLFLOW_DONE;
	push(p, from + count / 2, count - count / 2);
	push(p, from, count / 2);
	return HD_OK;
}

hd_status hd_forward_batch(hd_forward *f, const char *kind, const json_t *items)
{
	hd_status st = HD_OK;
	hd_mlflow_answer answer = {0};
	pieces p = {.left = 0};
	bool on = true;
	push(&p, 0, json_array_size(items));
	while (on && p.left > 0) {
		size_t from = p.from[--p.left], count = p.count[p.left];
		hd_mlflow_answer_free(&answer);
		HD_TRY(send_some(f, &answer, kind, items, from, count));
		if (f->end == HD_MLFLOW_DONE)
			p.some_done = true;
		else
			HD_TRY(halve(f, &p, &on, &answer, kind, items, from, count));
	}
done:
	hd_mlflow_answer_free(&answer);
	return st;
}

/* ---- points ---- */

/* As protobuf's JSON has it. */
static json_t *number(double value)
{
	if (isnan(value))
		return json_string("NaN");
	if (isinf(value))
		return json_string(value > 0 ? "Infinity" : "-Infinity");
	return json_real(value);
}

static hd_status add_line(json_t *batch, const hd_metrics_line *line)
{
	char name[HD_MLFLOW_NAME + 1];
	for (size_t i = 0; i < line->count; i++) {
		hd_mlflow_name(name, line->metrics[i].name);
		json_t *point = json_pack("{s:s, s:o, s:I, s:I}", "key", name, "value", number(line->metrics[i].value),
		        "timestamp", (json_int_t)line->time_ms, "step", (json_int_t)line->step);
		if (!point || json_array_append_new(batch, point) != 0)
			return hd_fail(HD_E_MEMORY, "out of host memory");
	}
	return HD_OK;
}

/* A log that is shorter than what was sent is another one: what comes again the server takes once. */
static hd_status open_log(hd_forward *f)
{
	hd_status st;
	char *path = NULL;
	struct stat about;
	HD_TRY(hd_run_path(&path, f->run, "metrics.log"));
	if (stat(path, &about) == 0 && about.st_size < f->state.offset)
		f->state.offset = f->state.points = 0;
	HD_TRY(hd_metrics_reader_open(&f->reader, path, f->state.offset));
done:
	free(path);
	return st;
}

void hd_forward_log_close(hd_forward *f)
{
	hd_metrics_reader_close(f->reader);
	json_decref(f->batch);
	f->reader = NULL;
	f->batch = NULL;
	f->has_ahead = false;
}

/* Whole lines up to the limit; stays NULL where there is none. A point takes 400 bytes at most, a batch 400 KB. */
static hd_status make_batch(hd_forward *f)
{
	hd_status st = HD_OK;
	json_t *batch = json_array();
	int64_t bad = hd_metrics_reader_bad(f->reader);
	HD_TRY(batch ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory"));
	for (;;) {
		if (!f->has_ahead) {
			f->ahead_begin = hd_metrics_reader_offset(f->reader);
			HD_TRY(hd_metrics_reader_next(f->reader, &f->ahead, &f->has_ahead));
		}
		if (!f->has_ahead || json_array_size(batch) + f->ahead.count > HD_MLFLOW_METRICS)
			break;
		HD_TRY(add_line(batch, &f->ahead));
		f->has_ahead = false;
	}
	f->batch_end = f->has_ahead ? f->ahead_begin : hd_metrics_reader_offset(f->reader);
	if (hd_metrics_reader_bad(f->reader) > bad) {
		f->state.bad_lines += hd_metrics_reader_bad(f->reader) - bad;
		hd_warn("%s/metrics.log: a line with a wrong checksum is left out", f->run->folder);
	}
	if (json_array_size(batch) > 0) {
		f->batch = batch;
		batch = NULL;
	}
done:
	json_decref(batch);
	return st;
}

hd_status hd_forward_log(hd_forward *f, bool whole)
{
	hd_status st = HD_OK;
	if (!f->reader)
		HD_TRY(open_log(f));
	do {
		if (!f->batch)
			HD_TRY(make_batch(f));
		if (!f->batch) {
			f->state.offset = f->batch_end; /* behind lines that are left out */
			break;
		}
		HD_TRY(hd_forward_batch(f, "metrics", f->batch));
		if (f->end != HD_MLFLOW_DONE)
			break;
		f->state.offset = f->batch_end;
		f->state.points += (int64_t)json_array_size(f->batch);
		json_decref(f->batch);
		f->batch = NULL;
		HD_TRY(hd_mlflow_state_write(&f->state, f->run));
		hd_progress_update(f->bar, f->state.points - f->bar_begin, NULL);
	} while (whole);
done:
	return st;
}
