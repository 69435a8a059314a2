/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data/feature_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/catalog.h"
#include "host/common/file.h"
#include "host/common/memory.h"

#define CODE_VERSION 3 /* raise when the same settings give other features */

typedef struct entry {
	uint64_t key;
	uint32_t checksum;
	int64_t slot;
} entry;

struct hd_feature_store {
	char *folder, *index_path;
	int fd;
	entry *entries; /* the first `sorted` by key, new ones behind them */
	size_t count, sorted, capacity;
	int64_t next_slot;
	size_t slot_bytes;
};

uint64_t hd_feature_key(const char *text)
{
	size_t n = strlen(text);
	return (uint64_t)hd_hash32(text, n, 0x5bd1e995u) << 32 | hd_hash32(text, n, 0);
}

static int by_key(const void *a, const void *b)
{
	const entry *x = a, *y = b;
	return (x->key > y->key) - (x->key < y->key);
}

void hd_feature_store_close(hd_feature_store *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s->entries);
	free(s->index_path);
	free(s->folder);
	free(s);
}

static void read_index(hd_feature_store *s)
{
	FILE *file = fopen(s->index_path, "r");
	entry e;
	struct stat info;
	if (!file)
		return;
	int64_t slots = fstat(s->fd, &info) == 0 ? info.st_size / (int64_t)s->slot_bytes : 0;
	while (fscanf(file, "%" SCNd64 " %" SCNx64 " %" SCNx32 "\n", &e.slot, &e.key, &e.checksum) == 3) {
		if (e.slot < 0 || e.slot >= slots ||
		        hd_grow(&s->entries, &s->capacity, s->count + 1, sizeof e) != HD_OK)
			continue;
		s->entries[s->count++] = e;
		s->next_slot = e.slot >= s->next_slot ? e.slot + 1 : s->next_slot;
	}
	fclose(file);
	if (s->count)
		qsort(s->entries, s->count, sizeof e, by_key);
	s->sorted = s->count;
}

static entry *find(const hd_feature_store *s, uint64_t key)
{
	const entry wanted = {.key = key};
	return s->sorted ? bsearch(&wanted, s->entries, s->sorted, sizeof wanted, by_key) : NULL;
}

hd_status hd_feature_store_open(hd_feature_store **out, const char *folder, const hd_feature_config *c)
{
	hd_status st;
	char settings[512], *data = NULL;
	hd_feature_store *s = NULL;
	int64_t H = hd_features_height(c), T = hd_features_kept_frames(c);
	*out = NULL;
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	s->fd = -1;
	s->slot_bytes = (size_t)(H * T) * sizeof(uint16_t);
	/* refuse_short belongs to it: a slot that is there would pass unseen */
	snprintf(settings, sizeof settings, "%d %.17g %d %d %d %d %.17g %.17g %d %d %d %d %d %d %d %d %d %d",
	        CODE_VERSION, c->sample_rate_hz, c->n_fft, c->hop_length, c->n_mels, c->frames, c->f_min_hz,
	        c->f_max_hz, (int)c->convention, (int)c->mel_scale, (int)c->mel_norm, (int)c->frame_mode,
	        c->frame_mode == HD_FRAMES_WINDOWS ? c->windows : 1, c->margin, (int)c->kind,
	        c->kind == HD_FEATURE_MFCC ? c->n_mfcc : 0, (int)c->resample, (int)c->refuse_short);
	HD_TRY(hd_sprintf(&s->folder, "%s/%016" PRIx64, folder, hd_feature_key(settings)));
	HD_TRY(hd_make_folders(s->folder));
	HD_TRY(hd_sprintf(&s->index_path, "%s/index", s->folder));
	HD_TRY(hd_sprintf(&data, "%s/features.f16", s->folder));
	s->fd = open(data, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (s->fd < 0) {
		st = hd_fail(HD_E_IO, "%s: cannot open the feature cache: %s; choose another folder with --cache_dir",
		        data, strerror(errno));
		goto done;
	}
	read_index(s);
	*out = s;
	s = NULL;
done:
	free(data);
	hd_feature_store_close(s);
	return st;
}

hd_status hd_feature_store_flush(hd_feature_store *s)
{
	hd_status st = HD_OK;
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the cache index");
	for (size_t i = 0; i < s->count; i++)
		fprintf(to, "%" PRId64 " %016" PRIx64 " %08" PRIx32 "\n", s->entries[i].slot, s->entries[i].key,
		        s->entries[i].checksum);
	fclose(to);
	if (fdatasync(s->fd) != 0)
		st = hd_fail(HD_E_IO, "%s: cannot sync the feature cache: %s", s->folder, strerror(errno));
	if (st == HD_OK)
		st = hd_file_write(s->index_path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}

bool hd_feature_store_load(const hd_feature_store *s, uint64_t key, uint16_t *db)
{
	const entry *e = find(s, key);
	if (!e)
		return false;
	ssize_t got = pread(s->fd, db, s->slot_bytes, (off_t)(e->slot * (int64_t)s->slot_bytes));
	return got == (ssize_t)s->slot_bytes && hd_hash32(db, s->slot_bytes, (uint32_t)key) == e->checksum;
}

hd_status hd_feature_store_save(hd_feature_store *s, uint64_t key, const uint16_t *db)
{
	hd_status st = hd_grow(&s->entries, &s->capacity, s->count + 1, sizeof *s->entries);
	if (st != HD_OK)
		return st;
	/* a damaged entry gets a new slot: the one it names may be another recording's */
	entry *damaged = find(s, key);
	entry *e = damaged ? damaged : &s->entries[s->count];
	int64_t slot = s->next_slot;
	if (pwrite(s->fd, db, s->slot_bytes, (off_t)(slot * (int64_t)s->slot_bytes)) != (ssize_t)s->slot_bytes)
		return hd_fail(HD_E_IO, "%s: cannot write the feature cache: %s; make room or choose --cache_dir",
		        s->folder, strerror(errno));
	*e = (entry){key, hd_hash32(db, s->slot_bytes, (uint32_t)key), slot};
	s->count += !damaged;
	s->next_slot++;
	return HD_OK;
}
