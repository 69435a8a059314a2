/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/memory.h"

static hd_status io_error(const char *path, const char *what)
{
	return hd_fail(HD_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static hd_status write_all(int fd, const char *path, const hd_span *span)
{
	for (size_t done = 0; done < span->bytes;) {
		ssize_t wrote = write(fd, (const char *)span->data + done, span->bytes - done);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return io_error(path, "write");
		done += (size_t)wrote;
	}
	return HD_OK;
}

static hd_status sync_folder(const char *path)
{
	hd_status st;
	char *copy = NULL;
	HD_TRY(hd_strdup(&copy, path));
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		st = io_error(path, "sync the folder of");
	if (fd >= 0)
		close(fd);
done:
	free(copy);
	return st;
}

/* A device or pipe (/dev/stdout) cannot be replaced by a file. */
static hd_status write_through(const char *path, const hd_span *spans, size_t count)
{
	hd_status st = HD_OK;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return io_error(path, "open");
	for (size_t i = 0; i < count && st == HD_OK; i++)
		st = write_all(fd, path, &spans[i]);
	close(fd);
	return st;
}

hd_status hd_file_write(const char *path, const hd_span *spans, size_t count, int durable)
{
	hd_status st;
	char *temporary = NULL;
	int fd = -1;
	bool made = false;
	struct stat info;
	if (stat(path, &info) == 0 && (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode)))
		return write_through(path, spans, count);
	HD_TRY(hd_sprintf(&temporary, "%s.tmp%ld", path, (long)getpid()));
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		st = io_error(path, "create");
		goto done;
	}
	made = true;
	for (size_t i = 0; i < count; i++)
		HD_TRY(write_all(fd, path, &spans[i]));
	if (durable && fsync(fd) != 0) {
		st = io_error(path, "sync");
		goto done;
	}
	if (rename(temporary, path) != 0) {
		st = io_error(path, "replace");
		goto done;
	}
	made = false;
	if (durable)
		HD_TRY(sync_folder(path));
done:
	if (fd >= 0)
		close(fd);
	if (made)
		unlink(temporary);
	free(temporary);
	return st;
}

hd_status hd_file_map(const void **data, size_t *bytes, const char *path)
{
	hd_status st = HD_OK;
	struct stat info;
	*data = NULL;
	*bytes = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return io_error(path, "open");
	if (fstat(fd, &info) != 0) {
		st = io_error(path, "read");
	} else if (!S_ISREG(info.st_mode)) {
		st = hd_fail(HD_E_IO, "%s: not a regular file", path);
	} else if (info.st_size > 0) {
		void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map == MAP_FAILED) {
			st = io_error(path, "map");
		} else {
			*data = map;
			*bytes = (size_t)info.st_size;
		}
	}
	close(fd);
	return st;
}

void hd_file_unmap(const void *data, size_t bytes)
{
	if (data)
		munmap((void *)data, bytes);
}

hd_status hd_make_folders(const char *path)
{
	hd_status st;
	char *copy = NULL;
	HD_TRY(hd_strdup(&copy, path));
	for (char *slash = copy + (copy[0] != 0);; slash++) {
		slash = strchr(slash, '/');
		if (slash)
			*slash = 0;
		if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
			st = io_error(copy, "make the folder");
			goto done;
		}
		if (!slash)
			break;
		*slash = '/';
	}
	struct stat info;
	if (stat(path, &info) == 0 && !S_ISDIR(info.st_mode))
		st = hd_fail(HD_E_IO, "%s: is not a folder", path);
done:
	free(copy);
	return st;
}
