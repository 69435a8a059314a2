/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FOLDER/ab/abcdef....SIZE.ETAG: hash of the URL, bytes, ETag with its odd characters as %XX. FOLDER/lock is held by
 * the process that removes. Names that begin with "new." are in the making; one that nobody holds a lock on was left by
 * a process that ended.
 */
#include "host/common/text.h"
#include "host/store/object_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/store/sigv4.h"

#define HASH_DIGITS 40
#define SHARD_DIGITS 2
#define ETAG_MAX 180   /* encoded; a file's name has at most 255 bytes */
#define LOOK_AGAIN 256 /* commits; other processes fill the folder too */
#define KEEP_SHARE 0.9 /* of the limit after removing, so that not every commit has to look */
#define TRIES 16

struct hd_object_cache {
	char *folder;
	int64_t limit_bytes;
	pthread_mutex_t mutex; /* guards what follows */
	int64_t used_bytes;    /* at the last look, and what came since */
	int commits;           /* since the last look */
	atomic_uint next;      /* number of the next file in the making */
};

static hd_status cannot(const char *what, const char *path)
{
	return hd_fail(HD_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* ---- names ---- */

static hd_status hash_of(char out[HASH_DIGITS + 1], const hd_object_name *name)
{
	char *text = NULL, full[HD_SHA256_HEX_BYTES];
	hd_status st = hd_sprintf(&text, "%s\n%s\n%s", name->endpoint, name->bucket, name->key);
	if (st == HD_OK)
		st = hd_sha256(full, text, strlen(text));
	if (st == HD_OK)
		snprintf(out, HASH_DIGITS + 1, "%.*s", HASH_DIGITS, full);
	free(text);
	return st;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool decode(char *text)
{
	char *to = text;
	for (const char *c = text; *c; c++) {
		if (*c != '%') {
			*to++ = *c;
			continue;
		}
		int high = hex_digit(c[1]), low = high < 0 ? -1 : hex_digit(c[2]);
		if (low < 0)
			return false;
		*to++ = (char)(high * 16 + low);
		c += 2;
	}
	*to = 0;
	return true;
}

/* "HASH.SIZE.ETAG" of that hash (or any, where it is NULL); etag has the length of name at least. */
static bool read_name(int64_t *bytes, char *etag, const char *name, const char *hash)
{
	char *end;
	if (strlen(name) < HASH_DIGITS + 4 || name[HASH_DIGITS] != '.' ||
	        (hash && strncmp(name, hash, HASH_DIGITS) != 0))
		return false;
	*bytes = strtoll(name + HASH_DIGITS + 1, &end, 10);
	if (*end != '.' || *bytes < 0)
		return false;
	strcpy(etag, end + 1);
	return decode(etag);
}

/* ---- finding ---- */

static void mark_used(int fd)
{
	/* the time of access alone, and also where the file system does not keep it up by itself */
	const struct timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
	if (futimens(fd, times) != 0)
		errno = 0; /* another user's file: it goes earlier, that is all */
}

/* Opens and locks a copy; false where it is gone or is not all there. */
static bool hold(hd_cached *out, const char *path, int64_t bytes)
{
	struct stat info;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* removed between open and lock: the lock is on a file without a name */
	if (flock(fd, LOCK_SH) != 0 || fstat(fd, &info) != 0 || info.st_nlink == 0 || info.st_size != bytes) {
		close(fd);
		return false;
	}
	mark_used(fd);
	out->fd = fd;
	return true;
}

static hd_status newest_of(char **out, char **etag, int64_t *bytes, const char *shard, const char *hash)
{
	hd_status st = HD_OK;
	time_t newest = 0;
	DIR *folder = opendir(shard);
	if (!folder)
		return errno == ENOENT ? HD_OK : cannot("read", shard);
	for (const struct dirent *entry; (entry = readdir(folder));) {
		char text[256];
		int64_t size;
		struct stat info;
		if (!read_name(&size, text, entry->d_name, hash) ||
		        fstatat(dirfd(folder), entry->d_name, &info, 0) != 0 || info.st_size != size)
			continue;
		if (*out && info.st_mtim.tv_sec < newest)
			continue;
		free(*out);
		free(*etag);
		*out = *etag = NULL;
		newest = info.st_mtim.tv_sec;
		*bytes = size;
		HD_TRY(hd_sprintf(out, "%s/%s", shard, entry->d_name));
		HD_TRY(hd_strdup(etag, text));
	}
done:
	closedir(folder);
	return st;
}

hd_status hd_object_cache_find(hd_object_cache *c, hd_cached *out, const hd_object_name *name)
{
	hd_status st;
	char hash[HASH_DIGITS + 1], *shard = NULL;
	int64_t bytes = 0;
	*out = (hd_cached){.fd = -1};
	HD_TRY(hash_of(hash, name));
	HD_TRY(hd_sprintf(&shard, "%s/%.*s", c->folder, SHARD_DIGITS, hash));
	HD_TRY(newest_of(&out->path, &out->etag, &bytes, shard, hash));
	if (out->path && !hold(out, out->path, bytes))
		hd_cached_release(out);
done:
	free(shard);
	if (st != HD_OK)
		hd_cached_release(out);
	return st;
}

void hd_cached_release(hd_cached *cached)
{
	if (cached->fd >= 0)
		close(cached->fd);
	free(cached->path);
	free(cached->etag);
	*cached = (hd_cached){.fd = -1};
}

/* ---- making ---- */

/* Whether the file that is open has a name still: a process that cleans up may have taken it before the lock was on. */
static bool has_name(int fd)
{
	struct stat info;
	return fstat(fd, &info) == 0 && info.st_nlink > 0;
}

hd_status hd_object_cache_begin(hd_object_cache *c, hd_caching *out, const hd_object_name *name)
{
	hd_status st;
	char hash[HASH_DIGITS + 1], *shard = NULL;
	*out = (hd_caching){.cache = c, .name = *name, .fd = -1};
	HD_TRY(hash_of(hash, name));
	HD_TRY(hd_sprintf(&shard, "%s/%.*s", c->folder, SHARD_DIGITS, hash));
	HD_TRY(hd_make_folders(shard));
	for (int i = 0; i < TRIES; i++) {
		HD_TRY(hd_sprintf(
		        &out->path, "%s/new.%.8s.%ld.%u", shard, hash, (long)getpid(), atomic_fetch_add(&c->next, 1)));
		out->fd = open(out->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (out->fd < 0 && errno != EEXIST) {
			st = cannot("create", out->path);
			goto done;
		}
		if (out->fd >= 0 && flock(out->fd, LOCK_EX) == 0 && has_name(out->fd))
			goto done;
		if (out->fd >= 0)
			close(out->fd);
		out->fd = -1;
		free(out->path);
		out->path = NULL;
	}
	st = hd_fail(HD_E_IO, "%s: cannot create a file, %d times", shard, TRIES);
done:
	free(shard);
	if (st != HD_OK)
		hd_object_cache_drop(out);
	return st;
}

void hd_object_cache_drop(hd_caching *m)
{
	if (m->fd >= 0) {
		unlink(m->path);
		close(m->fd);
	}
	free(m->path);
	*m = (hd_caching){.fd = -1};
}

static hd_status final_path(char **out, const hd_caching *m, const char *etag, int64_t bytes)
{
	hd_status st;
	char hash[HASH_DIGITS + 1], *encoded = NULL;
	HD_TRY(hash_of(hash, &m->name));
	HD_TRY(hd_percent_encode(&encoded, etag, false));
	if (strlen(encoded) > ETAG_MAX) {
		hd_fail(HD_E_DATA, "s3://%s/%s: its ETag is too long to keep a copy by", m->name.bucket, m->name.key);
		st = HD_E_DATA;
		goto done;
	}
	HD_TRY(hd_sprintf(
	        out, "%s/%.*s/%s.%lld.%s", m->cache->folder, SHARD_DIGITS, hash, hash, (long long)bytes, encoded));
done:
	free(encoded);
	return st;
}

/* Whether it is time to see how much there is. */
static bool is_due(hd_object_cache *c, int64_t bytes)
{
	pthread_mutex_lock(&c->mutex);
	c->used_bytes += bytes;
	bool due = ++c->commits >= LOOK_AGAIN || c->used_bytes > c->limit_bytes;
	pthread_mutex_unlock(&c->mutex);
	return due && c->limit_bytes >= 0;
}

static hd_status lock_folder(int *out, const hd_object_cache *c, int how)
{
	char *path = NULL;
	hd_status st = hd_sprintf(&path, "%s/lock", c->folder);
	if (st != HD_OK)
		return st;
	*out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (*out < 0 || flock(*out, how) != 0)
		st = cannot("lock", path);
	free(path);
	return st;
}

/* Gives the file in the making its name, or opens what another has put there first and may have in use. */
static hd_status put_in_place(hd_caching *m, hd_cached *out, const char *path, int64_t bytes)
{
	hd_status st;
	int lock = -1;
	/* from an exclusive lock to a shared one there is a moment without any; nobody may remove in it */
	HD_TRY(lock_folder(&lock, m->cache, LOCK_SH));
	for (int i = 0; i < TRIES && out->fd < 0; i++) {
		if (link(m->path, path) == 0) {
			unlink(m->path);
			out->fd = m->fd;
			m->fd = -1;
			if (flock(out->fd, LOCK_SH) != 0)
				st = cannot("lock", path);
		} else if (errno != EEXIST) {
			st = cannot("name", path);
			goto done;
		} else if (!hold(out, path, bytes)) {
			unlink(path); /* not all there */
		}
	}
	if (out->fd < 0)
		st = hd_fail(HD_E_IO, "%s: cannot be put in place, %d times", path, TRIES);
done:
	if (lock >= 0)
		close(lock);
	return st;
}

hd_status hd_object_cache_commit(hd_caching *m, hd_cached *out, const char *etag)
{
	hd_status st;
	struct stat info;
	char *path = NULL;
	*out = (hd_cached){.fd = -1};
	if (fstat(m->fd, &info) != 0) {
		st = cannot("read", m->path);
		goto done;
	}
	HD_TRY(final_path(&path, m, etag, info.st_size));
	HD_TRY(hd_strdup(&out->etag, etag));
	if (is_due(m->cache, info.st_size))
		HD_TRY(hd_object_cache_trim(m->cache));
	HD_TRY(put_in_place(m, out, path, info.st_size));
	out->path = path;
	path = NULL;
done:
	free(path);
	hd_object_cache_drop(m);
	if (st != HD_OK)
		hd_cached_release(out);
	return st;
}

/* ---- removing ---- */

typedef struct copy {
	char *path;
	int64_t bytes;
	struct timespec used;
	bool making;
} copy;

typedef struct copies {
	copy *items;
	size_t count, capacity;
	int64_t bytes;
} copies;

static void free_copies(copies *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->items[i].path);
	free(all->items);
}

static hd_status list_shard(copies *all, const char *shard)
{
	hd_status st = HD_OK;
	DIR *folder = opendir(shard);
	if (!folder)
		return HD_OK; /* another one removed it, or it is no folder */
	for (const struct dirent *entry; (entry = readdir(folder));) {
		char text[256];
		int64_t size;
		struct stat info;
		bool making = !strncmp(entry->d_name, "new.", 4);
		if ((!making && !read_name(&size, text, entry->d_name, NULL)) ||
		        fstatat(dirfd(folder), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
		        !S_ISREG(info.st_mode))
			continue; /* nothing of ours is never touched */
		HD_TRY(hd_grow(&all->items, &all->capacity, all->count + 1, sizeof *all->items));
		copy *c = &all->items[all->count];
		HD_TRY(hd_sprintf(&c->path, "%s/%s", shard, entry->d_name));
		c->bytes = info.st_size;
		c->used = info.st_atim;
		c->making = making;
		all->bytes += info.st_size;
		all->count++;
	}
done:
	closedir(folder);
	return st;
}

static hd_status list_copies(copies *all, const char *path)
{
	hd_status st = HD_OK;
	char *shard = NULL;
	DIR *folder = opendir(path);
	if (!folder)
		return errno == ENOENT ? HD_OK : cannot("read", path);
	for (const struct dirent *entry; (entry = readdir(folder));) {
		if (strlen(entry->d_name) != SHARD_DIGITS || entry->d_name[0] == '.')
			continue;
		HD_TRY(hd_sprintf(&shard, "%s/%s", path, entry->d_name));
		HD_TRY(list_shard(all, shard));
		free(shard);
		shard = NULL;
	}
done:
	free(shard);
	closedir(folder);
	return st;
}

/* Those in the making first, which are gone at once where nobody makes them; then by the time of their last use. */
static int by_use(const void *a, const void *b)
{
	const copy *x = a, *y = b;
	if (x->making != y->making)
		return x->making ? -1 : 1;
	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

/* True where it is gone. */
static bool remove_unused(const copy *c)
{
	int fd = open(c->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	bool gone = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(c->path) == 0;
	close(fd);
	return gone;
}

static void remove_oldest(copies *all, int64_t limit)
{
	if (all->count)
		qsort(all->items, all->count, sizeof *all->items, by_use);
	int64_t goal = all->bytes > limit ? (int64_t)(KEEP_SHARE * (double)limit) : limit;
	for (size_t i = 0; i < all->count; i++) {
		if ((all->items[i].making || all->bytes > goal) && remove_unused(&all->items[i]))
			all->bytes -= all->items[i].bytes;
	}
}

hd_status hd_object_cache_trim(hd_object_cache *c)
{
	hd_status st;
	copies all = {0};
	int lock = -1;
	if (c->limit_bytes < 0)
		return HD_OK;
	HD_TRY(lock_folder(&lock, c, LOCK_EX));
	HD_TRY(list_copies(&all, c->folder));
	remove_oldest(&all, c->limit_bytes);
	pthread_mutex_lock(&c->mutex);
	c->used_bytes = all.bytes;
	c->commits = 0;
	pthread_mutex_unlock(&c->mutex);
done:
	if (lock >= 0)
		close(lock);
	free_copies(&all);
	return st;
}

/* ---- open and close ---- */

hd_status hd_object_cache_open(hd_object_cache **out, const char *folder, int64_t limit_bytes)
{
	hd_status st;
	hd_object_cache *c = NULL;
	*out = NULL;
	HD_TRY(hd_make_folders(folder));
	HD_TRY(hd_alloc(&c, 1, sizeof *c));
	pthread_mutex_init(&c->mutex, NULL);
	c->limit_bytes = limit_bytes;
	HD_TRY(hd_strdup(&c->folder, folder));
	HD_TRY(hd_object_cache_trim(c));
	*out = c;
	c = NULL;
done:
	if (c) {
		pthread_mutex_destroy(&c->mutex);
		free(c->folder);
		free(c);
	}
	return st;
}

void hd_object_cache_close(hd_object_cache *c)
{
	if (!c)
		return;
	/* a folder that cannot be cleaned is cleaned at the next opening */
	if (hd_object_cache_trim(c) != HD_OK)
		errno = 0;
	pthread_mutex_destroy(&c->mutex);
	free(c->folder);
	free(c);
}
