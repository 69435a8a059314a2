/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors: round trip, the bytes other readers expect, refusal of damaged files, failing writes. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/safetensors.h"

#define MUTATIONS 5000
#define FILE_MAX 4096

static char folder[256];
static char file[512];

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-tensors-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	snprintf(file, sizeof file, "%s/a.safetensors", folder);
}

static void teardown(void)
{
	unlink(file);
	rmdir(folder);
}

TestSuite(safetensors, .init = setup, .fini = teardown);

static void write_bytes(const void *data, size_t bytes)
{
	FILE *f = fopen(file, "wb");
	cr_assert(f, "%s", file);
	cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
	cr_assert_eq(fclose(f), 0);
}

static size_t read_bytes(unsigned char *data)
{
	FILE *f = fopen(file, "rb");
	cr_assert(f, "%s", file);
	size_t bytes = fread(data, 1, FILE_MAX, f);
	fclose(f);
	return bytes;
}

/* A file of this header and data_bytes bytes 0, 1, 2, ... */
static void write_header(const char *header, size_t data_bytes)
{
	unsigned char bytes[FILE_MAX] = {0};
	size_t length = strlen(header);
	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(length >> (8 * i));
	memcpy(bytes + 8, header, length);
	for (size_t i = 0; i < data_bytes; i++)
		bytes[8 + length + i] = (unsigned char)i;
	write_bytes(bytes, 8 + length + data_bytes);
}

static const float values[6] = {1.5f, -2, 0, 3e38f, 1e-40f, 7};
static const unsigned char bits[3] = {0, 128, 255};

static hd_status write_sample(const char *path)
{
	hd_tensor tensors[] = {
	        {.name = (char[]){"stages.0.weight"},
	                .dtype = HD_F32,
	                .ndim = 2,
	                .shape = {2, 3},
	                .data = values,
	                .bytes = sizeof values},
	        {.name = (char[]){"scalar"}, .dtype = HD_F32, .ndim = 0, .data = values + 5, .bytes = sizeof *values},
	        {.name = (char[]){"empty"}, .dtype = HD_F64, .ndim = 2, .shape = {0, 4}, .data = values, .bytes = 0},
	        {.name = (char[]){"bytes"},
	                .dtype = HD_U8,
	                .ndim = 1,
	                .shape = {3},
	                .data = bits,
	                .bytes = sizeof bits},
	};
	hd_metadata meta[] = {
	        {(char[]){"config"}, (char[]){"{\"a\": \"b\\n\"}\n\"\xc3\xa9\""}}, {(char[]){"empty"}, (char[]){""}}};
	return hd_safetensors_write(path, tensors, 4, meta, 2);
}

static void expect_tensor(const hd_safetensors *f, const char *name, hd_dtype dtype, int ndim, const int64_t *shape,
        const void *data, size_t bytes)
{
	const hd_tensor *t = hd_safetensors_find(f, name);
	cr_assert(t, "%s: not found", name);
	cr_expect_eq(t->dtype, dtype, "%s: dtype %d, want %d", name, (int)t->dtype, (int)dtype);
	cr_assert_eq(t->ndim, ndim, "%s: %d dimensions, want %d", name, t->ndim, ndim);
	for (int d = 0; d < ndim; d++)
		cr_expect_eq(t->shape[d], shape[d], "%s: shape[%d] %lld, want %lld", name, d, (long long)t->shape[d],
		        (long long)shape[d]);
	cr_assert_eq(t->bytes, bytes, "%s: %zu bytes, want %zu", name, t->bytes, bytes);
	cr_expect(bytes == 0 || memcmp(t->data, data, bytes) == 0, "%s: other data", name);
}

Test(safetensors, round_trip)
{
	hd_safetensors f;
	cr_assert_eq(write_sample(file), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_safetensors_open(&f, file, true), HD_OK, "%s", hd_error_text());
	cr_expect_eq(f.tensor_count, 4, "got %zu tensors", f.tensor_count);
	expect_tensor(&f, "stages.0.weight", HD_F32, 2, (int64_t[]){2, 3}, values, sizeof values);
	expect_tensor(&f, "scalar", HD_F32, 0, NULL, values + 5, sizeof *values);
	expect_tensor(&f, "empty", HD_F64, 2, (int64_t[]){0, 4}, NULL, 0);
	expect_tensor(&f, "bytes", HD_U8, 1, (int64_t[]){3}, bits, sizeof bits);
	cr_expect_str_eq(hd_safetensors_metadata(&f, "config"), "{\"a\": \"b\\n\"}\n\"\xc3\xa9\"");
	cr_expect_str_eq(hd_safetensors_metadata(&f, "empty"), "");
	cr_expect_null(hd_safetensors_find(&f, "stages.0"));
	cr_expect_null(hd_safetensors_metadata(&f, "confi"));
	hd_safetensors_close(&f);
	cr_expect_eq(f.tensor_count, 0);
	hd_safetensors_close(&f);
	hd_safetensors_close(NULL);
}

Test(safetensors, bytes_are_those_of_the_format)
{
	static unsigned char bytes[FILE_MAX];
	cr_assert_eq(write_sample(file), HD_OK, "%s", hd_error_text());
	size_t size = read_bytes(bytes), length = 0;
	for (int i = 0; i < 8; i++)
		length |= (size_t)bytes[i] << (8 * i);
	cr_expect_eq(length % 8, 0, "header of %zu bytes: the data are not aligned", length);
	cr_expect_eq(bytes[8], '{', "the header starts with 0x%02x", bytes[8]);
	size_t end = 8 + length;
	while (bytes[end - 1] == ' ')
		end--;
	cr_expect_eq(bytes[end - 1], '}', "the header ends with 0x%02x", bytes[end - 1]);
	cr_assert_eq(size, 8 + length + sizeof values + sizeof *values + sizeof bits, "file of %zu bytes", size);
	cr_expect_eq(memcmp(bytes + 8 + length, values, sizeof values), 0, "data do not start behind the header");
	bytes[8 + length] = 0; /* ends the header as text */
	cr_expect(strstr((char *)bytes + 8, "\"dtype\":\"F32\""), "no dtype in %s", bytes + 8);
	cr_expect(strstr((char *)bytes + 8, "\"data_offsets\":[0,24]"), "no data_offsets in %s", bytes + 8);
	/* zlib.crc32(bytes([0, 128, 255])) */
	cr_expect(strstr((char *)bytes + 8, "\"checksum:bytes\":\"e9c0aed4\""), "other checksum in %s", bytes + 8);
}

Test(safetensors, a_changed_byte_is_named_with_its_tensor)
{
	static unsigned char bytes[FILE_MAX];
	hd_safetensors f;
	cr_assert_eq(write_sample(file), HD_OK, "%s", hd_error_text());
	size_t size = read_bytes(bytes);
	bytes[size - 1] ^= 1;
	write_bytes(bytes, size);
	cr_assert_eq(hd_safetensors_open(&f, file, true), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), "bytes") && strstr(hd_error_text(), "checksum") &&
	                  strstr(hd_error_text(), file),
	        "got '%s'", hd_error_text());
	cr_assert_eq(hd_safetensors_open(&f, file, false), HD_OK, "unverified: %s", hd_error_text());
	hd_safetensors_close(&f);
}

Test(safetensors, headers_of_other_writers)
{
	hd_safetensors f;
	write_header(" {\"b\": {\"data_offsets\": [4, 8], \"shape\": [1], \"dtype\": \"I32\"},\n"
	             "\"a\": {\"dtype\": \"BF16\", \"shape\": [2, 1], \"data_offsets\": [0, 4]}}  ",
	        8);
	cr_assert_eq(hd_safetensors_open(&f, file, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(f.tensor_count, 2);
	cr_expect_str_eq(f.tensors[0].name, "a", "tensors are not in the order of their data");
	cr_expect_eq(f.tensors[1].dtype, HD_I32);
	cr_expect_eq(((const unsigned char *)f.tensors[1].data)[0], 4);
	hd_safetensors_close(&f);
	write_header("{}", 0);
	cr_assert_eq(hd_safetensors_open(&f, file, true), HD_OK, "%s", hd_error_text());
	cr_expect_eq(f.tensor_count, 0);
	hd_safetensors_close(&f);
}

Test(safetensors, bad_headers_are_refused)
{
#define TENSOR(name, dtype, shape, offsets)                                                                            \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
	static const struct {
		const char *header;
		size_t data_bytes;
	} cases[] = {
	        {"", 0},
	        {"[]", 0},
	        {"{", 0},
	        {"{} x", 0},
	        {"{}", 1},
	        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 7},
	        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 9},
	        {"{" TENSOR("a", "F32", "[3]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[2]", "[8,0]") "}", 8},
	        {"{" TENSOR("a", "F32", "[2]", "[-8,0]") "}", 8},
	        {"{" TENSOR("a", "F32", "[-2]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[2.0]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[2.0]", "[0,0]") "}", 0},
	        {"{" TENSOR("a", "F32", "2", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[2]", "[0,8,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[2]", "8") "}", 8},
	        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,2]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0},
	        {"{" TENSOR("a", "F32", "[4611686018427387905]", "[0,4]") "}", 4},
	        {"{" TENSOR("a", "F32", "[99999999999999999999]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "I64", "[1]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "f32", "[2]", "[0,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[0,4]") "}", 4},
	        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[2]", "[4,12]") "}", 12},
	        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[8,12]") "}", 12},
	        {"{" TENSOR("a", "F32", "[1]", "[4,8]") "}", 8},
	        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[0,4]") "}", 8},
	        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[0,4]") "}", 4},
	        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[4,8]") "}", 8},
	        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
	        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4},
	        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4},
	        {"{\"a\":[]}", 0},
	        {"{\"__metadata__\":{\"a\":1}}", 0},
	        {"{\"__metadata__\":[]}", 0},
	        {"{\"__metadata__\":{\"checksum:a\":\"00000000\"}," TENSOR("a", "F32", "[1]", "[0,4]") "}", 4},
	};
#undef TENSOR
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_safetensors f;
		write_header(cases[i].header, cases[i].data_bytes);
		hd_status st = hd_safetensors_open(&f, file, true);
		cr_expect_eq(st, HD_E_DATA, "%s with %zu bytes: got %s", cases[i].header, cases[i].data_bytes,
		        hd_status_text(st));
		cr_expect(strstr(hd_error_text(), file), "no path in '%s'", hd_error_text());
		if (st == HD_OK)
			hd_safetensors_close(&f);
	}
}

Test(safetensors, header_lengths_beyond_the_file_are_refused)
{
	static const unsigned char lengths[][8] = {{1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	        {0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 0, 0, 0, 0, 0x80}, {0}};
	hd_safetensors f;
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		write_bytes(lengths[i], 8);
		cr_expect_eq(hd_safetensors_open(&f, file, true), HD_E_DATA, "case %zu", i);
	}
	for (size_t bytes = 0; bytes < 8; bytes++) {
		write_bytes(lengths[4], bytes);
		cr_expect_eq(hd_safetensors_open(&f, file, true), HD_E_DATA, "file of %zu bytes", bytes);
	}
}

Test(safetensors, every_truncation_is_refused)
{
	static unsigned char bytes[FILE_MAX];
	hd_safetensors f;
	cr_assert_eq(write_sample(file), HD_OK, "%s", hd_error_text());
	size_t size = read_bytes(bytes);
	for (size_t kept = 0; kept < size; kept++) {
		write_bytes(bytes, kept);
		cr_expect_eq(hd_safetensors_open(&f, file, true), HD_E_DATA, "%zu of %zu bytes", kept, size);
	}
}

static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* What was accepted has to be safe to read from end to end. */
static unsigned sum_all(const hd_safetensors *f)
{
	unsigned sum = 0;
	for (size_t i = 0; i < f->tensor_count; i++) {
		sum += (unsigned)strlen(f->tensors[i].name);
		for (size_t b = 0; b < f->tensors[i].bytes; b++)
			sum += ((const unsigned char *)f->tensors[i].data)[b];
	}
	for (size_t i = 0; i < f->metadata_count; i++)
		sum += (unsigned)(strlen(f->metadata[i].key) + strlen(f->metadata[i].value));
	return sum;
}

Test(safetensors, mutated_files_are_read_or_refused, .timeout = 60)
{
	static unsigned char good[FILE_MAX], bad[FILE_MAX];
	static const char alphabet[] = "{}[]\",:0123456789-.eE \\utF";
	cr_assert_eq(write_sample(file), HD_OK, "%s", hd_error_text());
	size_t size = read_bytes(good);
	uint32_t random = 20240229;
	volatile unsigned sum = 0;
	int accepted = 0, refused = 0;
	for (int i = 0; i < MUTATIONS; i++) {
		memcpy(bad, good, size);
		size_t bytes = size;
		for (uint32_t edits = 1 + next_random(&random) % 3; edits; edits--) {
			size_t at = next_random(&random) % bytes;
			uint32_t kind = next_random(&random) % 4;
			if (kind == 0)
				bad[at] = (unsigned char)next_random(&random);
			else if (kind == 1)
				bad[at] ^= (unsigned char)(1u << next_random(&random) % 8);
			else if (kind == 2)
				bad[at] = (unsigned char)alphabet[next_random(&random) % (sizeof alphabet - 1)];
			else if (at > 8)
				bytes = at;
		}
		write_bytes(bad, bytes);
		hd_safetensors f;
		hd_status st = hd_safetensors_open(&f, file, i % 2);
		cr_assert(st == HD_OK || st == HD_E_DATA, "mutation %d: got %s", i, hd_error_text());
		if (st == HD_OK) {
			accepted++;
			sum += sum_all(&f);
			hd_safetensors_close(&f);
		} else {
			refused++;
		}
	}
	/* Both outcomes occur, else the mutations test nothing. */
	cr_expect_gt(accepted, 0);
	cr_expect_gt(refused, MUTATIONS / 2, "%d of %d refused", refused, MUTATIONS);
}

Test(safetensors, failing_writes_leave_the_old_file)
{
	static unsigned char before[FILE_MAX], after[FILE_MAX];
	char below[600], blocked[600];
	cr_assert_eq(write_sample(file), HD_OK, "%s", hd_error_text());
	size_t size = read_bytes(before);

	snprintf(below, sizeof below, "%s/b.safetensors", file);
	cr_expect_eq(write_sample(below), HD_E_IO, "written below a file");
	cr_expect(strstr(hd_error_text(), below) && strstr(hd_error_text(), "Not a directory"), "got '%s'",
	        hd_error_text());

	snprintf(blocked, sizeof blocked, "%s/folder", folder);
	cr_assert_eq(mkdir(blocked, 0777), 0);
	cr_expect_eq(write_sample(blocked), HD_E_IO, "a folder was replaced");
	cr_expect(strstr(hd_error_text(), blocked), "got '%s'", hd_error_text());
	cr_assert_eq(rmdir(blocked), 0);

	cr_expect_eq(read_bytes(after), size);
	cr_expect_eq(memcmp(before, after, size), 0, "the old file changed");
	DIR *list = opendir(folder);
	cr_assert(list);
	int entries = 0;
	while (readdir(list))
		entries++;
	closedir(list);
	cr_expect_eq(
	        entries, 3, "%d entries in the folder, want ., .. and the file: a temporary file is left", entries);
}

Test(safetensors, unreadable_paths)
{
	hd_safetensors f;
	cr_expect_eq(hd_safetensors_open(&f, file, true), HD_E_IO);
	cr_expect(
	        strstr(hd_error_text(), file) && strstr(hd_error_text(), "No such file"), "got '%s'", hd_error_text());
	cr_expect_eq(hd_safetensors_open(&f, folder, true), HD_E_IO);
	cr_expect(strstr(hd_error_text(), folder), "got '%s'", hd_error_text());
}

Test(safetensors, writes_refuse_what_cannot_be_read_back)
{
	hd_tensor twice[2] = {{.name = (char[]){"a"},
	                              .dtype = HD_F32,
	                              .ndim = 1,
	                              .shape = {6},
	                              .data = values,
	                              .bytes = sizeof values},
	        {.name = (char[]){"a"},
	                .dtype = HD_F32,
	                .ndim = 1,
	                .shape = {6},
	                .data = values,
	                .bytes = sizeof values}};
	hd_metadata no_text = {(char[]){"config"}, (char[]){"\xff"}};
	cr_expect_neq(hd_safetensors_write(file, twice, 2, NULL, 0), HD_OK, "one name twice was written");
	cr_expect_neq(
	        hd_safetensors_write(file, twice, 1, &no_text, 1), HD_OK, "metadata that is no UTF-8 was dropped");
	cr_expect(strstr(hd_error_text(), file) && strstr(hd_error_text(), "config"), "got '%s'", hd_error_text());
	cr_expect_neq(access(file, F_OK), 0, "a file was left");
}

Test(safetensors, long_names_keep_their_own_checksums)
{
	char names[2][300];
	for (int i = 0; i < 2; i++) {
		memset(names[i], 'x', sizeof names[i]);
		names[i][298] = (char)('a' + i);
		names[i][299] = '\0';
	}
	hd_tensor tensors[2] = {
	        {.name = names[0], .dtype = HD_F32, .ndim = 1, .shape = {1}, .data = values, .bytes = 4},
	        {.name = names[1], .dtype = HD_F32, .ndim = 1, .shape = {1}, .data = values + 1, .bytes = 4}};
	hd_safetensors f;
	cr_assert_eq(hd_safetensors_write(file, tensors, 2, NULL, 0), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_safetensors_open(&f, file, true), HD_OK, "%s", hd_error_text());
	hd_safetensors_close(&f);
}
