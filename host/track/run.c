/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/run.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/sha256.h"
#include "host/common/version.h"

#define MOST_OF_A_NAME 200 /* bytes of a folder's name; file systems take 255 */
#define MOST_OF_ONE_NAME 100000
#define COMMAND_BYTES (1 << 20)

int64_t hd_time_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

hd_status hd_run_path(char **out, const hd_run *run, const char *name)
{
	return hd_sprintf(out, "%s/%s", run->folder, name);
}

void hd_run_free(hd_run *run)
{
	if (!run)
		return;
	free(run->experiment);
	free(run->name);
	free(run->folder);
	*run = (hd_run){0};
}

/* ---- JSON files ---- */

hd_status hd_run_write_json(const hd_run *run, const char *name, const json_t *value)
{
	hd_status st;
	char *path = NULL;
	HD_TRY(hd_run_path(&path, run, name));
	HD_TRY(hd_json_write(path, value, 17));
done:
	free(path);
	return st;
}

hd_status hd_run_read_json(json_t **out, const hd_run *run, const char *name)
{
	hd_status st;
	char *path;
	json_error_t error;
	*out = NULL;
	HD_TRY(hd_run_path(&path, run, name));
	if (access(path, F_OK) == 0) {
		*out = json_load_file(path, JSON_DECODE_ANY, &error);
		if (!*out)
			st = hd_fail(HD_E_DATA, "%s:%d: %s", path, error.line, error.text);
	}
	free(path);
done:
	return st;
}

/* ---- the command ---- */

/* Settings whose value is nobody's business. */
static bool is_secret_flag(const char *word)
{
	static const char *const names[] = {"s3_access_key", "s3_secret_key"};
	char name[64];
	if (strncmp(word, "--", 2) != 0)
		return false;
	snprintf(name, sizeof name, "%s", word + 2);
	for (char *at = name; *at; at++)
		*at = (char)(*at == '-' ? '_' : *at);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return false;
}

/* A word as a shell takes it. */
static void put_word(FILE *to, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+";
	if (*word && strspn(word, plain) == strlen(word)) {
		fputs(word, to);
		return;
	}
	fputc('\'', to);
	for (; *word; word++)
		fputs(*word == '\'' ? "'\\''" : (const char[]){*word, 0}, to);
	fputc('\'', to);
}

static hd_status put_argument(FILE *to, const char *word, bool is_value_of_secret)
{
	hd_status st = HD_OK;
	char *shown = NULL;
	const char *equals = strchr(word, '=');
	if (is_value_of_secret) {
		fputs("***", to);
	} else if (equals && is_secret_flag(word)) {
		fprintf(to, "%.*s=***", (int)(equals - word), word);
	} else if (equals && !strncmp(word, "--", 2)) {
		HD_TRY(hd_redact(&shown, equals + 1));
		fprintf(to, "%.*s=", (int)(equals - word), word);
		put_word(to, shown);
	} else {
		HD_TRY(hd_redact(&shown, word));
		put_word(to, shown);
	}
done:
	free(shown);
	return st;
}

/* This process's own command line (proc(5)), for it is asked for far from main. */
static hd_status write_command(const hd_run *run)
{
	hd_status st;
	char *words = NULL, *text = NULL, *path = NULL;
	size_t bytes = 0, read = 0;
	bool secret = false;
	FILE *from = fopen("/proc/self/cmdline", "r"), *to = open_memstream(&text, &bytes);
	HD_TRY(to ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the command"));
	HD_TRY(hd_alloc(&words, COMMAND_BYTES + 1, 1));
	read = from ? fread(words, 1, COMMAND_BYTES, from) : 0;
	for (const char *word = words; word < words + read; word += strlen(word) + 1) {
		if (word != words)
			fputc(' ', to);
		HD_TRY(put_argument(to, word, secret));
		secret = is_secret_flag(word) && !strchr(word, '=');
	}
	fputc('\n', to);
	HD_TRY(hd_run_path(&path, run, "command.txt"));
done:
	if (to && fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_MEMORY, "out of host memory for the command");
	if (from)
		fclose(from);
	if (st == HD_OK)
		st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(path);
	free(text);
	free(words);
	return st;
}

/* ---- create, open ---- */

/* A name as that of a folder. */
static hd_status folder_name(char **out, const char *name)
{
	hd_status st = hd_sprintf(out, "%.*s", MOST_OF_A_NAME, name);
	for (char *at = st == HD_OK ? *out : NULL; at && *at; at++)
		if (*at == '/' || (unsigned char)*at < 0x20 || (at == *out && *at == '.'))
			*at = '_';
	return st;
}

static hd_status draw_id(char id[HD_RUN_ID])
{
	unsigned char bytes[16];
	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return hd_fail(HD_E_FAILED, "no random numbers from the system: %s", strerror(errno));
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	return HD_OK;
}

/* Takes the first of NAME, NAME_2, NAME_3, ... that is free, and makes it. */
static hd_status make_folder(hd_run *run, const char *parent, const char *name)
{
	hd_status st;
	char *base = NULL;
	HD_TRY(folder_name(&base, name));
	for (int n = 1; n < MOST_OF_ONE_NAME; n++) {
		char number[16] = "";
		if (n > 1)
			snprintf(number, sizeof number, "_%d", n);
		free(run->folder);
		free(run->name);
		run->folder = run->name = NULL;
		HD_TRY(hd_sprintf(&run->folder, "%s/%s%s", parent, base, number));
		HD_TRY(hd_sprintf(&run->name, "%s%s", name, number));
		if (mkdir(run->folder, 0777) == 0)
			goto done;
		if (errno != EEXIST)
			break;
	}
	st = hd_fail(HD_E_IO, "%s: cannot make the run's folder: %s", run->folder, strerror(errno));
done:
	free(base);
	return st;
}

static hd_status write_identity(const hd_run *run)
{
	char host[256] = "", folder[4096] = "";
	const struct passwd *user = getpwuid(geteuid());
	gethostname(host, sizeof host - 1);
	json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s}", "id", run->id, "name", run->name,
	        "experiment", run->experiment, "created_ms", (json_int_t)run->created_ms, "version", hd_version,
	        "commit", hd_commit, "host", host, "user", user ? user->pw_name : "", "working_directory",
	        getcwd(folder, sizeof folder) ? folder : "");
	hd_status st = object ? hd_run_write_json(run, "run.json", object)
	                      : hd_fail(HD_E_USAGE, "the run's name or experiment is not UTF-8");
	json_decref(object);
	return st;
}

hd_status hd_run_create(hd_run *out, const char *runs_dir, const char *experiment, const char *prefix, const char *name)
{
	hd_status st;
	char stamp[32], *parent = NULL, *within = NULL, *wanted = NULL;
	time_t now = time(NULL);
	struct tm local;
	*out = (hd_run){.created_ms = hd_time_ms()};
	if (name && !strcmp(name, HD_RUN_LATEST))
		return hd_fail(HD_E_USAGE, "run_name: '%s' is what the link to the newest run is called", name);
	if (!experiment[0] || (!prefix[0] && (!name || !name[0])))
		return hd_fail(HD_E_USAGE, "%s is empty; a run has a name and an experiment",
		        experiment[0] ? "run_name_prefix" : "experiment_name");
	strftime(stamp, sizeof stamp, "%Y%m%d_%H%M%S", localtime_r(&now, &local));
	HD_TRY(draw_id(out->id));
	HD_TRY(hd_strdup(&out->experiment, experiment));
	HD_TRY(folder_name(&within, experiment));
	HD_TRY(hd_sprintf(&parent, "%s/%s", runs_dir, within));
	HD_TRY(name && name[0] ? hd_strdup(&wanted, name) : hd_sprintf(&wanted, "%s_%s", prefix, stamp));
	HD_TRY(hd_make_folders(parent));
	HD_TRY(make_folder(out, parent, wanted));
	HD_TRY(write_command(out));
	HD_TRY(write_identity(out));
done:
	free(wanted);
	free(parent);
	free(within);
	if (st != HD_OK)
		hd_run_free(out);
	return st;
}

static hd_status take_text(char **out, const json_t *object, const char *key, const char *folder)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? hd_strdup(out, text) : hd_fail(HD_E_DATA, "%s/run.json: no '%s'", folder, key);
}

hd_status hd_run_open(hd_run *out, const char *folder)
{
	hd_status st;
	json_t *object = NULL;
	*out = (hd_run){0};
	HD_TRY(hd_strdup(&out->folder, folder));
	HD_TRY(hd_run_read_json(&object, out, "run.json"));
	if (!object) {
		st = hd_fail(HD_E_DATA, "%s: no run: run.json is not there", folder);
		goto done;
	}
	HD_TRY(take_text(&out->name, object, "name", folder));
	HD_TRY(take_text(&out->experiment, object, "experiment", folder));
	const char *id = json_string_value(json_object_get(object, "id"));
	if (!id || strlen(id) != HD_RUN_ID - 1) {
		st = hd_fail(HD_E_DATA, "%s/run.json: no id of %d digits", folder, HD_RUN_ID - 1);
		goto done;
	}
	memcpy(out->id, id, HD_RUN_ID);
	out->created_ms = json_integer_value(json_object_get(object, "created_ms"));
done:
	json_decref(object);
	if (st != HD_OK)
		hd_run_free(out);
	return st;
}

hd_status hd_run_mark_latest(const hd_run *run)
{
	hd_status st;
	char *link = NULL;
	const char *name = strrchr(run->folder, '/') + 1;
	HD_TRY(hd_sprintf(&link, "%.*s" HD_RUN_LATEST, (int)(name - run->folder), run->folder));
	HD_TRY(hd_link_replace(link, name));
done:
	free(link);
	return st;
}

void hd_run_remove(const hd_run *run)
{
	static const char *const files[] = {"status.json", "command.txt", "run.json"};
	char *path;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		if (hd_run_path(&path, run, files[i]) == HD_OK) {
			unlink(path);
			free(path);
		}
	}
	if (hd_run_path(&path, run, "checkpoints") == HD_OK) {
		/* a folder, or a link to one that is not ours */
		if (unlink(path) != 0)
			rmdir(path);
		free(path);
	}
	rmdir(run->folder);
	/* the experiment's, where this was its first */
	if (hd_sprintf(&path, "%.*s", (int)(strrchr(run->folder, '/') - run->folder), run->folder) == HD_OK) {
		rmdir(path);
		free(path);
	}
}
