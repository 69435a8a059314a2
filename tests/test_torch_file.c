/* SPDX-License-Identifier: Apache-2.0 */
/* Files of torch.save: every dtype and kind of view (golden/make_weights.py), damaged and hand-made ones. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "host/model/pickle.h"
#include "host/model/torch_file.h"
#include "host/model/weights.h"
#include "tests/folder.h"

#define FOLDER "tests/golden/weights/"

static void expect_refused(hd_status st, const char *path, const char *reason)
{
	cr_assert_eq(
	        st, HD_E_DATA, "%s: status %d (%s), want HD_E_DATA for '%s'", path, (int)st, hd_error_text(), reason);
	cr_assert(strstr(hd_error_text(), reason), "%s: got '%s', want '%s' in it", path, hd_error_text(), reason);
	cr_assert(strstr(hd_error_text(), path), "got '%s', want the file %s in it", hd_error_text(), path);
}

static const hd_torch_tensor *tensor(const hd_torch_file *f, const char *name)
{
	for (size_t i = 0; i < f->count; i++)
		if (!strcmp(f->tensors[i].name, name))
			return &f->tensors[i];
	cr_assert(false, "no tensor %s", name);
	return NULL;
}

static double number(const hd_torch_tensor *t, int64_t i)
{
	const hd_weight w = {
	        .dtype = t->dtype, .elements = 1, .data = (char *)t->data + (size_t)i * hd_torch_dtype_bytes(t->dtype)};
	float value;
	if (hd_weights_to_float(&value, &w))
		return (double)value;
	switch (t->dtype) {
	case HD_TORCH_I64:
		return (double)((int64_t *)t->data)[i];
	case HD_TORCH_I32:
		return ((int32_t *)t->data)[i];
	case HD_TORCH_I16:
		return ((int16_t *)t->data)[i];
	case HD_TORCH_I8:
		return ((int8_t *)t->data)[i];
	default:
		return ((uint8_t *)t->data)[i];
	}
}

static void expect_tensor(const hd_torch_file *f, const char *name, hd_torch_dtype dtype, int ndim,
        const int64_t *shape, const double *want)
{
	const hd_torch_tensor *t = tensor(f, name);
	int64_t count = 1;
	cr_assert_eq(t->dtype, dtype, "%s: dtype %s", name, hd_torch_dtype_name(t->dtype));
	cr_assert_eq(t->ndim, ndim, "%s: %d dimensions, want %d", name, t->ndim, ndim);
	for (int d = 0; d < ndim; d++) {
		cr_assert_eq(t->shape[d], shape[d], "%s: size %d is %ld", name, d, (long)t->shape[d]);
		count *= shape[d];
	}
	cr_assert_eq(t->bytes, (size_t)count * hd_torch_dtype_bytes(dtype));
	for (int64_t i = 0; i < count; i++)
		cr_assert(number(t, i) == want[i], "%s[%ld]: got %g, want %g", name, (long)i, number(t, i), want[i]);
}

Test(torch_file, dtypes_and_views_in_every_protocol)
{
	static const char *const protocols[] = {"2", "3", "4", "5"};
	const int64_t three[1] = {3};
	const double count[3] = {0, 1, 2}, from_minus_one[3] = {-1, 0, 1}, bools[3] = {0, 1, 1}, four[1] = {4};
	double transposed[24], permuted[24];
	for (int i = 0; i < 24; i++) {
		transposed[i] = i % 4 * 6 + i / 4;
		permuted[i] = i / 6 + i / 3 % 2 * 12 + i % 3 * 4;
	}
	for (size_t p = 0; p < 4; p++) {
		hd_torch_file f;
		char path[64];
		snprintf(path, sizeof path, FOLDER "kinds_%s.pth", protocols[p]);
		cr_assert_eq(hd_torch_open(&f, path), HD_OK, "%s", hd_error_text());
		cr_assert_eq(f.count, 15, "%s: got %zu tensors, want 15", path, f.count);
		expect_tensor(&f, "transposed", HD_TORCH_F32, 2, (int64_t[]){6, 4}, transposed);
		expect_tensor(&f, "stepped", HD_TORCH_F32, 2, (int64_t[]){2, 3}, (double[]){7, 9, 11, 19, 21, 23});
		expect_tensor(&f, "permuted", HD_TORCH_F64, 3, (int64_t[]){4, 2, 3}, permuted);
		expect_tensor(&f, "shared", HD_TORCH_F32, 1, (int64_t[]){6}, (double[]){12, 13, 14, 15, 16, 17});
		expect_tensor(&f, "scalar", HD_TORCH_F32, 0, NULL, four);
		expect_tensor(&f, "empty", HD_TORCH_F32, 2, (int64_t[]){0, 3}, NULL);
		expect_tensor(&f, "parameter", HD_TORCH_F32, 1, three, count);
		expect_tensor(&f, "half", HD_TORCH_F16, 1, three, count);
		expect_tensor(&f, "bfloat", HD_TORCH_BF16, 1, three, count);
		expect_tensor(&f, "long", HD_TORCH_I64, 1, three, from_minus_one);
		expect_tensor(&f, "int", HD_TORCH_I32, 1, three, from_minus_one);
		expect_tensor(&f, "short", HD_TORCH_I16, 1, three, from_minus_one);
		expect_tensor(&f, "char", HD_TORCH_I8, 1, three, from_minus_one);
		expect_tensor(&f, "byte", HD_TORCH_U8, 1, three, count);
		expect_tensor(&f, "bool", HD_TORCH_BOOL, 1, three, bools);
		hd_torch_close(&f);
	}
}

/* ---- hand-made and damaged files ---- */

/* Pickle text: protocol 2, a dictionary, "w", and the call that rebuilds it. */
#define TEXT(length, text) "X" length "\0\0\0" text
#define DICT "\x80\x02}" TEXT("\x01", "w")
#define STORAGE(class, key, n) "(" TEXT("\x07", "storage") class TEXT("\x01", key) TEXT("\x03", "cpu") "K" n "tQ"
#define FLOATS STORAGE("ctorch\nFloatStorage\n", "0", "\x04")
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("
#define TAIL "\x89}tRs."
#define GOOD                                                                                                           \
	DICT REBUILD FLOATS "K\0"                                                                                      \
	                    "K\x04\x85"                                                                                \
	                    "K\x01\x85" TAIL

static void write_zip(const char *path, const void *pickle, size_t pickle_bytes, const void *storage,
        size_t storage_bytes, const char *byteorder, bool compressed)
{
	int code;
	remove(path);
	zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
	cr_assert_not_null(zip);
	const struct {
		const char *name;
		const void *data;
		size_t bytes;
	} entries[] = {{"a/data.pkl", pickle, pickle_bytes}, {"a/data/0", storage, storage_bytes},
	        {"a/byteorder", byteorder, byteorder ? strlen(byteorder) : 0}};
	for (size_t i = 0; i < 3; i++) {
		if (!entries[i].data)
			continue;
		zip_source_t *source = zip_source_buffer(zip, entries[i].data, entries[i].bytes, 0);
		zip_int64_t at = zip_file_add(zip, entries[i].name, source, 0);
		cr_assert_geq(at, 0);
		zip_set_file_compression(
		        zip, (zip_uint64_t)at, compressed && i == 0 ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
	}
	cr_assert_eq(zip_close(zip), 0);
}

static const float four_floats[4] = {1, 2, 3, 4};

#define P(text) text, sizeof(text) - 1

Test(torch_file, malformed_pickles_are_refused_with_the_reason, .init = start, .fini = stop)
{
	static const struct {
		const char *pickle;
		size_t bytes;
		const char *reason;
	} cases[] = {
	        {P(""), "ends before its last opcode"},
	        {P("\x80\x06."), "protocol 6"},
	        {P("\x80\x02} "), "opcode 0x20"},
	        {P("\x80\x02X\xff\xff\xff\x7fw"), "ends inside an opcode"},
	        {P("\x80\x02."), "0 values are left"},
	        {P("\x80\x02}}."), "2 values are left"},
	        {P("\x80\x02}.x"), "1 bytes behind its end"},
	        {P("\x80\x02h\x05."), "not in its memo"},
	        {P("\x80\x02}r\xff\xff\xff\xff."), "memo is larger"},
	        {P("\x80\x02R."), "finds nothing on the stack"},
	        {P("\x80\x02}K\x01u."), "finds no mark"},
	        {P("\x80\x02}(K\x01u."), "key without a value"},
	        {P("\x80\x02K\x01(K\x01K\x02u."), "no dictionary"},
	        {P("\x80\x02K\x01K\x02"
	           "a."),
	                "no list"},
	        {P("\x80\x02K\x01\x87."), "more values than are on the stack"},
	        {P("\x80\x02"
	           "cos"),
	                "ends inside a name"},
	        {P("\x80\x02K\x01K\x02\x93."), "named by what is no text"},
	        {P("\x80\x02K\x01)R."), "no class and no function"},
	        {P("\x80\x02"
	           "ca\nb\nK\x01R."),
	                "without a tuple of arguments"},
	        {P("\x80\x02"
	           "ca\nb\n)\x81)R."),
	                "holds a.b"},
	        {P("\x80\x02"
	           "csubprocess\nPopen\n)\x81."),
	                "subprocess.Popen, which could run code"},
	        {P("\x80\x04\x8c\x02os\x8c\x05popen\x93)R."), "os.popen, which could run code"},
	        {P("\x80\x02K\x01Q."), "not described by a tuple"},
	        {P(DICT REBUILD "tRs."), "not described as torch.save does"},
	        {P(DICT REBUILD "K\x01K\0"
	                        "K\x04\x85"
	                        "K\x01\x85" TAIL),
	                "its storage is not described"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "K\x05\x85"
	                               "K\x01\x85" TAIL),
	                "reach beyond the 4 elements"},
	        {P(DICT REBUILD FLOATS "K\x01"
	                               "K\x04\x85"
	                               "K\x01\x85" TAIL),
	                "reach beyond the 4 elements"},
	        {P(DICT REBUILD FLOATS "J\xff\xff\xff\xffK\x02\x85"
	                               "K\x01\x85" TAIL),
	                "reach beyond the 4 elements"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "K\x02\x85"
	                               "K\x04\x85" TAIL),
	                "reach beyond the 4 elements"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "K\xff\x85"
	                               "K\0\x85" TAIL),
	                "reach beyond the 4 elements"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "J\xff\xff\xff\xff\x85"
	                               "K\x01\x85" TAIL),
	                "no number from 0"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"
	                               "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85" TAIL),
	                "reach beyond the 4 elements"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "K\x02K\x02\x86"
	                               "K\x01\x85" TAIL),
	                "2 sizes and 1 strides"},
	        {P(DICT REBUILD FLOATS "K\0"
	                               "(K\1K\1K\1K\1K\1K\1K\1t"
	                               "(K\1K\1K\1K\1K\1K\1K\1t" TAIL),
	                "up to 6 dimensions"},
	        {P(DICT REBUILD STORAGE("ctorch\nFloatStorage\n", "0", "\x05") "K\0"
	                                                                       "K\x05\x85"
	                                                                       "K\x01\x85" TAIL),
	                "holds 16 bytes, want 5 elements of 4"},
	        {P(DICT REBUILD STORAGE("ctorch\nFloatStorage\n", "7", "\x04") "K\0"
	                                                                       "K\x04\x85"
	                                                                       "K\x01\x85" TAIL),
	                "no entry a/data/7"},
	        {P(DICT REBUILD STORAGE("ctorch\nQInt8Storage\n", "0", "\x04") "K\0"
	                                                                       "K\x04\x85"
	                                                                       "K\x01\x85" TAIL),
	                "torch.QInt8Storage, which this program does not read"},
	        {P("\x80\x02}" TEXT("\x01", "\n") REBUILD FLOATS "K\0"
	                                                         "K\x04\x85"
	                                                         "K\x01\x85" TAIL),
	                "control characters"},
	        {P("\x80\x02}" TEXT("\x05", "model") "ca\nb\n)\x81s."), "its entry model is a.b"},
	};
	const char *path = file_in("case.pth");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_torch_file f;
		write_zip(path, cases[i].pickle, cases[i].bytes, four_floats, sizeof four_floats, NULL, false);
		expect_refused(hd_torch_open(&f, path), path, cases[i].reason);
	}
	/* the same frame without a fault is read */
	hd_torch_file f;
	write_zip(path, P(GOOD), four_floats, sizeof four_floats, "little", false);
	cr_assert_eq(hd_torch_open(&f, path), HD_OK, "%s", hd_error_text());
	expect_tensor(&f, "w", HD_TORCH_F32, 1, (int64_t[]){4}, (double[]){1, 2, 3, 4});
	hd_torch_close(&f);
}

Test(torch_file, numbers_keep_their_values)
{
	static const char text[] = "\x80\x02](K\xff"
	                           "M\xff\xff"
	                           "J\xfe\xff\xff\xff"
	                           "\x8a\0"
	                           "\x8a\1\xff"
	                           "\x8a\2\xff\0"
	                           "\x8a\3\0\0\x80"
	                           "\x8b\x08\0\0\0\0\0\0\0\0\0\0\x80"
	                           "N\x88\x89"
	                           "G\xc0\x04\0\0\0\0\0\0"
	                           "e.";
	static const int64_t want[] = {255, 65535, -2, 0, -1, 255, -8388608, INT64_MIN, 0, 1, 0};
	enum { COUNT = sizeof want / sizeof *want };
	hd_pickle p;
	cr_assert_eq(hd_pickle_read(&p, text, sizeof text - 1), HD_OK, "%s", hd_error_text());
	cr_assert_eq(p.root->count, COUNT + 1);
	for (int i = 0; i < COUNT; i++)
		cr_assert_eq(p.root->items[i]->integer, want[i], "number %d: got %lld, want %lld", i,
		        (long long)p.root->items[i]->integer, (long long)want[i]);
	cr_assert_eq(p.root->items[8]->kind, HD_PICKLE_NONE);
	cr_assert_eq(p.root->items[9]->kind, HD_PICKLE_BOOL);
	cr_assert_eq(p.root->items[COUNT]->real, -2.5);
	hd_pickle_free(&p);
}

static void write_bytes(const char *path, const void *bytes, size_t count)
{
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(bytes, 1, count, f), count);
	fclose(f);
}

Test(torch_file, damaged_archives_are_refused_with_the_reason, .init = start, .fini = stop)
{
	hd_torch_file f;
	const char *path = file_in("case.pth");
	static unsigned char file[4096], nested[8192];
	write_zip(path, P(GOOD), four_floats, sizeof four_floats, "big", false);
	expect_refused(hd_torch_open(&f, path), path, "not little-endian");
	write_zip(path, NULL, 0, four_floats, sizeof four_floats, NULL, false);
	expect_refused(hd_torch_open(&f, path), path, "without data.pkl");
	memset(nested, ']', sizeof nested);
	write_zip(path, nested, sizeof nested, NULL, 0, NULL, true);
	expect_refused(hd_torch_open(&f, path), path, "compressed");
	memset(nested, '(', sizeof nested);
	write_zip(path, nested, sizeof nested, NULL, 0, NULL, false);
	expect_refused(hd_torch_open(&f, path), path, "nested deeper");
	write_bytes(path, "no archive", 10);
	expect_refused(hd_torch_open(&f, path), path, "no zip archive");

	/* one flipped bit in the storage; then the file cut off */
	write_zip(path, P(GOOD), four_floats, sizeof four_floats, NULL, false);
	FILE *in = fopen(path, "rb");
	size_t bytes = fread(file, 1, sizeof file, in);
	fclose(in);
	unsigned char *at = memmem(file, bytes, four_floats, sizeof four_floats);
	cr_assert_not_null(at);
	at[5] ^= 1;
	write_bytes(path, file, bytes);
	expect_refused(hd_torch_open(&f, path), path, "entry a/data/0 is damaged");
	write_bytes(path, file, bytes - 30);
	expect_refused(hd_torch_open(&f, path), path, "damaged or cut off");
}

/* Every single-byte change of a pickle is read or refused, and never more than that. */
Test(torch_file, changed_pickles_do_no_harm)
{
	hd_torch_file f;
	cr_assert_eq(hd_torch_open(&f, FOLDER "kinds_2.pth"), HD_OK);
	hd_torch_close(&f);
	unsigned char bytes[sizeof GOOD - 1];
	size_t read = 0, refused = 0;
	for (size_t i = 0; i < sizeof bytes; i++)
		for (int value = 0; value < 256; value++) {
			hd_pickle pickle;
			memcpy(bytes, GOOD, sizeof bytes);
			bytes[i] = (unsigned char)value;
			hd_status st = hd_pickle_read(&pickle, bytes, sizeof bytes);
			cr_assert(st == HD_OK || st == HD_E_DATA, "byte %zu = %d: %s", i, value, hd_error_text());
			if (st == HD_OK)
				read++;
			else
				refused++;
			hd_pickle_free(&pickle);
		}
	cr_assert(read > 0 && refused > 0);
}
