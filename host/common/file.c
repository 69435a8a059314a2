/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/memory.h"

#define COPY_BYTES ((size_t)1 << 30)

static hd_status io_error(const char *path, const char *what)
{
	return hd_fail(HD_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

hd_status hd_sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	hd_status st = fd < 0 || fsync(fd) != 0 ? io_error(path, "sync the folder") : HD_OK;
	if (fd >= 0)
		close(fd);
	return st;
}

static hd_status sync_folder_of(const char *path)
{
	hd_status st;
	char *copy = NULL;
	HD_TRY(hd_strdup(&copy, path));
	HD_TRY(hd_sync_folder(dirname(copy)));
done:
	free(copy);
	return st;
}

hd_status hd_new_file_open(hd_new_file *out, const char *path)
{
	hd_status st;
	struct stat info;
	*out = (hd_new_file){.fd = -1};
	HD_TRY(hd_strdup(&out->path, path));
	if (stat(path, &info) == 0 && (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode))) {
		out->fd = open(path, O_WRONLY | O_CLOEXEC);
		st = out->fd < 0 ? io_error(path, "open") : HD_OK;
		goto done;
	}
	HD_TRY(hd_sprintf(&out->temporary, "%s.tmp%ld", path, (long)getpid()));
	out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	st = out->fd < 0 ? io_error(path, "create") : HD_OK;
done:
	if (st != HD_OK)
		hd_new_file_close(out);
	return st;
}

hd_status hd_new_file_append(hd_new_file *file, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t wrote = write(file->fd, (const char *)data + done, bytes - done);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return io_error(file->path, "write");
		done += (size_t)wrote;
	}
	return HD_OK;
}

hd_status hd_new_file_rewrite(hd_new_file *file, const void *data, size_t bytes)
{
	if (lseek(file->fd, 0, SEEK_SET) != 0)
		return io_error(file->path, "write again");
	hd_status st = hd_new_file_append(file, data, bytes);
	if (st == HD_OK && lseek(file->fd, 0, SEEK_END) < 0)
		st = io_error(file->path, "write again");
	return st;
}

hd_status hd_new_file_commit(hd_new_file *file, int durable)
{
	if (!file->temporary)
		return HD_OK;
	if (durable && fsync(file->fd) != 0)
		return io_error(file->path, "sync");
	if (rename(file->temporary, file->path) != 0)
		return io_error(file->path, "replace");
	free(file->temporary);
	file->temporary = NULL;
	return durable ? sync_folder_of(file->path) : HD_OK;
}

void hd_new_file_close(hd_new_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	if (file->temporary && file->fd >= 0)
		unlink(file->temporary);
	free(file->temporary);
	free(file->path);
	*file = (hd_new_file){.fd = -1};
}

hd_status hd_file_write(const char *path, const hd_span *spans, size_t count, int durable)
{
	hd_status st;
	hd_new_file file;
	HD_TRY(hd_new_file_open(&file, path));
	for (size_t i = 0; i < count; i++)
		HD_TRY(hd_new_file_append(&file, spans[i].data, spans[i].bytes));
	HD_TRY(hd_new_file_commit(&file, durable));
done:
	hd_new_file_close(&file);
	return st;
}

hd_status hd_file_copy(const char *to, const char *from, int durable)
{
	hd_status st;
	hd_new_file file = {.fd = -1};
	ssize_t n;
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return io_error(from, "open");
	HD_TRY(hd_new_file_open(&file, to));
	while ((n = sendfile(file.fd, fd, NULL, COPY_BYTES)) > 0)
		continue;
	HD_TRY(n < 0 ? io_error(to, "write") : HD_OK);
	HD_TRY(hd_new_file_commit(&file, durable));
done:
	hd_new_file_close(&file);
	close(fd);
	return st;
}

hd_status hd_link_replace(const char *path, const char *target)
{
	hd_status st;
	char *fresh = NULL;
	HD_TRY(hd_sprintf(&fresh, "%s.tmp%ld", path, (long)getpid()));
	unlink(fresh);
	if (symlink(target, fresh) != 0 || rename(fresh, path) != 0) {
		st = io_error(path, "make the link");
		unlink(fresh);
	}
done:
	free(fresh);
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

void hd_file_forget(const void *data, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (page - (uintptr_t)data % page) % page;
	if (bytes > skip + page)
		madvise((char *)data + skip, (bytes - skip) / page * page, MADV_DONTNEED);
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
