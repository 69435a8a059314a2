/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The .npy format: magic, version, header length, a Python dictionary literal, raw data.
 * Source: NumPy Enhancement Proposal 1 and numpy.lib.format's documentation.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "host/common/file.h"
#include "host/data/iq_formats.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define MAX_DIMS 4
#define DESCR_BYTES 16
#define HEADER_MAX_BYTES 65536
#define WANTED                                                                                                         \
	"save it with numpy as complex64 or complex128 of shape (N,) or (R,N), or int8, uint8, int16 or float32 of "   \
	"shape (N,2)"

typedef struct header {
	char descr[DESCR_BYTES];
	bool fortran;
	int ndim;
	int64_t shape[MAX_DIMS];
	bool has_descr, has_fortran, has_shape;
} header;

typedef struct parser {
	const char *at, *end;
} parser;

static void skip_space(parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t'))
		p->at++;
}

static bool take(parser *p, char c)
{
	skip_space(p);
	if (p->at >= p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static bool take_word(parser *p, const char *word)
{
	size_t n = strlen(word);
	skip_space(p);
	if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
		return false;
	p->at += n;
	return true;
}

/* A quoted string without escapes, of less than `bytes` characters. */
static bool take_text(parser *p, char *text, size_t bytes)
{
	skip_space(p);
	if (p->at >= p->end || (*p->at != '\'' && *p->at != '"'))
		return false;
	char quote = *p->at++;
	size_t n = 0;
	while (p->at < p->end && *p->at != quote && *p->at != '\\' && n + 1 < bytes)
		text[n++] = *p->at++;
	text[n] = 0;
	return take(p, quote);
}

static bool take_size(parser *p, int64_t *size)
{
	skip_space(p);
	if (p->at >= p->end || !isdigit((unsigned char)*p->at))
		return false;
	*size = 0;
	while (p->at < p->end && isdigit((unsigned char)*p->at))
		if (__builtin_mul_overflow(*size, 10, size) || __builtin_add_overflow(*size, *p->at++ - '0', size))
			return false;
	if (p->at < p->end && *p->at == 'L')
		p->at++;
	return true;
}

static const char *take_shape(parser *p, header *h)
{
	if (!take(p, '('))
		return "shape is no tuple";
	while (!take(p, ')')) {
		if (h->ndim == MAX_DIMS)
			return "more than four dimensions";
		if (!take_size(p, &h->shape[h->ndim++]))
			return "shape holds something other than sizes";
		if (!take(p, ',')) {
			if (!take(p, ')'))
				return "shape is no tuple";
			break;
		}
	}
	return NULL;
}

/* NULL, or what is wrong with the dictionary. */
static const char *parse_header(parser p, header *h)
{
	if (!take(&p, '{'))
		return "header is no dictionary";
	while (!take(&p, '}')) {
		char key[16];
		const char *wrong = NULL;
		if (!take_text(&p, key, sizeof key) || !take(&p, ':'))
			return "header is no dictionary of known keys";
		if (!strcmp(key, "descr") && !h->has_descr) {
			h->has_descr = true;
			if (!take_text(&p, h->descr, sizeof h->descr))
				return "structured dtypes are not IQ";
		} else if (!strcmp(key, "fortran_order") && !h->has_fortran) {
			h->has_fortran = true;
			h->fortran = take_word(&p, "True");
			if (!h->fortran && !take_word(&p, "False"))
				return "fortran_order is neither True nor False";
		} else if (!strcmp(key, "shape") && !h->has_shape) {
			h->has_shape = true;
			wrong = take_shape(&p, h);
		} else {
			return "unknown or repeated key in the header";
		}
		if (wrong)
			return wrong;
		if (!take(&p, ',')) {
			if (!take(&p, '}'))
				return "header is no dictionary";
			break;
		}
	}
	skip_space(&p);
	if (p.at != p.end)
		return "text behind the header's dictionary";
	return h->has_descr && h->has_fortran && h->has_shape ? NULL : "header lacks descr, fortran_order or shape";
}

/* Type and byte order of one component; false where they are not those of IQ. */
static bool known_dtype(const char *descr, hd_layout *l, bool *complex_pairs)
{
	static const struct {
		const char *kind;
		hd_dtype dtype;
		bool complex_pairs;
	} kinds[] = {{"c8", HD_F32, true}, {"c16", HD_F64, true}, {"i2", HD_I16, false}, {"i1", HD_I8, false},
	        {"u1", HD_U8, false}, {"f4", HD_F32, false}};
	if (!descr[0] || !strchr("<>=|", descr[0]))
		return false;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(descr + 1, kinds[i].kind) != 0)
			continue;
		l->dtype = kinds[i].dtype;
		l->swap = descr[0] == (HD_HOST_BIG_ENDIAN ? '<' : '>') && hd_dtype_bytes(l->dtype) > 1;
		*complex_pairs = kinds[i].complex_pairs;
		return true;
	}
	return false;
}

/* Rows and samples from the shape; false where it is no shape of IQ. */
static bool known_shape(const header *h, hd_layout *l, bool complex_pairs)
{
	const int64_t *s = h->shape;
	if (complex_pairs) {
		if (h->ndim == 1 || (h->ndim == 2 && s[1] == 1)) {
			l->rows = 1;
			l->samples = s[0];
			return true;
		}
		l->rows = s[0];
		l->samples = s[1];
		return h->ndim == 2;
	}
	if (h->ndim < 2 || h->ndim > 3 || s[h->ndim - 1] != 2)
		return false;
	l->rows = h->ndim == 3 ? s[0] : 1;
	l->samples = s[h->ndim - 2];
	return true;
}

static void shape_text(char *text, size_t bytes, const header *h)
{
	size_t used = (size_t)snprintf(text, bytes, "(");
	for (int d = 0; d < h->ndim && used < bytes; d++)
		used += (size_t)snprintf(text + used, bytes - used, "%s%lld", d ? ", " : "", (long long)h->shape[d]);
	if (used < bytes)
		snprintf(text + used, bytes - used, ")");
}

/* Steps of C order, or of Fortran order, in which the first index runs fastest. */
static void set_steps(hd_layout *l, const header *h, bool complex_pairs, const unsigned char *data)
{
	int64_t width = (int64_t)hd_dtype_bytes(l->dtype);
	hd_layout_pairs(l, l->dtype, l->rows, l->samples, data);
	if (h->fortran && complex_pairs) {
		l->row_step = 2 * width;
		l->sample_step = l->rows * 2 * width;
	} else if (h->fortran) {
		l->row_step = width;
		l->sample_step = l->rows * width;
		l->part_step = l->rows * l->samples * width;
	}
}

static hd_status check_header(hd_layout *l, const header *h, const unsigned char *data, size_t data_bytes)
{
	char shape[96];
	int64_t elements = 1, bytes;
	bool complex_pairs;
	shape_text(shape, sizeof shape, h);
	if (!known_dtype(h->descr, l, &complex_pairs))
		return hd_fail(HD_E_DATA, "header: dtype '%s' is not IQ; " WANTED, h->descr);
	for (int d = 0; d < h->ndim; d++)
		if (__builtin_mul_overflow(elements, h->shape[d], &elements))
			return hd_fail(HD_E_DATA, "header: shape %s is impossible", shape);
	if (!known_shape(h, l, complex_pairs))
		return hd_fail(HD_E_DATA, "header: shape %s of dtype '%s' is not IQ; " WANTED, shape, h->descr);
	if (l->rows < 1 || l->samples < 1)
		return hd_fail(HD_E_DATA, "header: shape %s holds no samples", shape);
	if (__builtin_mul_overflow(elements, (int64_t)hd_dtype_bytes(l->dtype) * (complex_pairs ? 2 : 1), &bytes))
		return hd_fail(HD_E_DATA, "header: shape %s is impossible", shape);
	if ((uint64_t)bytes != data_bytes)
		return hd_fail(HD_E_DATA, "%zu bytes of data, but shape %s of '%s' wants %lld: %s", data_bytes, shape,
		        h->descr, (long long)bytes,
		        (uint64_t)bytes > data_bytes ? "truncated; fetch or save it again" : "trailing bytes");
	set_steps(l, h, complex_pairs, data);
	return HD_OK;
}

hd_status hd_npy_parse(hd_layout *l, hd_iq_info *info, const hd_source *source)
{
	const unsigned char *file = source->data;
	size_t bytes = source->bytes;
	info->format = "npy";
	if (bytes < MAGIC_BYTES + 4)
		return hd_fail(HD_E_DATA,
		        "header: the .npy file ends after %zu bytes: truncated; fetch or save it again", bytes);
	int version = file[MAGIC_BYTES];
	size_t start = version == 1 ? MAGIC_BYTES + 4 : MAGIC_BYTES + 6;
	if (version < 1 || version > 3 || bytes < start)
		return hd_fail(
		        HD_E_DATA, "version %d of the .npy format is not known; versions 1, 2 and 3 are", version);
	size_t length = version == 1 ? hd_le16(file + MAGIC_BYTES + 2) : hd_le32(file + MAGIC_BYTES + 2);
	if (length > bytes - start || length > HEADER_MAX_BYTES)
		return hd_fail(HD_E_DATA, "header of %zu bytes in a file of %zu: truncated; fetch or save it again",
		        length, bytes);
	header h = {0};
	const char *text = (const char *)file + start;
	const char *wrong = parse_header((parser){text, text + length}, &h);
	if (wrong)
		return hd_fail(HD_E_DATA, "header: %s; " WANTED, wrong);
	return check_header(l, &h, file + start + length, bytes - start - length);
}

hd_status hd_npy_write(
        const char *path, const char *descr, const int64_t *shape, int ndim, const void *data, size_t bytes)
{
	char dictionary[256], head[512];
	header h = {.ndim = ndim};
	char sizes[96];
	if (ndim < 1 || ndim > MAX_DIMS || strlen(descr) >= DESCR_BYTES)
		return hd_fail(
		        HD_E_USAGE, "%s: no array of %d dimensions and dtype '%s' can be written", path, ndim, descr);
	memcpy(h.shape, shape, (size_t)ndim * sizeof *shape);
	shape_text(sizes, sizeof sizes, &h);
	if (ndim == 1)
		snprintf(sizes, sizeof sizes, "(%lld,)", (long long)shape[0]);
	snprintf(dictionary, sizeof dictionary, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, sizes);
	/* the data start on a multiple of 64 bytes, the header ends with a newline */
	size_t text = strlen(dictionary) + 1, start = (MAGIC_BYTES + 4 + text + 63) / 64 * 64;
	size_t length = start - MAGIC_BYTES - 4;
	memset(head, ' ', sizeof head);
	memcpy(head, MAGIC, MAGIC_BYTES);
	head[6] = 1;
	head[7] = 0;
	head[8] = (char)(length & 0xff);
	head[9] = (char)(length >> 8);
	memcpy(head + 10, dictionary, text - 1);
	head[start - 1] = '\n';
	const hd_span spans[] = {{head, start}, {data, bytes}};
	return hd_file_write(path, spans, 2, 0);
}
