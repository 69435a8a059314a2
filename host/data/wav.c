/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WAV with I left and Q right: RIFF and RF64, PCM and IEEE floats, and the time-stamped WAV of KiwiSDR.
 * Sources: Multimedia Programming Interface and Data Specifications 1.0 (IBM, Microsoft 1991); Microsoft's
 * WAVEFORMATEXTENSIBLE; EBU Tech 3306 (RF64); SpectraVue's manual (chunk `auxi`). KiwiSDR puts a chunk `kiwi` with
 * the GPS time of week before each of many chunks `data`.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/common/memory.h"
#include "host/common/statistics.h"
#include "host/data/iq_formats.h"

#define RIFF_HEAD_BYTES 12
#define CHUNK_HEAD_BYTES 8
#define DS64_BYTES 28
#define FMT_BYTES 16
#define FMT_EXTENSIBLE_BYTES 40
#define KIWI_BYTES 10
#define AUXI_BYTES 36
#define TAG_PCM 1
#define TAG_FLOAT 3
#define TAG_EXTENSIBLE 0xfffe
#define SIZE_UNKNOWN 0xffffffffu
#define WANTED "save it as stereo (I left, Q right) of 8, 16 or 24-bit PCM or 32-bit float"
#define WEEK_NS INT64_C(604800000000000)
#define MAX_LENGTH_S 4e9 /* of a recording whose times fit 64 bits of nanoseconds */
#define GOOD_RUN 4       /* stamps that advance as samples do before the first of them is believed */
#define FIT_OUTLIER 6.0
#define FIT_RESOLUTION_S 1e-6 /* errors below this are no reason to leave a stamp out */
#define FIT_ROUNDS 5

typedef struct wav {
	hd_source *source;
	bool rf64;
	uint64_t riff_bytes; /* as the file's head says, its own 8 bytes included */
	uint64_t ds64_data_bytes;
	bool has_ds64, has_fmt;
	hd_dtype dtype;
	bool widen;
	size_t frame_bytes;
	double rate_hz;
	size_t pieces;
	int64_t samples, stamps;
} wav;

typedef struct chunk {
	const unsigned char *id, *body;
	uint64_t bytes;
	size_t next; /* where the next chunk begins */
	bool open;   /* its size was missing: it is taken to the end of the file */
} chunk;

static bool is_id(const chunk *c, const char *id)
{
	return !memcmp(c->id, id, 4);
}

/*
 * Sizes that programs write when they cannot go back to the head: none at all, all ones, or the largest that a
 * signed size holds (sox, arecord), each rounded down to whole frames. A head that is true is believed: a
 * chunk of no bytes in a file of the announced length is empty.
 */
static bool size_missing(const wav *w, uint64_t bytes, uint64_t rest)
{
	bool cut = w->riff_bytes < w->source->bytes || w->riff_bytes >= (uint64_t)SIZE_UNKNOWN;
	if (bytes == 0)
		return rest > 0 && (cut || w->source->stream);
	return bytes > rest && (w->source->stream || (bytes >= 0x7ffff000u && bytes <= 0x7fffffffu) ||
	                               (bytes >= 0xfffff000u && bytes <= SIZE_UNKNOWN));
}

static void printable_id(char text[5], const unsigned char *id)
{
	for (int i = 0; i < 4; i++)
		text[i] = (char)(id[i] >= ' ' && id[i] < 127 ? id[i] : '?');
	text[4] = 0;
}

/* The chunk at `at`; *more false at the file's end, or at rubbish behind the length that its head announces. */
static hd_status next_chunk(chunk *c, bool *more, const wav *w, size_t at)
{
	const hd_source *s = w->source;
	bool tail = w->pieces > 0 && (at >= w->riff_bytes || s->stream);
	*more = false;
	if (at >= s->bytes || (s->bytes - at < CHUNK_HEAD_BYTES && tail))
		return HD_OK;
	if (s->bytes - at < CHUNK_HEAD_BYTES)
		return hd_fail(HD_E_DATA, "ends within the head of a chunk: truncated; fetch or save it again");
	*c = (chunk){.id = s->data + at, .body = s->data + at + CHUNK_HEAD_BYTES, .bytes = hd_le32(s->data + at + 4)};
	uint64_t rest = s->bytes - at - CHUNK_HEAD_BYTES;
	if (is_id(c, "data")) {
		if (w->rf64 && w->has_ds64 && c->bytes == SIZE_UNKNOWN)
			c->bytes = w->ds64_data_bytes;
		c->open = size_missing(w, c->bytes, rest);
		if (c->open)
			c->bytes = rest;
	}
	if (c->bytes > rest) {
		char id[5];
		printable_id(id, c->id);
		if (tail)
			return HD_OK;
		return hd_fail(HD_E_DATA,
		        "chunk '%s' of %llu bytes, but %llu follow: truncated; fetch or save it again", id,
		        (unsigned long long)c->bytes, (unsigned long long)rest);
	}
	/* chunks begin at even places; a missing last pad byte does no harm */
	uint64_t padded = c->bytes + (c->bytes & 1);
	c->next = at + CHUNK_HEAD_BYTES + (size_t)(padded < rest ? padded : rest);
	*more = true;
	return HD_OK;
}

static const char *tag_name(unsigned tag)
{
	static const struct {
		unsigned tag;
		const char *name;
	} names[] = {{2, "Microsoft ADPCM"}, {6, "A-law"}, {7, "mu-law"}, {0x11, "IMA ADPCM"}, {0x31, "GSM 6.10"},
	        {0x55, "MP3"}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].tag == tag)
			return names[i].name;
	return "unknown";
}

static bool known_encoding(wav *w, unsigned tag, unsigned bits)
{
	w->widen = tag == TAG_PCM && bits >= 24;
	w->dtype = tag == TAG_FLOAT ? (bits == 64 ? HD_F64 : HD_F32)
	           : bits == 8      ? HD_U8
	           : bits == 16     ? HD_I16
	           : bits == 24     ? HD_F32
	                            : HD_F64;
	if (tag == TAG_FLOAT)
		return bits == 32 || bits == 64;
	return tag == TAG_PCM && (bits == 8 || bits == 16 || bits == 24 || bits == 32);
}

static hd_status read_fmt(wav *w, const chunk *c)
{
	if (w->has_fmt)
		return hd_fail(HD_E_DATA, "has two chunks 'fmt '; " WANTED);
	if (c->bytes < FMT_BYTES)
		return hd_fail(HD_E_DATA, "chunk 'fmt ' of %llu bytes is shorter than %d; " WANTED,
		        (unsigned long long)c->bytes, FMT_BYTES);
	unsigned tag = hd_le16(c->body), channels = hd_le16(c->body + 2), block = hd_le16(c->body + 12);
	unsigned bits = hd_le16(c->body + 14);
	if (tag == TAG_EXTENSIBLE) {
		/* the tail of KSDATAFORMAT_SUBTYPE_*, whose first two bytes are the tag */
		static const unsigned char guid_tail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
		if (c->bytes < FMT_EXTENSIBLE_BYTES || memcmp(c->body + 26, guid_tail, sizeof guid_tail) != 0)
			return hd_fail(HD_E_DATA, "chunk 'fmt ': extensible format of no known subtype; " WANTED);
		tag = hd_le16(c->body + 24);
	}
	if (channels == 1)
		return hd_fail(HD_E_DATA, "is mono, but IQ needs two channels, I left and Q right; record it as IQ");
	if (channels != 2)
		return hd_fail(HD_E_DATA, "has %u channels, but IQ needs two, I left and Q right", channels);
	if (!known_encoding(w, tag, bits))
		return hd_fail(HD_E_DATA, "holds %u-bit samples of encoding 0x%x (%s); " WANTED, bits, tag,
		        tag == TAG_PCM     ? "PCM"
		        : tag == TAG_FLOAT ? "float"
		                           : tag_name(tag));
	if (block != 2 * bits / 8)
		return hd_fail(
		        HD_E_DATA, "chunk 'fmt ': frames of %u bytes do not fit two channels of %u bits", block, bits);
	w->frame_bytes = block;
	w->rate_hz = hd_le32(c->body + 4);
	w->has_fmt = true;
	return w->rate_hz > 0 ? HD_OK : hd_fail(HD_E_DATA, "chunk 'fmt ': a sample rate of 0 Hz");
}

static hd_status read_data(wav *w, const chunk *c)
{
	if (!w->has_fmt)
		return hd_fail(HD_E_DATA, "chunk 'data' without a chunk 'fmt ' before it; " WANTED);
	if (c->bytes % w->frame_bytes && !c->open)
		return hd_fail(HD_E_DATA, "chunk 'data' of %llu bytes is no whole number of frames of %zu bytes",
		        (unsigned long long)c->bytes, w->frame_bytes);
	w->samples += (int64_t)(c->bytes / w->frame_bytes);
	w->pieces++;
	return HD_OK;
}

/* SYSTEMTIME of start and end, then frequencies in Hz: centre, converter, ... The clock is taken as UTC. */
static void read_auxi(hd_iq_info *info, const chunk *c)
{
	const unsigned char *p = c->body;
	if (c->bytes < AUXI_BYTES)
		return;
	struct tm start = {.tm_year = hd_le16(p) - 1900,
	        .tm_mon = hd_le16(p + 2) - 1,
	        .tm_mday = hd_le16(p + 6),
	        .tm_hour = hd_le16(p + 8),
	        .tm_min = hd_le16(p + 10),
	        .tm_sec = hd_le16(p + 12)};
	unsigned ms = hd_le16(p + 14);
	/* some programs keep XML in a chunk of this name */
	if (start.tm_year < 70 || start.tm_year > 300 || start.tm_mon < 0 || start.tm_mon > 11 || start.tm_mday < 1 ||
	        start.tm_mday > 31 || start.tm_hour > 23 || start.tm_min > 59 || start.tm_sec > 60 || ms > 999)
		return;
	info->start_s = (double)timegm(&start) + ms * 1e-3;
	if (hd_le32(p + 32))
		info->frequency_hz = hd_le32(p + 32);
}

static hd_status read_head(wav *w)
{
	const hd_source *s = w->source;
	if (s->bytes < RIFF_HEAD_BYTES)
		return hd_fail(HD_E_DATA, "ends after %zu bytes, within its head: truncated; fetch or save it again",
		        s->bytes);
	if (!memcmp(s->data, "RIFX", 4))
		return hd_fail(HD_E_DATA, "is a big-endian WAV file (RIFX); " WANTED " as RIFF");
	if (memcmp(s->data + 8, "WAVE", 4) != 0)
		return hd_fail(HD_E_DATA, "is a RIFF file, but no WAVE; " WANTED);
	w->rf64 = memcmp(s->data, "RIFF", 4) != 0;
	w->riff_bytes = (uint64_t)hd_le32(s->data + 4) + CHUNK_HEAD_BYTES;
	if (!w->rf64)
		return HD_OK;
	const unsigned char *p = s->data + RIFF_HEAD_BYTES;
	if (s->bytes < RIFF_HEAD_BYTES + CHUNK_HEAD_BYTES + DS64_BYTES || memcmp(p, "ds64", 4) != 0 ||
	        hd_le32(p + 4) < DS64_BYTES)
		return hd_fail(HD_E_DATA, "is RF64 without a chunk 'ds64', which holds its sizes; save it again");
	w->has_ds64 = true;
	w->ds64_data_bytes = hd_le64(p + CHUNK_HEAD_BYTES + 8);
	if (__builtin_add_overflow(hd_le64(p + CHUNK_HEAD_BYTES), CHUNK_HEAD_BYTES, &w->riff_bytes))
		w->riff_bytes = UINT64_MAX;
	return HD_OK;
}

/* Walks all chunks and checks them; allocates nothing. */
static hd_status check_chunks(wav *w, hd_iq_info *info)
{
	hd_status st;
	bool more;
	chunk c;
	HD_TRY(read_head(w));
	for (size_t at = RIFF_HEAD_BYTES;; at = c.next) {
		HD_TRY(next_chunk(&c, &more, w, at));
		if (!more)
			break;
		if (is_id(&c, "fmt ")) {
			HD_TRY(read_fmt(w, &c));
		} else if (is_id(&c, "data")) {
			HD_TRY(read_data(w, &c));
		} else if (is_id(&c, "auxi")) {
			read_auxi(info, &c);
		} else if (is_id(&c, "kiwi")) {
			if (c.bytes != KIWI_BYTES)
				return hd_fail(HD_E_DATA, "chunk 'kiwi' of %llu bytes, but a time stamp has %d",
				        (unsigned long long)c.bytes, KIWI_BYTES);
			w->stamps++;
		}
		hd_source_forget(w->source, at);
	}
	if (!w->has_fmt)
		st = hd_fail(HD_E_DATA, "has no chunk 'fmt '; " WANTED);
	else if (!w->pieces)
		st = hd_fail(HD_E_DATA, "has no chunk 'data': no samples; truncated?");
	else if (!w->samples)
		st = hd_fail(HD_E_DATA, "holds no samples");
done:
	return st;
}

/* ---- time stamps ---- */

typedef struct stamp {
	int64_t sample; /* index of the first sample behind it */
	int64_t ns;     /* GPS time of week, without its wraps */
	double error_s; /* from the fitted line */
	bool starts;    /* the first one behind a gap */
	bool left_out;  /* contradicted by the others */
} stamp;

/* Whether time advances from a to b as the samples between them say, to half of their number. */
static bool advances(const stamp *a, const stamp *b, double rate_hz)
{
	double samples = (double)(b->sample - a->sample);
	return samples > 0 && fabs((double)(b->ns - a->ns) * 1e-9 * rate_hz - samples) <= 0.5 * samples;
}

/* The week that the sample index, counted from the last stamp, says: the first stamps are not reliable. */
static void unwrap_weeks(stamp *s, size_t n, double rate_hz)
{
	const stamp *last = &s[n - 1];
	if ((double)last->sample / rate_hz > MAX_LENGTH_S)
		return;
	for (size_t k = 0; k + 1 < n; k++) {
		double due_ns = (double)last->ns - (double)(last->sample - s[k].sample) / rate_hz * 1e9;
		s[k].ns += WEEK_NS * llround((due_ns - (double)s[k].ns) / (double)WEEK_NS);
	}
}

/* Stamps before the first run that advances; all of them where there is none. */
static size_t count_stale(const stamp *s, size_t n, double rate_hz)
{
	for (size_t wanted = n < GOOD_RUN ? n : GOOD_RUN; wanted >= 2; wanted--) {
		size_t run = 1;
		for (size_t k = 1; k < n; k++) {
			run = advances(&s[k - 1], &s[k], rate_hz) ? run + 1 : 1;
			if (run == wanted)
				return k + 1 - wanted;
		}
	}
	return n;
}

/* Cuts the stamps into stretches and counts the gaps between them; a stamp that both neighbours contradict is none. */
static int64_t mark_gaps(stamp *s, size_t n, double rate_hz)
{
	int64_t gaps = 0;
	size_t last = 0;
	s[0].starts = true;
	for (size_t k = 1; k < n; k++) {
		if (!advances(&s[last], &s[k], rate_hz)) {
			s[k].left_out = k + 1 < n && advances(&s[last], &s[k + 1], rate_hz) &&
			                !advances(&s[k], &s[k + 1], rate_hz);
			s[k].starts = !s[k].left_out;
			gaps += s[k].starts;
		}
		if (!s[k].left_out)
			last = k;
	}
	return gaps;
}

/* Means over the stamps of the stretch that begins at s[0]; returns its length. */
static size_t stretch_means(double *sample, double *time_s, const stamp *s, size_t n)
{
	size_t length = 0, used = 0;
	*sample = *time_s = 0;
	for (; length < n && (length == 0 || !s[length].starts); length++) {
		if (s[length].left_out)
			continue;
		*sample += (double)(s[length].sample - s[0].sample);
		*time_s += (double)(s[length].ns - s[0].ns) * 1e-9;
		used++;
	}
	*sample /= (double)(used ? used : 1);
	*time_s /= (double)(used ? used : 1);
	return length;
}

/*
 * Least squares of time against sample index: one slope, in s per sample, and an offset for each stretch, so that
 * the lengths of gaps do not bend it. Leaves each stamp's error; NaN where no stretch has two stamps.
 */
static double fit_slope(stamp *s, size_t n)
{
	double xx = 0, xt = 0, mean_x, mean_t;
	for (size_t from = 0, length; from < n; from += length) {
		length = stretch_means(&mean_x, &mean_t, s + from, n - from);
		for (stamp *at = s + from; at < s + from + length; at++) {
			double x = (double)(at->sample - s[from].sample) - mean_x;
			xx += at->left_out ? 0 : x * x;
			xt += at->left_out ? 0 : x * ((double)(at->ns - s[from].ns) * 1e-9 - mean_t);
		}
	}
	double slope = xx > 0 ? xt / xx : NAN;
	for (size_t from = 0, length; from < n; from += length) {
		length = stretch_means(&mean_x, &mean_t, s + from, n - from);
		for (stamp *at = s + from; at < s + from + length; at++)
			at->error_s = (double)(at->ns - s[from].ns) * 1e-9 - mean_t -
			              slope * ((double)(at->sample - s[from].sample) - mean_x);
	}
	return slope;
}

/* Leaves out stamps whose error is beyond FIT_OUTLIER times the median one; false where there are none. */
static bool leave_out(stamp *s, size_t n, double *errors)
{
	size_t used = 0;
	bool any = false;
	for (size_t k = 0; k < n; k++)
		if (!s[k].left_out)
			errors[used++] = fabs(s[k].error_s);
	if (!used)
		return false;
	qsort(errors, used, sizeof *errors, hd_compare_doubles);
	double limit = FIT_OUTLIER * errors[used / 2] + FIT_RESOLUTION_S;
	for (size_t k = 0; k < n; k++) {
		if (s[k].left_out || !(fabs(s[k].error_s) > limit))
			continue;
		s[k].left_out = any = true;
	}
	return any;
}

static hd_status fit_stamps(hd_iq_info *info, stamp *s, size_t n, double rate_hz)
{
	double *errors, slope;
	hd_status st = hd_alloc(&errors, n, sizeof *errors);
	if (st != HD_OK)
		return st;
	unwrap_weeks(s, n, rate_hz);
	size_t stale = count_stale(s, n, rate_hz);
	info->stale_stamps = (int64_t)stale;
	if (stale < n) {
		info->gaps = mark_gaps(s + stale, n - stale, rate_hz);
		slope = fit_slope(s + stale, n - stale);
		for (int round = 0; round < FIT_ROUNDS && leave_out(s + stale, n - stale, errors); round++)
			slope = fit_slope(s + stale, n - stale);
		info->true_rate_hz = slope > 0 ? 1 / slope : NAN;
	}
	free(errors);
	return HD_OK;
}

/* Second walk over a file that has been checked: its stamps, and its pieces where they are wanted. */
static hd_status collect(stamp *stamps, hd_piece *pieces, wav *w)
{
	hd_status st;
	bool more;
	chunk c;
	size_t n = 0, piece_count = w->pieces;
	int64_t sample = 0;
	w->source->dropped = 0;
	w->pieces = 0;
	for (size_t at = RIFF_HEAD_BYTES;; at = c.next) {
		HD_TRY(next_chunk(&c, &more, w, at));
		if (!more)
			break;
		if (is_id(&c, "kiwi") && n < (size_t)w->stamps) {
			int64_t seconds = hd_le32(c.body + 2), ns = hd_le32(c.body + 6);
			stamps[n++] = (stamp){.sample = sample, .ns = seconds * INT64_C(1000000000) + ns};
		} else if (is_id(&c, "data") && w->pieces < piece_count) {
			int64_t samples = (int64_t)(c.bytes / w->frame_bytes);
			if (pieces)
				pieces[w->pieces] = (hd_piece){c.body, samples};
			w->pieces++;
			sample += samples;
		}
		hd_source_forget(w->source, at);
	}
	if (n != (size_t)w->stamps || w->pieces != piece_count || sample != w->samples)
		st = hd_fail(HD_E_DATA, "changes while it is read; wait until the recording has ended");
done:
	return st;
}

hd_status hd_wav_parse(hd_layout *l, hd_iq_info *info, hd_source *source, bool samples)
{
	hd_status st;
	wav w = {.source = source};
	stamp *stamps = NULL;
	info->format = "wav";
	HD_TRY(check_chunks(&w, info));
	info->format = w.stamps ? "kiwisdr" : "wav";
	info->sample_rate_hz = w.rate_hz;
	hd_layout_pairs(l, w.dtype, 1, w.samples, NULL);
	l->widen = w.widen;
	l->stored_bytes = (int)w.frame_bytes / 2;
	l->part_step = l->stored_bytes;
	l->sample_step = 2 * l->part_step;
	l->swap = HD_HOST_BIG_ENDIAN && !w.widen && l->stored_bytes > 1;
	info->stamps = w.stamps;
	if (samples) {
		HD_TRY(hd_alloc(&l->pieces, w.pieces, sizeof *l->pieces));
		l->piece_count = w.pieces;
	}
	if (!samples && !w.stamps)
		goto done;
	HD_TRY(hd_alloc(&stamps, (size_t)w.stamps, sizeof *stamps));
	HD_TRY(collect(stamps, l->pieces, &w));
	if (w.stamps)
		HD_TRY(fit_stamps(info, stamps, (size_t)w.stamps, w.rate_hz));
done:
	free(stamps);
	return st;
}
