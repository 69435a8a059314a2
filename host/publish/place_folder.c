/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions in a folder. One publisher at a time holds the lock (flock on .publish.lock); a version is gathered in
 * .publishing and renamed when all of it is on the disk; what an earlier publisher left there goes first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/publish/place.h"

#define LOCK ".publish.lock"
#define STAGING ".publishing"
#define TEXT_BYTES ((off_t)4 << 20)

static hd_status io_error(const char *path, const char *what)
{
	return hd_fail(HD_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* ---- reading ---- */

static hd_status note_files(hd_place_list *out, const char *folder, const char *version)
{
	hd_status st = HD_OK;
	char *path = NULL, *name = NULL;
	DIR *dir = NULL;
	HD_TRY(hd_sprintf(&path, "%s/%s", folder, version));
	dir = opendir(path);
	for (const struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
		struct stat info;
		if (fstatat(dirfd(dir), e->d_name, &info, 0) != 0 || !S_ISREG(info.st_mode))
			continue;
		free(name);
		HD_TRY(hd_sprintf(&name, "%s/%s", version, e->d_name));
		HD_TRY(hd_place_note(out, name, info.st_size));
	}
done:
	if (dir)
		closedir(dir);
	free(name);
	free(path);
	return st;
}

static hd_status list(hd_place_list *out, hd_place *p)
{
	hd_status st = HD_OK;
	hd_publish_version version;
	DIR *dir = opendir(p->folder);
	if (!dir)
		return errno == ENOENT ? HD_OK : io_error(p->folder, "list");
	for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
		if (hd_publish_version_parse(&version, e->d_name, strlen(e->d_name)))
			HD_TRY(note_files(out, p->folder, e->d_name));
done:
	closedir(dir);
	return st;
}

static hd_status read_name(char **out, hd_place *p, const char *name)
{
	hd_status st;
	struct stat info;
	char *path = NULL, *text = NULL;
	FILE *from = NULL;
	HD_TRY(hd_sprintf(&path, "%s/%s", p->folder, name));
	from = fopen(path, "rb");
	if (!from) {
		st = errno == ENOENT || errno == ENOTDIR ? HD_OK : io_error(path, "open");
		goto done;
	}
	if (fstat(fileno(from), &info) != 0 || info.st_size > TEXT_BYTES) {
		st = hd_fail(HD_E_DATA, "%s: is none of this program's texts", path);
		goto done;
	}
	HD_TRY(hd_alloc(&text, (size_t)info.st_size + 1, 1));
	if (fread(text, 1, (size_t)info.st_size, from) != (size_t)info.st_size) {
		st = io_error(path, "read");
		goto done;
	}
	*out = text;
	text = NULL;
done:
	if (from)
		fclose(from);
	free(text);
	free(path);
	return st;
}

static hd_status latest(char **out, hd_place *p)
{
	hd_status st;
	char *path = NULL, target[256];
	*out = NULL;
	HD_TRY(hd_sprintf(&path, "%s/" HD_PLACE_LATEST, p->folder));
	ssize_t n = readlink(path, target, sizeof target - 1);
	if (n < 0) {
		st = errno == ENOENT || errno == ENOTDIR
		             ? HD_OK
		             : hd_fail(HD_E_DATA, "%s: is no symbolic link; move it out of the way", path);
		goto done;
	}
	while (n > 0 && target[n - 1] == '/')
		n--;
	target[n] = 0;
	HD_TRY(hd_strdup(out, target));
done:
	free(path);
	return st;
}

/* ---- writing ---- */

static void remove_staging(const hd_place *p)
{
	DIR *dir = p->staging ? opendir(p->staging) : NULL;
	for (const struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir))
		unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
	if (p->staging)
		rmdir(p->staging);
}

static void close_folder(hd_place *p)
{
	remove_staging(p);
	if (p->lock >= 0)
		close(p->lock);
	p->lock = -1;
}

static hd_status take_lock(hd_place *p)
{
	hd_status st;
	char *path = NULL;
	if (p->lock >= 0)
		return HD_OK;
	HD_TRY(hd_make_folders(p->folder));
	HD_TRY(hd_sprintf(&path, "%s/" LOCK, p->folder));
	p->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (p->lock < 0)
		st = io_error(path, "create");
	else if (flock(p->lock, LOCK_EX | LOCK_NB) != 0)
		st = errno == EWOULDBLOCK
		             ? hd_fail(HD_E_IO, "%s: another publisher is at work here; try again when it is done",
		                       p->folder)
		             : io_error(path, "lock");
done:
	free(path);
	return st;
}

static hd_status begin(bool *taken, hd_place *p, const char *version, const char *manifest)
{
	(void)manifest;
	hd_status st;
	char *path = NULL;
	struct stat info;
	*taken = false;
	HD_TRY(take_lock(p));
	HD_TRY(hd_sprintf(&path, "%s/%s", p->folder, version));
	if (lstat(path, &info) == 0) {
		*taken = true;
		goto done;
	}
	if (!p->staging)
		HD_TRY(hd_sprintf(&p->staging, "%s/" STAGING, p->folder));
	remove_staging(p);
	if (mkdir(p->staging, 0755) != 0)
		st = io_error(p->staging, "make the folder");
done:
	free(path);
	return st;
}

static hd_status copy_file(const char *to, const hd_package_file *file)
{
	hd_status st;
	char its[HD_SHA256_HEX_BYTES];
	HD_TRY(hd_file_copy(to, file->path, 1));
	HD_TRY(hd_sha256_file(its, to));
	if (strcmp(its, file->sha256) != 0)
		st = hd_fail(HD_E_IO, "%s: changed while it was copied; run the same command again", file->path);
done:
	return st;
}

static hd_status put(bool *taken, hd_place *p, const char *version, const hd_package_file *file)
{
	(void)version;
	*taken = false;
	char *path = NULL;
	hd_status st = hd_sprintf(&path, "%s/%s", p->staging, file->name);
	if (st == HD_OK)
		st = file->path ? copy_file(path, file)
		                : hd_file_write(path, &(hd_span){file->text, (size_t)file->bytes}, 1, 1);
	free(path);
	return st;
}

static hd_status finish(bool *taken, hd_place *p, const char *version, const char *manifest)
{
	hd_status st;
	char *path = NULL, *name = NULL;
	HD_TRY(hd_sprintf(&name, "%s/" HD_PUBLISH_MANIFEST, p->staging));
	HD_TRY(hd_sprintf(&path, "%s/%s", p->folder, version));
	HD_TRY(hd_file_write(name, &(hd_span){manifest, strlen(manifest)}, 1, 1));
	HD_TRY(hd_sync_folder(p->staging));
	/* a folder takes the place of an empty one alone */
	if (rename(p->staging, path) == 0) {
		free(p->staging);
		p->staging = NULL;
		st = hd_sync_folder(p->folder);
	} else if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) {
		*taken = true;
	} else {
		st = io_error(path, "put in place");
	}
done:
	free(path);
	free(name);
	return st;
}

static hd_status move_latest(hd_place *p, const char *version)
{
	hd_status st;
	char *path = NULL;
	struct stat info;
	HD_TRY(take_lock(p));
	HD_TRY(hd_sprintf(&path, "%s/" HD_PLACE_LATEST, p->folder));
	if (lstat(path, &info) == 0 && !S_ISLNK(info.st_mode)) {
		st = hd_fail(HD_E_DATA, "%s: is no symbolic link; move it out of the way", path);
		goto done;
	}
	HD_TRY(hd_link_replace(path, version));
	st = hd_sync_folder(p->folder);
done:
	free(path);
	return st;
}

const hd_place_kind hd_place_folder = {.list = list,
        .read = read_name,
        .latest = latest,
        .move_latest = move_latest,
        .begin = begin,
        .put = put,
        .finish = finish,
        .close = close_folder};
