/* SPDX-License-Identifier: Apache-2.0 */
/* Malformed recordings of every format: each refused with its reason and in little memory. */
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heimdall/iq.h"
#include "tests/recording_files.h"

#define MEMORY_MAX_KIB (10 << 10)

TestSuite(malformed_recordings, .init = setup, .fini = teardown, .timeout = 120);

typedef enum base { WAV, RF64, KIWI, NPY, SIGMF, BARE, TEXT } base;

/*
 * A valid file but for one thing. WAV, RF64, KIWI: `bytes` of text put at `at`; NPY: text is the dictionary; SIGMF: the
 * metadata, beside `data` bytes of samples (-1: no such file); BARE: of `data` bytes; TEXT: the file. keep: bytes
 * that are left of it (0: all).
 */
typedef struct malformed {
	const char *what;
	base base;
	const char *text;
	size_t at, bytes;
	int data;
	size_t keep;
	const char *reason; /* what the message has to say */
} malformed;

#define NPY_HEAD(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"
#define MANY "1099511627776" /* 2^40 */

static const malformed table[] = {
        {"empty", TEXT, "", 0, 0, 0, 0, "empty"},
        {"wrong magic", WAV, "RIFT", 0, 4, 0, 0, "no WAV file"},
        {"big-endian", WAV, "RIFX", 0, 4, 0, 0, "RIFX"},
        {"AVI", WAV, "AVI ", 8, 4, 0, 0, "no WAVE"},
        {"head cut", WAV, "", 0, 0, 0, 11, "truncated"},
        {"head only", WAV, "", 0, 0, 0, 12, "no chunk 'fmt '"},
        {"chunk head cut", WAV, "", 0, 0, 0, 17, "truncated"},
        {"fmt cut", WAV, "", 0, 0, 0, 30, "truncated"},
        {"fmt missing", WAV, "junk", 12, 4, 0, 0, "without a chunk 'fmt '"},
        {"fmt too short", WAV, "\2", 16, 1, 0, 0, "shorter"},
        {"fmt beyond the end", WAV, "\xff\xff\xff\x7f", 16, 4, 0, 0, "truncated"},
        {"data missing", WAV, "junk", 36, 4, 0, 0, "no chunk 'data'"},
        {"data cut", WAV, "", 0, 0, 0, 180, "truncated"},
        {"data beyond the end", WAV, "\0\0\0\x40", 40, 4, 0, 0, "truncated"},
        {"data of one byte too few", WAV, "\x93", 40, 1, 0, 0, "whole number of frames"},
        {"data empty", WAV, "", 0, 0, 0, 44, "truncated"},
        {"mono", WAV, "\1", 22, 1, 0, 0, "mono"},
        {"zero channels", WAV, "\0", 22, 1, 0, 0, "0 channels"},
        {"six channels", WAV, "\6", 22, 1, 0, 0, "6 channels"},
        {"zero rate", WAV, "\0\0\0\0", 24, 4, 0, 0, "0 Hz"},
        {"ADPCM", WAV, "\2", 20, 1, 0, 0, "ADPCM"},
        {"A-law", WAV, "\6", 20, 1, 0, 0, "A-law"},
        {"unknown encoding", WAV, "\x99\x99", 20, 2, 0, 0, "0x9999"},
        {"12 bits", WAV, "\x0c", 34, 1, 0, 0, "12-bit"},
        {"zero bits", WAV, "\0", 34, 1, 0, 0, "0-bit"},
        {"16-bit float", WAV, "\3", 20, 1, 0, 0, "16-bit samples"},
        {"frames of another length", WAV, "\5", 32, 1, 0, 0, "frames of 5 bytes"},
        {"extensible without its rest", WAV, "\xfe\xff", 20, 2, 0, 0, "subtype"},
        {"RF64 without ds64", RF64, "junk", 12, 4, 0, 0, "ds64"},
        {"RF64 with a short ds64", RF64, "\4", 16, 1, 0, 0, "ds64"},
        {"RF64 cut in ds64", RF64, "", 0, 0, 0, 40, "ds64"},
        {"RF64 of 2^40 bytes", RF64, "\0\0\0\0\0\1\0\0", 28, 8, 0, 0, "truncated"},
        {"RF64 of 2^64-1 bytes", RF64, "\xff\xff\xff\xff\xff\xff\xff\xff", 28, 8, 0, 0, "truncated"},
        {"odd kiwi chunk", KIWI, "\x09", 40, 1, 0, 0, "chunk 'kiwi' of 9 bytes"},
        {"long kiwi chunk", KIWI, "\x0c", 40, 1, 0, 0, "chunk 'kiwi' of 12 bytes"},
        {"odd kiwi data", KIWI, "\x1e", 58, 1, 0, 0, "whole number"},
        {"kiwi data cut", KIWI, "", 0, 0, 0, 70, "truncated"},
        {"kiwi without samples", KIWI, "junk", 54, 4, 0, 94, "no chunk 'data'"},
        {"npy magic cut", TEXT, "\x93NUMPY\1", 0, 0, 0, 0, "truncated"},
        {"npy version", TEXT, "\x93NUMPY\x09\1\1\1\1\1", 0, 0, 0, 0, "version 9"},
        {"npy dictionary", NPY, "[1, 2]", 0, 0, 64, 0, "no dictionary"},
        {"npy header cut", NPY, NPY_HEAD("'<c8'", "False", "(8,)"), 0, 0, 64, 30, "truncated"},
        {"npy data cut", NPY, NPY_HEAD("'<c8'", "False", "(8,)"), 0, 0, 63, 0, "truncated"},
        {"npy data trailing", NPY, NPY_HEAD("'<c8'", "False", "(8,)"), 0, 0, 65, 0, "trailing"},
        {"npy negative shape", NPY, NPY_HEAD("'<c8'", "False", "(-8,)"), 0, 0, 64, 0, "other than sizes"},
        {"npy of 2^40 samples", NPY, NPY_HEAD("'<c8'", "False", "(" MANY ",)"), 0, 0, 64, 0, "truncated"},
        {"npy overflow", NPY, NPY_HEAD("'<c16'", "True", "(" MANY ", " MANY ")"), 0, 0, 64, 0, "impossible"},
        {"npy objects", NPY, NPY_HEAD("'|O'", "False", "(8,)"), 0, 0, 64, 0, "dtype '|O'"},
        {"npy real", NPY, NPY_HEAD("'<f4'", "False", "(16,)"), 0, 0, 64, 0, "shape (16)"},
        {"bad JSON", SIGMF, "{\"global\": {" CI16 ",}}", 0, 0, 16, 0, "JSON"},
        {"JSON cut", SIGMF, META(CI16), 0, 0, 16, 40, "JSON"},
        {"JSON with a rest", SIGMF, META(CI16) "}", 0, 0, 16, 0, "JSON"},
        {"JSON list", SIGMF, "[1, 2]", 0, 0, 16, 0, "object"},
        {"JSON string open", SIGMF, "{\"global\": {\"core:datatype\": \"ci16_le}}", 0, 0, 16, 0, "JSON"},
        {"global missing", SIGMF, "{\"captures\": []}", 0, 0, 16, 0, "\"global\""},
        {"global twice", SIGMF, "{\"global\": {" CI16 "}, \"global\": {" CI16 "}}", 0, 0, 16, 0, "second"},
        {"global no object", SIGMF, "{\"global\": 7}", 0, 0, 16, 0, "no object"},
        {"datatype missing", SIGMF, META("\"core:sample_rate\": 1"), 0, 0, 16, 0, "core:datatype is missing"},
        {"datatype unknown", SIGMF, META("\"core:datatype\": \"cu64_le\""), 0, 0, 16, 0, "cu64_le"},
        {"datatype without order", SIGMF, META("\"core:datatype\": \"cf32\""), 0, 0, 16, 0, "'cf32'"},
        {"datatype real", SIGMF, META("\"core:datatype\": \"rf32_le\""), 0, 0, 16, 0, "is real"},
        {"rate negative", SIGMF, META(CI16 ", \"core:sample_rate\": -1"), 0, 0, 16, 0, "sample_rate"},
        {"rate a text", SIGMF, META(CI16 ", \"core:sample_rate\": \"1e6\""), 0, 0, 16, 0, "no number"},
        {"no channels", SIGMF, META(CI16 ", \"core:num_channels\": 0"), 0, 0, 16, 0, "num_channels"},
        {"2^62 channels", SIGMF, META(CI16 ", \"core:num_channels\": 4611686018427387904"), 0, 0, 16, 0, "impossible"},
        {"2^40 channels", SIGMF, META(CI16 ", \"core:num_channels\": " MANY), 0, 0, 16, 0, "whole number of samples"},
        {"size mismatch", SIGMF, META(CI16), 0, 0, 18, 0, "18 bytes"},
        {"samples of no bytes", SIGMF, META(CI16), 0, 0, 0, 0, "no samples"},
        {"samples missing", SIGMF, META(CI16), 0, 0, -1, 0, "missing"},
        {"tail beyond the file", SIGMF, META(CI16 ", \"core:trailing_bytes\": 17"), 0, 0, 16, 0, "trailing_bytes"},
        {"samples elsewhere", SIGMF, META(CI16 ", \"core:dataset\": \"../a\""), 0, 0, 16, 0, "core:dataset"},
        {"header in between", SIGMF, "{\"global\": {" CI16 "}, \"captures\": [{}, {\"core:header_bytes\": 8}]}", 0, 0,
                16, 0, "captures[1]"},
        {"place swapped", SIGMF,
                "{\"global\": {" CI16 "}, \"annotations\": [{\"core:latitude\": 151, "
                "\"core:longitude\": -33}]}",
                0, 0, 16, 0, "latitude"},
        {"archive", TEXT, "some tar", 0, 0, 0, 0, "tar -xf"},
        {"bare, odd size", BARE, "", 0, 0, 33, 0, "whole number"},
        {"bare, unknown ending", BARE, "", 0, 0, 32, 0, "no known format"},
        {"compressed", TEXT, "\x1f\x8b\x08 and more", 0, 0, 0, 0, "compressed"},
};

static void build_malformed(char path[512], const malformed *m)
{
	static const char *const names[] = {"m.wav", "m.wav", "m.wav", "m.npy", "m.sigmf-meta", "m.cs16", "m"};
	const char *name = names[m->base];
	file f = {.bytes = 0};
	static const char zeros[256];
	if (m->base == WAV || m->base == RF64)
		put_wav(&f, m->base == WAV ? 'R' : '6', 'i', 2, false, false, 1);
	else if (m->base == KIWI)
		put_kiwi(&f, 4, 12001.25, 1000000000000, no_shift);
	else if (m->base == NPY)
		put_npy_head(&f, m->text);
	else if (m->base != BARE)
		put_text(&f, m->text);
	if (m->base <= KIWI)
		memcpy(f.data + m->at, m->text, m->bytes);
	if (m->base == NPY || m->base == BARE)
		put(&f, zeros, (size_t)m->data);
	if (m->keep)
		f.bytes = m->keep;
	if (!strcmp(m->reason, "tar -xf"))
		name = "m.sigmf";
	else if (!strcmp(m->reason, "no known format"))
		name = "m.bin";
	if (m->base == SIGMF) {
		file samples = {.bytes = 0};
		put(&samples, zeros, m->data > 0 ? (size_t)m->data : 0);
		save(path, "m.sigmf-data", &samples);
		if (m->data < 0)
			cr_assert_eq(unlink(path), 0);
	}
	save(path, name, &f);
}

typedef struct outcome {
	hd_status read, probe;
	long grown_kib; /* of the peak of resident memory */
	char text[600];
} outcome;

static long peak_kib(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* Reads in a process of its own, whose memory is looked at. */
static outcome read_apart(const char *path, hd_raw_format raw)
{
	outcome o = {.read = HD_E_FAILED};
	int ends[2];
	cr_assert_eq(pipe(ends), 0);
	fflush(NULL);
	pid_t child = fork();
	cr_assert(child >= 0, "fork");
	if (child == 0) {
		hd_iq iq;
		hd_iq_info info;
		long before = peak_kib();
		o.read = hd_iq_read(&iq, &info, path, raw);
		snprintf(o.text, sizeof o.text, "%s", o.read == HD_OK ? "was read" : hd_error_text());
		if (o.read != HD_OK && iq.data)
			snprintf(o.text, sizeof o.text, "data after a failure");
		o.probe = hd_iq_probe(&info, path, raw);
		o.grown_kib = peak_kib() - before;
		_exit(write(ends[1], &o, sizeof o) == sizeof o ? 0 : 1);
	}
	close(ends[1]);
	ssize_t got = read(ends[0], &o, sizeof o);
	close(ends[0]);
	int status = 0;
	waitpid(child, &status, 0);
	cr_assert(got == sizeof o && status == 0, "%s: the reader ended with status 0x%x", path, status);
	return o;
}

static void expect_refused(const outcome *o, const char *what, const char *path, hd_status status, const char *reason)
{
	cr_expect(o->read == status && o->probe == status, "%s: read %d, probe %d, wanted %d: %s", what, (int)o->read,
	        (int)o->probe, (int)status, o->text);
	cr_expect(strstr(o->text, reason), "%s: '%s' does not say '%s'", what, o->text, reason);
	cr_expect(!strncmp(o->text, path, strlen(path)), "%s: '%s' does not name the file", what, o->text);
	cr_expect(o->grown_kib < MEMORY_MAX_KIB, "%s: %ld KiB of memory", what, o->grown_kib);
}

Test(malformed_recordings, malformed_files_are_refused_with_their_reason)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		char path[512];
		build_malformed(path, &table[i]);
		outcome o = read_apart(path, HD_RAW_AUTO);
		expect_refused(&o, table[i].what, path, HD_E_DATA, table[i].reason);
		/* a format for bare samples is no reason to take a damaged file for one, but where nothing is known of
		 * it */
		if (strcmp(table[i].reason, "no known format") != 0 && strcmp(table[i].reason, "compressed") != 0) {
			o = read_apart(path, HD_RAW_CS16);
			expect_refused(&o, table[i].what, path, HD_E_DATA, table[i].reason);
		}
	}
}

Test(malformed_recordings, missing_files)
{
	static const char *const names[] = {
	        "none.wav", "none.npy#3", "none.sigmf-meta", "none.sigmf-data", "none", "."};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[512];
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		outcome o = read_apart(path, HD_RAW_CU8);
		path[strcspn(path, "#")] = 0;
		expect_refused(&o, names[i], path, HD_E_IO, i == 5 ? "not a regular file" : "cannot open");
	}
}

/* Large files that are wrong at their very end. */
Test(malformed_recordings, large_malformed_files_cost_little_memory)
{
	char path[512];
	file head = {.bytes = 0}, chunk = {.bytes = 0};
	put_text(&head, "RIFF\xff\xff\xff\xff"
	                "WAVE");
	put_fmt(&head, 1, 2, 12001, 16, false);
	put_chunk(&chunk, "kiwi", "0123456789", 10);
	put_text(&chunk, "data");
	put_number(&chunk, 2048, 4, false);
	save(path, "large.wav", &head);
	FILE *out = fopen(path, "ab");
	cr_assert(out);
	for (int k = 0; k < 32000; k++) {
		static const char samples[2048];
		fwrite(chunk.data, 1, chunk.bytes, out);
		fwrite(samples, 1, k < 31999 ? sizeof samples : 100, out);
	}
	cr_assert_eq(fclose(out), 0);
	outcome o = read_apart(path, HD_RAW_AUTO);
	expect_refused(&o, "66 MB of KiwiSDR", path, HD_E_DATA, "truncated");

	snprintf(path, sizeof path, "%s/large.sigmf-meta", folder);
	out = fopen(path, "wb");
	cr_assert(out);
	fputs("{\"global\": {\"core:datatype\": \"cu8\"}, \"annotations\": [{}", out);
	for (int k = 0; k < 400000; k++)
		fputs(",\n{\"core:sample_start\": 1, \"core:label\": \"x\"}", out);
	fputs("], \"captures\": [", out);
	cr_assert_eq(fclose(out), 0);
	o = read_apart(path, HD_RAW_AUTO);
	expect_refused(&o, "18 MB of annotations", path, HD_E_DATA, "JSON");

	out = fopen(path, "wb");
	cr_assert(out);
	fputs("{\"global\": {\"x\": [0", out);
	for (int k = 0; k < 8000000; k++)
		fputs(",0", out);
	cr_assert_eq(fclose(out), 0);
	o = read_apart(path, HD_RAW_AUTO);
	expect_refused(&o, "16 MB of one item", path, HD_E_DATA, "128 KiB");
}
