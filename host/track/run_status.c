/* SPDX-License-Identifier: Apache-2.0 */
/* A run's status.json, and whether its process is still there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/json.h"
#include "host/track/run.h"

const char *hd_run_state_word(hd_run_state state)
{
	static const char *const words[] = {
#define X(name, word) word,
	        HD_RUN_STATES(X)
#undef X
	};
	return words[state];
}

/* Clock ticks since boot at which a process began (proc(5), stat, field 22); -1 where there is none. */
static int64_t process_start(int64_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
	FILE *from = fopen(path, "r");
	size_t bytes = from ? fread(text, 1, sizeof text - 1, from) : 0;
	if (from)
		fclose(from);
	text[bytes] = 0;
	/* the second field is a name in brackets that may hold anything; the third is Z for one that has ended */
	const char *at = strrchr(text, ')');
	if (!at || at[1] != ' ' || at[2] == 'Z')
		return -1;
	at += 2;
	for (int field = 3; at && field < 22; field++)
		at = (at = strchr(at, ' ')) ? at + 1 : NULL;
	return at ? strtoll(at, NULL, 10) : -1;
}

void hd_run_status_this_process(hd_run_status *status)
{
	status->pid = getpid();
	status->pid_start = process_start(status->pid);
	status->host[0] = 0;
	gethostname(status->host, sizeof status->host - 1);
}

bool hd_run_status_is_alive(const hd_run_status *status)
{
	char host[256] = "";
	gethostname(host, sizeof host - 1);
	return !strcmp(host, status->host) && status->pid > 0 && process_start(status->pid) == status->pid_start;
}

static int64_t integer(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

hd_status hd_run_status_read(hd_run_status *out, const hd_run *run)
{
	json_t *object;
	char state[16], host[256] = "";
	*out = (hd_run_status){0};
	hd_status st = hd_run_read_json(&object, run, "status.json");
	if (st == HD_OK && !object)
		st = hd_fail(HD_E_DATA, "%s: no status.json", run->folder);
	if (st != HD_OK)
		return st;
	snprintf(state, sizeof state, "%s", hd_json_text(object, "state"));
	while (out->state < HD_RUN_DIED && strcmp(state, hd_run_state_word(out->state)) != 0)
		out->state++;
	snprintf(out->host, sizeof out->host, "%s", hd_json_text(object, "host"));
	snprintf(out->message, sizeof out->message, "%s", hd_json_text(object, "message"));
	out->pid = integer(object, "pid");
	out->pid_start = integer(object, "pid_start");
	out->start_ms = integer(object, "start_ms");
	out->end_ms = integer(object, "end_ms");
	out->attempts = integer(object, "attempts");
	out->epoch = integer(object, "epoch");
	out->epochs = integer(object, "epochs");
	out->step = integer(object, "step");
	json_decref(object);
	gethostname(host, sizeof host - 1);
	if (out->state == HD_RUN_DIED)
		return hd_fail(HD_E_DATA, "%s/status.json: '%s' is no state", run->folder, state);
	if (out->state == HD_RUN_RUNNING && !strcmp(host, out->host) && !hd_run_status_is_alive(out))
		out->state = HD_RUN_DIED;
	return HD_OK;
}

hd_status hd_run_status_write(const hd_run *run, const hd_run_status *s)
{
	/* a file's name in it may be any bytes */
	json_t *message = json_string(s->message);
	if (!message)
		message = json_string("failed; the message is not UTF-8");
	json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "state",
	        hd_run_state_word(s->state), "host", s->host, "pid", (json_int_t)s->pid, "pid_start",
	        (json_int_t)s->pid_start, "start_ms", (json_int_t)s->start_ms, "end_ms", (json_int_t)s->end_ms,
	        "attempts", (json_int_t)s->attempts, "epoch", (json_int_t)s->epoch, "epochs", (json_int_t)s->epochs,
	        "step", (json_int_t)s->step, "message", message);
	hd_status st = object ? hd_run_write_json(run, "status.json", object)
	                      : hd_fail(HD_E_MEMORY, "out of host memory for the run's status");
	json_decref(object);
	return st;
}
