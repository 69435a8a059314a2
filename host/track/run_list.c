/* SPDX-License-Identifier: Apache-2.0 */
/* The runs of a folder, and the one that is meant. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/settings_table.h"
#include "host/track/run.h"

#define ID_DIGITS 4 /* of an id's beginning, at least */

typedef struct list {
	hd_run *runs;
	size_t count, capacity;
} list;

void hd_run_list_free(hd_run *runs, size_t count)
{
	for (size_t i = 0; runs && i < count; i++)
		hd_run_free(&runs[i]);
	free(runs);
}

/* Calls for each folder within a folder; one that is not there has none. */
static hd_status each_folder(const char *path, hd_status (*each)(void *context, const char *path), void *context)
{
	hd_status st = HD_OK;
	char *within = NULL;
	struct stat info;
	DIR *folder = opendir(path);
	const struct dirent *entry;
	while (folder && (entry = readdir(folder))) {
		/* the link would give a run twice */
		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, HD_RUN_LATEST))
			continue;
		free(within);
		HD_TRY(hd_sprintf(&within, "%s/%s", path, entry->d_name));
		if (stat(within, &info) == 0 && S_ISDIR(info.st_mode))
			HD_TRY(each(context, within));
	}
done:
	free(within);
	if (folder)
		closedir(folder);
	return st;
}

static hd_status add_run(void *context, const char *path)
{
	hd_status st;
	list *all = context;
	hd_run run;
	if (hd_run_open(&run, path) != HD_OK)
		return HD_OK;
	HD_TRY(hd_grow(&all->runs, &all->capacity, all->count + 1, sizeof *all->runs));
	all->runs[all->count++] = run;
	return HD_OK;
done:
	hd_run_free(&run);
	return st;
}

static hd_status add_experiment(void *context, const char *path)
{
	return each_folder(path, add_run, context);
}

static int older(const void *a, const void *b)
{
	const hd_run *x = a, *y = b;
	if (x->created_ms != y->created_ms)
		return x->created_ms < y->created_ms ? -1 : 1;
	return strcmp(x->folder, y->folder);
}

hd_status hd_run_list(hd_run **out, size_t *count, const char *runs_dir, const char *experiment)
{
	list all = {0};
	size_t kept = 0;
	*out = NULL;
	*count = 0;
	hd_status st = each_folder(runs_dir, add_experiment, &all);
	if (st != HD_OK) {
		hd_run_list_free(all.runs, all.count);
		return st;
	}
	for (size_t i = 0; i < all.count; i++) {
		if (experiment && strcmp(experiment, all.runs[i].experiment) != 0)
			hd_run_free(&all.runs[i]);
		else
			all.runs[kept++] = all.runs[i];
	}
	if (kept)
		qsort(all.runs, kept, sizeof *all.runs, older);
	*out = all.runs;
	*count = kept;
	return HD_OK;
}

hd_status hd_run_newest(hd_run *out, const char *runs_dir, const char *experiment)
{
	hd_run *runs;
	size_t count;
	*out = (hd_run){0};
	hd_status st = hd_run_list(&runs, &count, runs_dir, experiment);
	if (st != HD_OK)
		return st;
	if (count) {
		*out = runs[count - 1];
		runs[count - 1] = (hd_run){0};
	} else {
		st = hd_fail(HD_E_DATA, "%s: no runs%s%s; --runs_dir names another folder", runs_dir,
		        experiment ? " of experiment " : "", experiment ? experiment : "");
	}
	hd_run_list_free(runs, count);
	return st;
}

static bool is_meant(const hd_run *run, const char *which)
{
	size_t digits = strlen(which), of_experiment = strlen(run->experiment);
	if (!strcmp(run->name, which) || !strcmp(run->id, which))
		return true;
	if (!strncmp(which, run->experiment, of_experiment) && which[of_experiment] == '/' &&
	        !strcmp(which + of_experiment + 1, run->name))
		return true;
	return digits >= ID_DIGITS && digits < HD_RUN_ID && !strncmp(run->id, which, digits);
}

static hd_status none_meant(const hd_run *runs, size_t count, const char *runs_dir, const char *which)
{
	hd_status st;
	const char **names = NULL, *near = NULL;
	HD_TRY(hd_alloc(&names, count, sizeof *names));
	for (size_t i = 0; i < count; i++)
		names[i] = runs[i].name;
	near = hd_nearest_name(which, names, count);
	st = hd_fail(HD_E_DATA, "no run '%s' among the %zu in %s%s%s%s", which, count, runs_dir,
	        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
done:
	free((void *)names);
	return st;
}

static hd_status several_meant(const hd_run *runs, size_t count, const char *which)
{
	char names[1024] = "";
	for (size_t i = 0; i < count; i++)
		if (is_meant(&runs[i], which))
			snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", names[0] ? ", " : "",
			        runs[i].folder);
	return hd_fail(HD_E_DATA, "'%s' means several runs, name one by its folder: %s", which, names);
}

hd_status hd_run_find(hd_run *out, const char *runs_dir, const char *which)
{
	hd_run *runs;
	size_t count, meant = 0, found = 0;
	struct stat info;
	*out = (hd_run){0};
	if (!strcmp(which, HD_RUN_LATEST))
		return hd_run_newest(out, runs_dir, NULL);
	if (stat(which, &info) == 0 && S_ISDIR(info.st_mode))
		return hd_run_open(out, which);
	hd_status st = hd_run_list(&runs, &count, runs_dir, NULL);
	if (st != HD_OK)
		return st;
	for (size_t i = 0; i < count; i++) {
		if (is_meant(&runs[i], which)) {
			meant++;
			found = i;
		}
	}
	if (meant == 1) {
		*out = runs[found];
		runs[found] = (hd_run){0};
	} else {
		st = meant ? several_meant(runs, count, which) : none_meant(runs, count, runs_dir, which);
	}
	hd_run_list_free(runs, count);
	return st;
}
