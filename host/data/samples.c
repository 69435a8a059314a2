/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings to samples (session, emission), receivers to channels, keys to splits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/catalog.h"
#include "host/common/memory.h"
#include "host/common/statistics.h"
#include "host/data/catalog_rows.h"
#include "host/data/folds.h"

#define SAME_POSITION_M 1.0
#define SEPARATOR "\x1f"
#define RATE_TOLERANCE 1e-4

uint32_t hd_hash32(const void *data, size_t bytes, uint32_t seed)
{
	const unsigned char *p = data;
	uint32_t h = 2166136261u ^ seed;
	for (size_t i = 0; i < bytes; i++)
		h = (h ^ p[i]) * 16777619u;
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	h *= 0xc2b2ae35u;
	return h ^ (h >> 16);
}

int hd_name_compare(const char *x, const char *y)
{
	char *end_x, *end_y;
	double nx = strtod(x, &end_x), ny = strtod(y, &end_y);
	bool number_x = end_x != x && !*end_x && isfinite(nx), number_y = end_y != y && !*end_y && isfinite(ny);
	if (number_x != number_y)
		return number_x ? -1 : 1;
	if (number_x && nx != ny)
		return nx < ny ? -1 : 1;
	return strcmp(x, y);
}

static int by_name(const void *a, const void *b)
{
	return hd_name_compare(*(char *const *)a, *(char *const *)b);
}

/* ---- receivers ---- */

static int find_receiver(const hd_samples *s, const char *name)
{
	for (int r = 0; r < s->R; r++)
		if (!strcmp(s->receivers[r], name))
			return r;
	return -1;
}

static hd_status add_receiver(hd_samples *s, size_t *capacity, const char *name, size_t length)
{
	hd_status st = hd_grow(&s->receivers, capacity, (size_t)s->R + 1, sizeof *s->receivers);
	if (st == HD_OK)
		st = hd_sprintf(&s->receivers[s->R], "%.*s", (int)length, name);
	s->R += st == HD_OK;
	return st;
}

static hd_status named_receivers(hd_samples *s, const char *list)
{
	size_t capacity = 0;
	for (const char *at = list; *at;) {
		size_t length = strcspn(at, ",");
		hd_status st = length ? add_receiver(s, &capacity, at, length) : HD_OK;
		if (st != HD_OK)
			return st;
		for (int r = 0; length && r + 1 < s->R; r++)
			if (!strcmp(s->receivers[r], s->receivers[s->R - 1]))
				return hd_fail(
				        HD_E_USAGE, "receivers: '%s' stands twice in '%s'", s->receivers[r], list);
		at += length + (at[length] == ',');
	}
	return s->R ? HD_OK : hd_fail(HD_E_USAGE, "receivers: '%s' names none", list);
}

/* Every receiver of the usable recordings, in natural order. */
static hd_status seen_receivers(hd_samples *s, const hd_catalog *catalog)
{
	size_t capacity = 0;
	for (size_t i = 0; i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		if (r->skip != HD_SKIP_NONE || find_receiver(s, r->receiver) >= 0)
			continue;
		hd_status st = add_receiver(s, &capacity, r->receiver, strlen(r->receiver));
		if (st != HD_OK)
			return st;
	}
	if (s->R)
		qsort(s->receivers, (size_t)s->R, sizeof *s->receivers, by_name);
	return HD_OK;
}

/* Drops the least used receivers beyond max, later ones first among equals. */
static hd_status keep_most_used(hd_samples *s, const hd_catalog *catalog, int max)
{
	size_t *use;
	hd_status st = hd_alloc(&use, (size_t)s->R, sizeof *use);
	for (size_t i = 0; st == HD_OK && i < catalog->count; i++)
		if (catalog->recordings[i].skip == HD_SKIP_NONE)
			use[find_receiver(s, catalog->recordings[i].receiver)]++;
	while (st == HD_OK && max > 0 && s->R > max) {
		int least = s->R - 1;
		for (int r = s->R - 1; r >= 0; r--)
			least = use[r] < use[least] ? r : least;
		free(s->receivers[least]);
		memmove(&s->receivers[least], &s->receivers[least + 1],
		        (size_t)(s->R - least - 1) * sizeof *s->receivers);
		memmove(&use[least], &use[least + 1], (size_t)(s->R - least - 1) * sizeof *use);
		s->R--;
	}
	free(use);
	return st;
}

static void free_receivers(hd_samples *s)
{
	for (int r = 0; r < s->R; r++)
		free(s->receivers[r]);
	free(s->receivers);
	s->receivers = NULL;
	s->R = 0;
}

static hd_status choose_receivers(hd_samples *s, hd_catalog *catalog, const hd_sample_config *config)
{
	hd_status st;
	HD_TRY(seen_receivers(s, catalog));
	s->receivers_seen = s->R;
	if (!strcmp(config->receivers, "auto")) {
		HD_TRY(keep_most_used(s, catalog, config->max_receivers));
	} else if (strcmp(config->receivers, "all") != 0) {
		free_receivers(s);
		HD_TRY(named_receivers(s, config->receivers));
	}
	for (size_t i = 0; i < catalog->count; i++)
		if (find_receiver(s, catalog->recordings[i].receiver) < 0)
			hd_recording_skip(&catalog->recordings[i], HD_SKIP_UNKNOWN_RECEIVER, "receiver '%s'",
			        catalog->recordings[i].receiver);
done:
	return st;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sessions of usable recordings: with the receivers taken, or (any) with any receiver. */
static hd_status count_sessions(size_t *out, const hd_catalog *catalog, bool any)
{
	const char **names;
	size_t n = 0;
	hd_status st = hd_alloc(&names, catalog->count, sizeof *names);
	*out = 0;
	for (size_t i = 0; st == HD_OK && i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		if (r->skip == HD_SKIP_NONE || (any && r->skip == HD_SKIP_UNKNOWN_RECEIVER))
			names[n++] = r->session;
	}
	if (n)
		qsort(names, n, sizeof *names, by_text);
	for (size_t i = 0; i < n; i++)
		*out += !i || strcmp(names[i], names[i - 1]) != 0;
	free(names);
	return st;
}

/* ---- rates ---- */

/* The rate most recordings have; 0 where none says. */
static hd_status majority_rate(double *out, const hd_catalog *catalog)
{
	double *rates;
	size_t n = 0, best = 0;
	hd_status st = hd_alloc(&rates, catalog->count, sizeof *rates);
	*out = 0;
	for (size_t i = 0; st == HD_OK && i < catalog->count; i++)
		if (catalog->recordings[i].skip == HD_SKIP_NONE && catalog->recordings[i].sample_rate_hz > 0)
			rates[n++] = catalog->recordings[i].sample_rate_hz;
	if (st == HD_OK)
		qsort(rates, n, sizeof *rates, hd_compare_doubles);
	for (size_t i = 0, run = 0; st == HD_OK && i < n; i++) {
		run = i && rates[i] == rates[i - 1] ? run + 1 : 1;
		if (run > best) {
			best = run;
			*out = rates[i];
		}
	}
	free(rates);
	return st;
}

bool hd_rate_differs(double a_hz, double b_hz)
{
	return fabs(a_hz - b_hz) > RATE_TOLERANCE * fmin(a_hz, b_hz);
}

static hd_status check_rates(hd_catalog *catalog, double rate)
{
	hd_status st = rate > 0 ? HD_OK : majority_rate(&rate, catalog);
	for (size_t i = 0; st == HD_OK && i < catalog->count; i++) {
		hd_recording *r = &catalog->recordings[i];
		if (r->sample_rate_hz > 0 && hd_rate_differs(r->sample_rate_hz, rate))
			hd_recording_skip(r, HD_SKIP_WRONG_RATE,
			        "%s: recorded at %g Hz, this run takes %g Hz (--sample_rate, or --resample %g)", r->iq,
			        r->sample_rate_hz, rate, rate);
	}
	return st;
}

/* ---- grouping ---- */

static const hd_catalog *sort_catalog; /* qsort has no context; guarded by being called from one thread at a time */

static int by_sample(const void *a, const void *b)
{
	int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
	const hd_recording *x = &sort_catalog->recordings[i], *y = &sort_catalog->recordings[j];
	int order = strcmp(x->session, y->session);
	if (!order)
		order = strcmp(x->emission, y->emission);
	return order ? order : (i > j) - (i < j);
}

static uint32_t sample_hash(const hd_recording *r)
{
	char key[HD_KEY_BYTES];
	int length = snprintf(key, sizeof key, "%s" SEPARATOR "%s", r->session, r->emission);
	return hd_hash32(key, length < HD_KEY_BYTES ? (size_t)length : HD_KEY_BYTES - 1, 0);
}

/* Adds a recording to the sample it belongs to. */
static void place(hd_samples *s, hd_sample *sample, hd_catalog *catalog, int64_t index)
{
	hd_recording *r = &catalog->recordings[index];
	int channel = find_receiver(s, r->receiver);
	if (hd_geo_distance_m(r->latitude_deg, r->longitude_deg, sample->latitude_deg, sample->longitude_deg) >
	        SAME_POSITION_M)
		hd_recording_skip(r, HD_SKIP_POSITIONS_DISAGREE,
		        "%s: %.6f, %.6f, but %.6f, %.6f earlier in this emission", r->iq, r->latitude_deg,
		        r->longitude_deg, sample->latitude_deg, sample->longitude_deg);
	else if (sample->recording[channel] >= 0)
		hd_recording_skip(r, HD_SKIP_DUPLICATE, "%s: receiver '%s' again in session '%s'", r->iq, r->receiver,
		        r->session);
	else
		sample->recording[channel] = index;
}

static hd_status group(hd_samples *s, hd_catalog *catalog)
{
	hd_status st;
	int64_t *order = NULL;
	size_t n = 0, count = 0;
	HD_TRY(hd_alloc(&order, catalog->count, sizeof *order));
	for (size_t i = 0; i < catalog->count; i++)
		if (catalog->recordings[i].skip == HD_SKIP_NONE)
			order[n++] = (int64_t)i;
	sort_catalog = catalog;
	if (n)
		qsort(order, n, sizeof *order, by_sample);
	HD_TRY(hd_alloc(&s->samples, n, sizeof *s->samples));
	HD_TRY(hd_alloc(&s->recording_pool, n * (size_t)s->R, sizeof *s->recording_pool));
	for (size_t k = 0; k < n; k++) {
		const hd_recording *r = &catalog->recordings[order[k]];
		const hd_recording *before = k ? &catalog->recordings[order[k - 1]] : NULL;
		if (!before || strcmp(before->session, r->session) != 0 || strcmp(before->emission, r->emission) != 0) {
			hd_sample *sample = &s->samples[count];
			*sample = (hd_sample){.id = (int32_t)count,
			        .key_hash = sample_hash(r),
			        .latitude_deg = r->latitude_deg,
			        .longitude_deg = r->longitude_deg,
			        .label_sigma_m = NAN,
			        .recording = s->recording_pool + count * (size_t)s->R};
			for (int c = 0; c < s->R; c++)
				sample->recording[c] = -1;
			count++;
		}
		s->samples[count - 1].label_sigma_m = fmax(s->samples[count - 1].label_sigma_m, r->label_sigma_m);
		place(s, &s->samples[count - 1], catalog, order[k]);
	}
	s->count = count;
done:
	free(order);
	return st;
}

/* ---- splits ---- */

static const char *const split_names[] = {
        "auto", "session", "source", "cell", "time", "column", "folds", "the catalogue"};

static const hd_recording *first_recording(const hd_samples *s, const hd_catalog *catalog, const hd_sample *sample)
{
	for (int c = 0; c < s->R; c++)
		if (sample->recording[c] >= 0)
			return &catalog->recordings[sample->recording[c]];
	return NULL;
}

static void split_key(
        char key[HD_KEY_BYTES], const hd_samples *s, const hd_recording *r, const hd_sample_config *config)
{
	double metre = M_PI / 180 * HD_EARTH_RADIUS_M;
	snprintf(key, HD_KEY_BYTES, "%s", r->session);
	switch (s->split_by) {
	case HD_SPLIT_BY_SOURCE:
		if (r->source)
			snprintf(key, HD_KEY_BYTES, "%s", r->source);
		break;
	case HD_SPLIT_BY_CELL: {
		double row = floor(r->latitude_deg * metre / config->cell_m);
		/* columns are cut along the row's own parallel, so that a cell has one size everywhere */
		double parallel = cos((row + 0.5) * config->cell_m / HD_EARTH_RADIUS_M);
		snprintf(key, HD_KEY_BYTES, "%.0f,%.0f", row,
		        floor(r->longitude_deg * metre * parallel / config->cell_m));
		break;
	}
	case HD_SPLIT_BY_TIME:
		if (isfinite(r->timestamp_s))
			snprintf(key, HD_KEY_BYTES, "%.0f", floor(r->timestamp_s / config->time_block_s));
		break;
	case HD_SPLIT_BY_COLUMN:
		hd_recording_text(key, r, config->split_column);
		break;
	default:
		break;
	}
}

static hd_split_by resolve_split(const hd_catalog *catalog, const hd_sample_config *config)
{
	bool given = false, sources = true;
	if (config->folds)
		return HD_SPLIT_BY_FOLDS;
	if (config->split_by != HD_SPLIT_BY_AUTO)
		return config->split_by;
	for (size_t i = 0; i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		given = given || (r->skip == HD_SKIP_NONE && r->split >= 0);
		sources = sources && (r->skip != HD_SKIP_NONE || r->source);
	}
	return given ? HD_SPLIT_BY_CATALOG : sources ? HD_SPLIT_BY_SOURCE : HD_SPLIT_BY_SESSION;
}

/* The split of `from` whose key hash is lowest is given to `to`, with all samples of that key. */
static void move_lowest(hd_samples *s, const uint32_t *hash, hd_split from, hd_split to)
{
	int64_t lowest = -1;
	for (size_t i = 0; i < s->count; i++)
		if (s->samples[i].split == from && (lowest < 0 || hash[i] < hash[lowest]))
			lowest = (int64_t)i;
	for (size_t i = 0; lowest >= 0 && i < s->count; i++)
		if (hash[i] == hash[lowest])
			s->samples[i].split = to;
}

static size_t count_split(const hd_samples *s, hd_split split)
{
	size_t n = 0;
	for (size_t i = 0; i < s->count; i++)
		n += s->samples[i].split == split;
	return n;
}

/* By the hash of the sample's key; *fixed where the catalogue or a fold decides. */
static hd_status choose_split(hd_split *out, bool *fixed, uint32_t hash, const hd_recording *r, hd_split_by split_by,
        const hd_folds *folds, const hd_sample_config *config)
{
	double u = hash / 4294967296.0, test = config->test_split;
	*fixed = false;
	if (split_by == HD_SPLIT_BY_CATALOG && r->split >= 0) {
		*fixed = true;
		*out = (hd_split)r->split;
		return HD_OK;
	}
	if (split_by == HD_SPLIT_BY_FOLDS) {
		int fold = hd_folds_find(folds, r);
		if (fold < 0)
			return hd_fail(HD_E_DATA, "%s: names no fold for session '%s'", config->folds, r->session);
		test = 0;
		if (fold == config->fold) {
			*fixed = true;
			*out = HD_TEST;
			return HD_OK;
		}
	}
	*out = u < test ? HD_TEST : u < test + config->validation_split ? HD_VAL : HD_TRAIN;
	return HD_OK;
}

static hd_status assign_splits(hd_samples *s, const hd_catalog *catalog, const hd_sample_config *config)
{
	hd_status st;
	uint32_t *hash = NULL;
	hd_folds folds = {0};
	bool several = false, any_fixed = false, fixed;
	HD_TRY(hd_alloc(&hash, s->count, sizeof *hash));
	s->split_by = resolve_split(catalog, config);
	if (s->split_by == HD_SPLIT_BY_COLUMN && !(config->split_column && config->split_column[0])) {
		st = hd_fail(HD_E_USAGE, "--split_by column: name it with --split_column");
		goto done;
	}
	if (config->folds)
		HD_TRY(hd_folds_read(&folds, config->folds));
	for (size_t i = 0; i < s->count; i++) {
		char key[HD_KEY_BYTES];
		const hd_recording *r = first_recording(s, catalog, &s->samples[i]);
		split_key(key, s, r, config);
		hash[i] = hd_hash32(key, strlen(key), (uint32_t)(config->seed ^ (config->seed >> 32)));
		HD_TRY(choose_split(&s->samples[i].split, &fixed, hash[i], r, s->split_by, &folds, config));
		several = several || hash[i] != hash[0];
		any_fixed = any_fixed || fixed;
	}
	if (s->split_by == HD_SPLIT_BY_FOLDS && !count_split(s, HD_TEST)) {
		st = hd_fail(HD_E_DATA, "%s: no sample is in fold %d", config->folds, config->fold);
		goto done;
	}
	if (config->validation_split > 0 && !several && !any_fixed && s->count)
		st = hd_fail(HD_E_DATA,
		        "all samples share one split key (split by %s): nothing can be held out; use another "
		        "--split_by or --validation_split 0 --test_split 0",
		        split_names[s->split_by]);
	/* few keys can leave a side empty: the key of the lowest hash moves over */
	if (st == HD_OK && config->validation_split > 0 && (!any_fixed || config->folds) && !count_split(s, HD_VAL))
		move_lowest(s, hash, count_split(s, HD_TRAIN) || config->folds ? HD_TRAIN : HD_TEST, HD_VAL);
	if (st == HD_OK && !any_fixed && !count_split(s, HD_TRAIN))
		move_lowest(s, hash, count_split(s, HD_TEST) ? HD_TEST : HD_VAL, HD_TRAIN);
done:
	hd_folds_free(&folds);
	free(hash);
	return st;
}

void hd_catalog_count_skips(size_t *counts, const hd_catalog *catalog)
{
	for (size_t i = 0; i < catalog->count; i++)
		counts[catalog->recordings[i].skip]++;
}

static hd_status nothing_left(const hd_catalog *catalog)
{
	size_t counts[HD_SKIP_COUNT] = {0};
	int most = HD_SKIP_NONE;
	const char *detail = "";
	hd_catalog_count_skips(counts, catalog);
	for (int k = 1; k < HD_SKIP_COUNT; k++)
		most = counts[k] > counts[most] || most == HD_SKIP_NONE ? k : most;
	for (size_t i = 0; i < catalog->count && !detail[0]; i++)
		if ((int)catalog->recordings[i].skip == most && catalog->recordings[i].skip_detail)
			detail = catalog->recordings[i].skip_detail;
	return hd_fail(HD_E_DATA, "%s: none of %zu recordings can be used; %zu: %s (%s)", catalog->path, catalog->count,
	        counts[most], hd_skip_text((hd_skip)most), detail);
}

hd_status hd_samples_build(hd_samples *out, hd_catalog *catalog, const hd_sample_config *config)
{
	hd_status st;
	*out = (hd_samples){0};
	if (!config->resample)
		HD_TRY(check_rates(catalog, config->sample_rate_hz));
	HD_TRY(choose_receivers(out, catalog, config));
	HD_TRY(count_sessions(&out->sessions_seen, catalog, true));
	HD_TRY(count_sessions(&out->sessions_kept, catalog, false));
	HD_TRY(group(out, catalog));
	if (!out->count) {
		st = nothing_left(catalog);
		goto done;
	}
	HD_TRY(assign_splits(out, catalog, config));
done:
	if (st != HD_OK)
		hd_samples_free(out);
	return st;
}

void hd_samples_thin(hd_samples *s, size_t most)
{
	if (s->count <= most)
		return;
	for (size_t i = 0; i < most; i++)
		s->samples[i] = s->samples[i * s->count / most];
	s->count = most;
}

void hd_samples_free(hd_samples *samples)
{
	if (!samples)
		return;
	free_receivers(samples);
	free(samples->recording_pool);
	free(samples->samples);
	*samples = (hd_samples){0};
}

/* ---- table ---- */

hd_split_size hd_samples_split_size(const hd_samples *s, const hd_catalog *catalog, hd_split split)
{
	hd_split_size size = {0};
	const char *session = NULL;
	for (size_t i = 0; i < s->count; i++) {
		if (s->samples[i].split != split)
			continue;
		size.samples++;
		for (int c = 0; c < s->R; c++)
			size.recordings += s->samples[i].recording[c] >= 0;
		/* samples are sorted by session */
		const hd_recording *r = first_recording(s, catalog, &s->samples[i]);
		size.sessions += !session || strcmp(session, r->session) != 0;
		session = r->session;
	}
	return size;
}

/* The channels in lines of at most 80 columns, and what leaving out the other receivers costs. */
static void print_receivers(FILE *to, const hd_samples *s)
{
	int column = fprintf(to, "  receivers %d of %d:", s->R, s->receivers_seen);
	for (int r = 0; r < s->R; r++) {
		if (column + (int)strlen(s->receivers[r]) + 2 > 80)
			column = fprintf(to, "\n   ") - 1;
		column += fprintf(to, " %s%s", s->receivers[r], r + 1 < s->R ? "," : "\n");
	}
	if (s->R < s->receivers_seen)
		fprintf(to, "  that keeps %zu of %zu sessions (%.1f %%); --receivers all takes every receiver\n",
		        s->sessions_kept, s->sessions_seen,
		        100.0 * (double)s->sessions_kept / (double)(s->sessions_seen ? s->sessions_seen : 1));
}

void hd_catalog_print(FILE *to, const hd_catalog *catalog, const hd_samples *samples, bool list_skipped)
{
	size_t counts[HD_SKIP_COUNT] = {0};
	hd_catalog_count_skips(counts, catalog);
	fprintf(to, "%s: %zu recordings, split by %s\n", catalog->path, catalog->count, split_names[samples->split_by]);
	print_receivers(to, samples);
	fprintf(to, "  %-8s %10s %10s %12s\n", "split", "samples", "sessions", "recordings");
	for (int k = 0; k < HD_SPLIT_COUNT; k++) {
		hd_split_size size = hd_samples_split_size(samples, catalog, (hd_split)k);
		fprintf(to, "  %-8s %10zu %10zu %12zu\n", hd_split_name(k), size.samples, size.sessions,
		        size.recordings);
	}
	for (int k = 1; k < HD_SKIP_COUNT; k++)
		if (counts[k])
			fprintf(to, "  skipped %9zu  %s\n", counts[k], hd_skip_text((hd_skip)k));
	for (size_t i = 0; list_skipped && i < catalog->count; i++) {
		const hd_recording *r = &catalog->recordings[i];
		if (r->skip != HD_SKIP_NONE)
			fprintf(to, "  skipped: %s: %s\n", hd_skip_text(r->skip),
			        r->skip_detail ? r->skip_detail : r->iq);
	}
}
