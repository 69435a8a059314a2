/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/tune_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "heimdall/tuning.tsv"
#define WAIT_STEP_US 50000
#define WAIT_STEPS 1200
#define HEADER "# machine\toperation\tdtype\tsizes\tway\tours_us\tway_us\n"

bool hd_cuda_tune_file_name(char *path, size_t bytes)
{
	const char *given = getenv("HEIMDALL_TUNING"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int length = -1;
	if (given && *given)
		length = snprintf(path, bytes, "%s", given);
	else if (cache && *cache == '/') /* others are to be left alone (XDG base directories 0.8) */
		length = snprintf(path, bytes, "%s/" NAME, cache);
	else if (home && *home == '/')
		length = snprintf(path, bytes, "%s/.cache/" NAME, home);
	return length > 0 && (size_t)length < bytes;
}

bool hd_cuda_tune_file_find(const char *path, const char *key, int nth, char *way, size_t bytes)
{
	char *line = NULL;
	size_t capacity = 0, key_length = strlen(key);
	bool found = false;
	*way = '\0';
	FILE *file = fopen(path, "r");
	while (file && !found && getline(&line, &capacity, file) > 0) {
		if (strncmp(line, key, key_length) != 0 || line[key_length] != '\t' || nth-- > 0)
			continue;
		const char *start = line + key_length + 1;
		size_t length = strcspn(start, "\t\n");
		found = true;
		if (length < bytes) {
			memcpy(way, start, length);
			way[length] = '\0';
		}
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

/* Makes the folders of a file's path. */
static void make_folders(const char *path)
{
	char folder[PATH_MAX];
	if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
		return;
	for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(folder, 0777); /* that it cannot be made shows when the file is opened */
		*slash = '/';
	}
}

static bool copy_text(FILE *to, const char *path)
{
	char block[4096];
	size_t count, last = 0;
	FILE *from = fopen(path, "r");
	if (!from)
		return fputs(HEADER, to) >= 0;
	while ((count = fread(block, 1, sizeof block, from)) > 0) {
		fwrite(block, 1, count, to);
		last = count;
	}
	/* a line that was cut off must not swallow the next */
	if (last && block[last - 1] != '\n')
		fputc('\n', to);
	bool whole = !ferror(from) && !ferror(to);
	fclose(from);
	return whole;
}

bool hd_cuda_tune_file_add(const char *path, const char *line, char *why, size_t bytes)
{
	char temporary[PATH_MAX];
	make_folders(path);
	if (snprintf(temporary, sizeof temporary, "%s.%ld.part", path, (long)getpid()) >= (int)sizeof temporary) {
		snprintf(why, bytes, "%s: the name is too long", path);
		return false;
	}
	FILE *file = fopen(temporary, "w");
	bool good = file != NULL && copy_text(file, path) && fprintf(file, "%s\n", line) > 0 && fflush(file) == 0 &&
	            fsync(fileno(file)) == 0;
	if (file && fclose(file) != 0)
		good = false;
	good = good && rename(temporary, path) == 0;
	if (!good) {
		snprintf(why, bytes, "%s: %s", path, strerror(errno));
		unlink(temporary);
	}
	return good;
}

int hd_cuda_tune_file_lock(const char *path)
{
	char name[PATH_MAX];
	make_folders(path);
	if (snprintf(name, sizeof name, "%s.lock", path) >= (int)sizeof name)
		return -1;
	int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	for (int step = 0; lock >= 0 && step < WAIT_STEPS; step++) {
		if (flock(lock, LOCK_EX | LOCK_NB) == 0)
			return lock;
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		usleep(WAIT_STEP_US);
	}
	if (lock >= 0)
		close(lock);
	return -1;
}

void hd_cuda_tune_file_unlock(int lock)
{
	if (lock >= 0)
		close(lock);
}
