/* SPDX-License-Identifier: Apache-2.0 */
/* Catalogues as folder, SQLite and the original's layout: what goes in comes out, and what is none is refused. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "heimdall/iq.h"
#include "heimdall/settings.h"
#include "host/cli/cli.h"
#include "host/data/catalog_rows.h"

#define R 3
#define N 64

static char root[256];

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/heimdall-formats-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(root), "mkdtemp %s", root);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
	(void)info;
	(void)type;
	(void)walk;
	return remove(path);
}

static void teardown(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(catalog_formats, .init = setup, .fini = teardown);

/* A path below the test's folder; four at a time. */
static const char *below(const char *name)
{
	static char paths[4][600];
	static int turn;
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", root, name);
	return path;
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "wb");
	cr_assert(f, "%s", path);
	cr_assert(fputs(text, f) >= 0);
	cr_assert_eq(fclose(f), 0);
}

static hd_catalog read_back(const char *path)
{
	hd_catalog c;
	cr_assert_eq(hd_catalog_read(&c, path, true), HD_OK, "%s", hd_error_text());
	return c;
}

/* Reads what must be refused with `status` and these words. */
static void refused(const char *path, hd_status status, const char *words)
{
	hd_catalog c;
	hd_status got = hd_catalog_read(&c, path, true);
	cr_expect_eq(got, status, "%s: got '%s', wanted '%s'", path, hd_status_text(got), hd_status_text(status));
	cr_expect(strstr(hd_error_text(), words), "'%s' does not say '%s'", hd_error_text(), words);
	cr_expect(strstr(hd_error_text(), path), "'%s' does not name '%s'", hd_error_text(), path);
	cr_expect(!c.recordings && !c.path, "a failed reading leaves zeroes");
	hd_catalog_free(&c);
}

static void check_text(const char *what, size_t row, const char *got, const char *want)
{
	bool same = got && want ? !strcmp(got, want) : got == want;
	cr_expect(same, "row %zu, %s: got '%s', wanted '%s'", row, what, got ? got : "(null)", want ? want : "(null)");
}

/* Bit for bit; one NaN is as good as another. */
static void check_number(const char *what, size_t row, double got, double want)
{
	bool same = (isnan(got) && isnan(want)) || (got == want && signbit(got) == signbit(want));
	cr_expect(same, "row %zu, %s: got %.17g, wanted %.17g", row, what, got, want);
}

static void check_same(const hd_catalog *got, const hd_catalog *want)
{
	cr_assert_eq(got->count, want->count, "%zu rows, wanted %zu", got->count, want->count);
	for (size_t i = 0; i < want->count; i++) {
		const hd_recording *g = &got->recordings[i], *w = &want->recordings[i];
		check_text("id", i, g->id, w->id);
		check_text("session", i, g->session, w->session);
		check_text("emission", i, g->emission, w->emission);
		check_text("receiver", i, g->receiver, w->receiver);
		check_text("iq", i, g->iq, w->iq);
		check_text("version", i, g->version, w->version);
		check_text("source", i, g->source, w->source);
		check_text("extra", i, g->extra, w->extra);
		check_number("sample_rate", i, g->sample_rate_hz, w->sample_rate_hz);
		check_number("latitude", i, g->latitude_deg, w->latitude_deg);
		check_number("longitude", i, g->longitude_deg, w->longitude_deg);
		check_number("frequency", i, g->frequency_hz, w->frequency_hz);
		check_number("snr", i, g->snr_db, w->snr_db);
		check_number("timestamp", i, g->timestamp_s, w->timestamp_s);
		cr_expect_eq(g->approved, w->approved, "row %zu: approved %d", i, g->approved);
		cr_expect_eq(g->split, w->split, "row %zu: split %d, wanted %d", i, g->split, w->split);
		cr_expect_eq(
		        g->skip, w->skip, "row %zu: %s, wanted %s", i, hd_skip_text(g->skip), hd_skip_text(w->skip));
	}
}

static const char *const varied =
        "id,session_id,emission,websdr_id,iq,sample_rate,latitude,longitude,frequency_mhz,snr_db,timestamp,approved,"
        "source,split,version,\"note, \"\"long\"\"\",depth\n"
        "a1,s1,e1,1,/x/a.npy,192000,48.123456789012345,-11.1,145.5,12.25,2025-06-30 12:00:00,true,tower,train,v1,"
        "\"two\nlines, \"\"x\"\"\",007\n"
        "a2,s1,e1,2,\"/x/b, c.npy\",12001.03,0.1,179.99999999999997,433.0123456789,-0.5,2025-06-30T12:00:00.125Z,"
        "yes,\"M\xc3\xbcnchen \xe2\x82\xac\",validation,,\" blank \",1e3\n"
        "a3,\"s,2\",,3,rel/d.npy,,-90,180,,,1751284800.0000002,1,,test,,\r,\n"
        "a4,s3,,,s3://bucket/key.npy,8000,91,0,0.0775,nan,,true,,,\"e\"\"tag\",,x\n"
        "a5,s4,e9,4,/x/e.npy,8000,1,1,99999999999,1e-300,1969-12-31T23:59:59.9Z,false,,,,,y\n"
        "a6,s5,e9,4,,8000,0,0,1e-6,-1e300,nonsense,true,,,,,z\n";

Test(catalog_formats, rows_survive_folder_and_database)
{
	write_text(below("manifest.csv"), varied);
	hd_catalog first = read_back(root);
	cr_assert_eq(first.count, 6);
	cr_expect_eq(first.format, HD_CATALOG_FOLDER);
	check_number("frequency", 0, first.recordings[0].frequency_hz, 145500000);
	check_number("frequency", 5, first.recordings[5].frequency_hz, 1);
	check_number("timestamp", 4, first.recordings[4].timestamp_s, 0.9 - 1);
	check_text("source", 1, first.recordings[1].source, "M\xc3\xbcnchen \xe2\x82\xac");
	check_text("scheme", 3, first.recordings[3].iq, "s3://bucket/key.npy");
	static const char *const names[] = {"folder", "database", "folder again"};
	static const hd_catalog_format formats[] = {HD_CATALOG_FOLDER, HD_CATALOG_SQLITE, HD_CATALOG_FOLDER};
	hd_catalog before = read_back(root);
	for (int k = 0; k < 3; k++) {
		cr_assert_eq(hd_catalog_write(below(names[k]), formats[k], &before, NULL, NULL, HD_RAW_AUTO), HD_OK,
		        "%s", hd_error_text());
		hd_catalog after = read_back(below(names[k]));
		cr_expect_eq(after.format, formats[k]);
		check_same(&after, &first);
		hd_catalog_free(&before);
		before = after;
	}
	hd_catalog_free(&before);
	hd_catalog_free(&first);
}

static uint64_t random_state = 88172645463325252u;

/* xorshift64 */
static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static double random_unit(void)
{
	return (double)(next_random() >> 11) * 0x1p-53;
}

Test(catalog_formats, numbers_and_times_read_back_bit_equal)
{
	char text[HD_NUMBER_BYTES];
	for (int i = 0; i < 100000; i++) {
		uint64_t bits = next_random();
		double value;
		memcpy(&value, &bits, sizeof value);
		hd_number_format(text, value);
		cr_assert(isfinite(value) ? strtod(text, NULL) == value : !text[0], "%.17g became '%s'", value, text);
		value = (random_unit() - 0.3) * 4e9;
		value = i % 3 ? value : floor(value);
		hd_time_format(text, value);
		cr_assert_eq(hd_time_parse(text), value, "%.17g became '%s'", value, text);
		cr_assert(strchr(text, 'T'), "%.17g is no ISO time: '%s'", value, text);
	}
	hd_time_format(text, 1751284800.25);
	cr_expect_str_eq(text, "2025-06-30T12:00:00.25Z");
	hd_time_format(text, NAN);
	cr_expect_str_eq(text, "");
	hd_number_format(text, 0.1);
	cr_expect_str_eq(text, "0.1");
}

/* Any frequency, also where no double of megahertz times a million is it. */
Test(catalog_formats, frequencies_survive_a_folder)
{
	hd_recording rows[2000] = {0};
	hd_catalog c = {.recordings = rows, .count = 2000};
	static char name[] = "x", iq[] = "/x";
	for (size_t i = 0; i < c.count; i++)
		rows[i] = (hd_recording){.id = name,
		        .session = name,
		        .emission = name,
		        .receiver = name,
		        .iq = iq,
		        .frequency_hz = i % 2 ? random_unit() * 1e10 : floor(random_unit() * 1e10),
		        .latitude_deg = random_unit(),
		        .longitude_deg = random_unit(),
		        .snr_db = NAN,
		        .timestamp_s = NAN,
		        .approved = true,
		        .split = -1};
	cr_assert_eq(hd_catalog_write(below("f"), HD_CATALOG_FOLDER, &c, NULL, NULL, HD_RAW_AUTO), HD_OK, "%s",
	        hd_error_text());
	hd_catalog back = read_back(below("f"));
	check_same(&back, &c);
	hd_catalog_free(&back);
}

Test(catalog_formats, times_without_a_zone_are_utc)
{
	static const struct {
		const char *text;
		double seconds;
	} rows[] = {{"2025-06-30 12:00:00", 1751284800}, {"2025-06-30T12:00:00", 1751284800},
	        {"2025-06-30T12:00", 1751284800}, {"2025-06-30", 1751241600}, {"2025-06-30T12:00:00Z", 1751284800},
	        {"2025-06-30 14:00:00+02", 1751284800}, {"2025-06-30 14:00:00+02:00", 1751284800},
	        {"2025-06-30 07:30:00-0430", 1751284800}, {"2025-06-30 12:00:00 UTC", 1751284800},
	        {"2025-06-30 12:00:00.5+00", 1751284800.5}, {"1751284800.5", 1751284800.5}, {"2025-02-30", NAN},
	        {"30.6.2025", NAN}, {"2025-06-30 noon", NAN}, {"2025-06-30T12:00:00+", NAN},
	        {"2025-06-30T12:00:00+02:00x", NAN}, {"2025-13-01", NAN}, {"", NAN}, {"yesterday", NAN}};
	setenv("TZ", "America/New_York", 1);
	tzset();
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check_number(rows[i].text, i, hd_time_parse(rows[i].text), rows[i].seconds);
}

#define HEAD "session,iq,latitude,longitude,"

Test(catalog_formats, files_that_are_no_catalogue)
{
	static const struct {
		const char *text, *words;
	} rows[] = {{HEAD "split\na,x,1,1,holdout\n", ":2: split 'holdout'"},
	        {HEAD "note\na,x,1,1,\xff\xfe\n", ":2: column 'note' is no UTF-8"},
	        {HEAD "n\xff\na,x,1,1,1\n", ":1: the name of column 5"},
	        {HEAD "note\na,x,1,1,1,5\n", ":2: 6 fields for 5 columns"},
	        {HEAD "note,NOTE\na,x,1,1,1,5\n", ":1: two columns 'NOTE'"}, {HEAD "x\n", "no recordings"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		write_text(below("manifest.csv"), rows[i].text);
		hd_catalog c;
		cr_expect_eq(hd_catalog_read(&c, root, true), HD_E_DATA, "row %zu", i);
		cr_expect(strstr(hd_error_text(), rows[i].words), "row %zu: '%s' does not say '%s'", i, hd_error_text(),
		        rows[i].words);
	}
	remove(below("manifest.csv"));
	refused(root, HD_E_DATA, "manifest.csv");
	refused(below("absent"), HD_E_DATA, "No such file");
}

Test(catalog_formats, names_come_before_aliases_and_nameless_columns_are_left_out)
{
	write_text(below("manifest.csv"), "session,session_id,,,iq,latitude,longitude,Split\n"
	                                  "a,b,1,2,x,1,1,VALIDATION\n");
	hd_catalog c = read_back(root);
	check_text("session", 0, c.recordings[0].session, "a");
	check_text("extra", 0, c.recordings[0].extra, "{\"session_id\":\"b\"}");
	cr_expect_eq(c.recordings[0].split, HD_VAL);
	hd_catalog_free(&c);
}

Test(catalog_formats, folder_that_holds_a_catalogue_is_left_alone)
{
	write_text(below("manifest.csv"), HEAD "x\na,x,1,1,1\n");
	hd_catalog c = read_back(root);
	for (int format = 0; format < 3; format++) {
		cr_expect_eq(
		        hd_catalog_write(root, (hd_catalog_format)format, &c, NULL, NULL, HD_RAW_AUTO), HD_E_USAGE);
		cr_expect(strstr(hd_error_text(), "holds a catalogue"), "'%s'", hd_error_text());
	}
	hd_catalog_free(&c);
	cr_assert_eq(mkdir(below("o"), 0755), 0);
	cr_assert_eq(mkdir(below("o/test"), 0755), 0);
	c = read_back(root);
	cr_expect_eq(hd_catalog_write(below("o"), HD_CATALOG_FOLDER, &c, NULL, NULL, HD_RAW_AUTO), HD_E_USAGE);
	hd_catalog_free(&c);
}

/* ---- SQLite ---- */

static const char *make_database(const char *name, const char *sql)
{
	const char *path = below(name);
	sqlite3 *db = NULL;
	char *error = NULL;
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, &error), SQLITE_OK, "%s", error ? error : "");
	sqlite3_close(db);
	return path;
}

Test(catalog_formats, databases_that_are_no_catalogue)
{
	const char *path = below("text.sqlite");
	write_text(path,
	        "this is a text of more than the hundred bytes that a header of a database has, so that only its "
	        "content can tell\n");
	refused(path, HD_E_DATA, "no SQLite database");
	path = below("empty.db");
	write_text(path, "");
	refused(path, HD_E_DATA, "no SQLite database");
	path = make_database("other.sqlite", "CREATE TABLE notes (a); INSERT INTO notes VALUES (1)");
	refused(path, HD_E_DATA, "neither a table 'recordings' nor 'measurements'");
	path = make_database("lacks.sqlite", "CREATE TABLE recordings (session, latitude, longitude)");
	refused(path, HD_E_DATA, "table 'recordings': no column 'iq'");
	path = make_database("nobody.sqlite", "CREATE TABLE recordings (iq, latitude, longitude)");
	refused(path, HD_E_DATA, "neither a column 'session' nor 'id'");
	path = make_database("bare.sqlite", "CREATE TABLE recordings (id, iq, latitude, longitude)");
	refused(path, HD_E_DATA, "no recordings");
	/* pages behind the first are overwritten */
	path = make_database("torn.sqlite",
	        "CREATE TABLE recordings (id, iq, latitude, longitude); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
	        "SELECT "
	        "i + 1 FROM n WHERE i < 2000) INSERT INTO recordings SELECT i, 'file' || i, 1, 1 FROM n");
	int fd = open(path, O_WRONLY);
	char noise[4096];
	memset(noise, 0x5a, sizeof noise);
	for (int page = 1; page < 8; page++)
		cr_assert_eq(pwrite(fd, noise, sizeof noise, page * 4096), (ssize_t)sizeof noise);
	close(fd);
	refused(path, HD_E_DATA, "malformed");
}

#define ORIGINAL_COLUMNS "session_id, websdr_id, latitude, longitude, frequency_mhz, snr_db, timestamp, iq, approved"
#define ORIGINAL_ROWS                                                                                                  \
	" VALUES ('s1', 3, 48.5, 11.25, 145.5, 9.5, '2025-06-30 12:00:00', 'a.npy', 1),"                               \
	"('s1', 4, 48.5, 11.25, 145.5, NULL, NULL, '/x/b.npy', 0)"

Test(catalog_formats, measurements_table_or_view_stands_in)
{
	static const char *const makers[] = {"CREATE TABLE measurements (" ORIGINAL_COLUMNS
	                                     "); INSERT INTO measurements" ORIGINAL_ROWS,
	        "CREATE TABLE parts (" ORIGINAL_COLUMNS "); INSERT INTO parts" ORIGINAL_ROWS
	        "; CREATE VIEW measurements AS SELECT * FROM parts",
	        "CREATE TABLE measurements (x); CREATE TABLE Recordings (" ORIGINAL_COLUMNS
	        "); INSERT INTO recordings" ORIGINAL_ROWS};
	for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
		char name[32];
		snprintf(name, sizeof name, "d%zu.db", i);
		hd_catalog c = read_back(make_database(name, makers[i]));
		cr_assert_eq(c.count, 2);
		const hd_recording *r = c.recordings;
		check_text("session", i, r[0].session, "s1");
		check_text("receiver", i, r[0].receiver, "3");
		check_text("iq below the file's folder", i, r[0].iq, below("a.npy"));
		check_text("iq", i, r[1].iq, "/x/b.npy");
		check_number("latitude", i, r[0].latitude_deg, 48.5);
		check_number("frequency", i, r[0].frequency_hz, 145500000);
		check_number("snr", i, r[0].snr_db, 9.5);
		check_number("timestamp", i, r[0].timestamp_s, 1751284800);
		check_number("snr", i, r[1].snr_db, NAN);
		cr_expect_eq(r[0].skip, HD_SKIP_NONE, "%s", hd_skip_text(r[0].skip));
		cr_expect_eq(r[1].skip, HD_SKIP_NOT_APPROVED, "%s", hd_skip_text(r[1].skip));
		cr_expect(strstr(r[1].skip_detail, "row 2"), "'%s'", r[1].skip_detail);
		hd_catalog_free(&c);
	}
}

static char *file_bytes(const char *path, size_t *bytes)
{
	FILE *f = fopen(path, "rb");
	cr_assert(f, "%s", path);
	fseek(f, 0, SEEK_END);
	*bytes = (size_t)ftell(f);
	rewind(f);
	char *data = malloc(*bytes + 1);
	cr_assert_eq(fread(data, 1, *bytes, f), *bytes);
	fclose(f);
	return data;
}

static int count_files(const char *folder)
{
	int n = 0;
	const struct dirent *entry;
	DIR *dir = opendir(folder);
	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

/* Also names that mean something in a URI, and a database in write-ahead mode. */
Test(catalog_formats, reading_changes_nothing)
{
	static const char *const names[] = {"plain.sqlite", "wal 100%?#&.sqlite"};
	for (size_t i = 0; i < 2; i++) {
		char sql[600];
		snprintf(sql, sizeof sql,
		        "%sCREATE TABLE recordings (" ORIGINAL_COLUMNS "); INSERT INTO recordings" ORIGINAL_ROWS,
		        i ? "PRAGMA journal_mode=WAL;" : "");
		const char *path = make_database(names[i], sql);
		size_t before_bytes, after_bytes;
		char *before = file_bytes(path, &before_bytes);
		cr_expect_eq(before[19], i ? 2 : 1, "mode of the file %d", before[19]);
		hd_catalog c = read_back(path);
		cr_expect_eq(c.count, 2);
		hd_catalog_free(&c);
		char *after = file_bytes(path, &after_bytes);
		cr_expect(before_bytes == after_bytes && !memcmp(before, after, before_bytes), "%s changed", path);
		cr_expect_eq(count_files(root), (int)i + 1, "%d files beside %s", count_files(root), path);
		free(before);
		free(after);
	}
}

/* A writer that is at work in write-ahead mode: its committed rows are seen. */
Test(catalog_formats, rows_in_the_log_are_seen)
{
	const char *path = below("live.sqlite");
	sqlite3 *db = NULL;
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "PRAGMA journal_mode=WAL; CREATE TABLE recordings (" ORIGINAL_COLUMNS ")", NULL,
	                     NULL, NULL),
	        SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "INSERT INTO recordings" ORIGINAL_ROWS, NULL, NULL, NULL), SQLITE_OK);
	hd_catalog c = read_back(path);
	cr_expect_eq(c.count, 2, "%zu rows", c.count);
	hd_catalog_free(&c);
	sqlite3_close(db);
}

/* ---- the original's layout ---- */

/* A value of recording `which`: whole steps of 1/32768, so that nothing rounds. */
static int16_t component_of(int which, int i)
{
	return (int16_t)((which * 1009 + i * 37) % 2000 - 1000);
}

static void write_recording(const char *path, int which, int64_t samples)
{
	int16_t *pairs = malloc((size_t)samples * 2 * sizeof *pairs);
	const int64_t shape[2] = {samples, 2};
	for (int i = 0; i < 2 * (int)samples; i++)
		pairs[i] = component_of(which, i);
	cr_assert_eq(hd_npy_write(path, "<i2", shape, 2, pairs, (size_t)samples * 2 * sizeof *pairs), HD_OK, "%s",
	        hd_error_text());
	free(pairs);
}

static const hd_sample_config config = {.receivers = "all", .validation_split = 0.2, .test_split = 0.1, .seed = 7};

static hd_samples build(hd_catalog *c)
{
	hd_samples s;
	cr_assert_eq(hd_samples_build(&s, c, &config), HD_OK, "%s", hd_error_text());
	return s;
}

/* Sessions a/b@c% (two emissions), d, e: receivers x, y, z; y did not hear d; the last row is not approved. */
static void make_recordings(void)
{
	write_text(below("manifest.csv"), "session,emission,receiver,iq,latitude,longitude,approved,split\n"
	                                  "a/b@c%,1,x,0.npy,48.123456789012345,11,1,train\n"
	                                  "a/b@c%,1,y,1.npy,48.123456789012345,11,1,train\n"
	                                  "a/b@c%,1,z,2.npy,48.123456789012345,11,1,train\n"
	                                  "a/b@c%,2/3,z,3.npy,48.5,11.5,1,train\n"
	                                  "d,d,z,4.npy,-1,-179.5,1,val\n"
	                                  "d,d,x,5.npy,-1,-179.5,1,val\n"
	                                  "e,,y,6.npy,1,2,1,test\n"
	                                  "e,,x,7.npy,1,2,0,test\n");
	for (int i = 0; i < 8; i++) {
		char name[16];
		snprintf(name, sizeof name, "%d.npy", i);
		write_recording(below(name), i, N);
	}
}

static void check_row(const hd_recording *r, int which)
{
	hd_iq iq;
	cr_assert_eq(hd_iq_read(&iq, NULL, r->iq, HD_RAW_AUTO), HD_OK, "%s", hd_error_text());
	cr_assert_eq(iq.rows, 1);
	cr_assert_eq(iq.samples, N);
	cr_assert_eq(iq.dtype, HD_F32);
	for (int i = 0; i < 2 * N; i++) {
		float want = which < 0 ? 0 : (float)component_of(which, i) / 32768, got = ((float *)iq.data)[i];
		cr_assert_eq(got, want, "%s[%d]: got %g, wanted %g", r->iq, i, (double)got, (double)want);
	}
	hd_iq_free(&iq);
}

Test(catalog_formats, original_layout_keeps_what_it_can)
{
	static const struct {
		const char *session, *emission;
		double latitude, longitude;
		int split, recordings[R];
	} want[] = {{"a/b@c%", "1", 48.123456789012345, 11, HD_TRAIN, {0, 1, 2}},
	        {"a/b@c%", "2/3", 48.5, 11.5, HD_TRAIN, {-1, -1, 3}}, {"d", "d", -1, -179.5, HD_VAL, {5, -1, 4}},
	        {"e", "e", 1, 2, HD_TEST, {-1, 6, -1}}};
	static const char *const receivers[R] = {"0", "1", "2"};
	make_recordings();
	hd_catalog c = read_back(root);
	hd_samples s = build(&c);
	cr_assert_eq(hd_catalog_write(below("out"), HD_CATALOG_ORIGINAL, &c, &s, NULL, HD_RAW_AUTO), HD_OK, "%s",
	        hd_error_text());
	cr_expect_eq(access(below("out/train/a%2Fb%40c%25@2%2F3_iq.npy"), F_OK), 0, "name of the second sample");
	cr_expect_eq(access(below("out/val/d_label.npy"), F_OK), 0, "name of a sample with no emission of its own");
	hd_catalog back = read_back(below("out"));
	cr_expect_eq(back.format, HD_CATALOG_ORIGINAL);
	cr_assert_eq(back.count, 4 * R, "%zu rows", back.count);
	for (size_t i = 0; i < back.count; i++) {
		const hd_recording *r = &back.recordings[i];
		size_t k = i / R, channel = i % R;
		check_text("session", i, r->session, want[k].session);
		check_text("emission", i, r->emission, want[k].emission);
		check_text("receiver", i, r->receiver, receivers[channel]);
		check_number("latitude", i, r->latitude_deg, want[k].latitude);
		check_number("longitude", i, r->longitude_deg, want[k].longitude);
		cr_expect_eq(r->split, want[k].split, "row %zu: split %d", i, r->split);
		cr_expect(r->approved && r->skip == HD_SKIP_NONE, "row %zu: %s", i, hd_skip_text(r->skip));
		check_row(r, want[k].recordings[channel]);
	}
	hd_catalog_free(&back);
	hd_samples_free(&s);
	hd_catalog_free(&c);
}

Test(catalog_formats, original_layout_without_its_partner_files)
{
	static const float single[2] = {48.5f, 11.25f};
	static const double real[2] = {-12.5, 100};
	static const float iq[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	const int64_t two = 2, three[2] = {1, 3}, one_row = 4, two_rows[2] = {2, 2};
	static const char *const folders[] = {"train", "validation", "test"};
	for (int i = 0; i < 3; i++)
		cr_assert_eq(mkdir(below(folders[i]), 0755), 0);
	cr_assert_eq(hd_npy_write(below("train/s1_iq.npy"), "<c8", two_rows, 2, iq, sizeof iq), HD_OK);
	cr_assert_eq(hd_npy_write(below("train/s1_label.npy"), "<f4", &two, 1, single, sizeof single), HD_OK);
	cr_assert_eq(hd_npy_write(below("validation/s2@e_iq.npy"), "<c8", &one_row, 1, iq, sizeof iq), HD_OK);
	cr_assert_eq(hd_npy_write(below("validation/s2@e_label.npy"), "<f8", &two, 1, real, sizeof real), HD_OK);
	cr_assert_eq(hd_npy_write(below("test/alone_iq.npy"), "<c8", &one_row, 1, iq, sizeof iq), HD_OK);
	cr_assert_eq(hd_npy_write(below("test/label_label.npy"), "<f8", &two, 1, real, sizeof real), HD_OK);
	cr_assert_eq(hd_npy_write(below("test/long_iq.npy"), "<c8", &one_row, 1, iq, sizeof iq), HD_OK);
	cr_assert_eq(hd_npy_write(below("test/long_label.npy"), "<f8", three, 2, iq, 24), HD_OK);
	cr_assert_eq(hd_npy_write(below("test/torn_label.npy"), "<f8", &two, 1, real, sizeof real), HD_OK);
	write_text(below("test/torn_iq.npy"), "no array");
	write_text(below("test/unrelated.txt"), "x");
	static const struct {
		const char *id, *session, *emission, *receiver, *detail;
		hd_skip skip;
	} want[] = {{"train/s1#0", "s1", "s1", "0", "", HD_SKIP_NONE},
	        {"train/s1#1", "s1", "s1", "1", "", HD_SKIP_NONE},
	        {"validation/s2@e", "s2", "e", "0", "", HD_SKIP_NONE},
	        {"test/alone", "alone", "alone", "0", "alone_label.npy", HD_SKIP_BAD_POSITION},
	        {"test/label", "label", "label", "0", "label_iq.npy", HD_SKIP_MISSING_FILE},
	        {"test/long", "long", "long", "0", "3 elements", HD_SKIP_BAD_POSITION},
	        {"test/torn", "torn", "torn", "0", "torn_iq.npy", HD_SKIP_UNREADABLE}};
	hd_catalog c = read_back(root);
	cr_assert_eq(c.count, sizeof want / sizeof *want, "%zu rows", c.count);
	for (size_t i = 0; i < c.count; i++) {
		const hd_recording *r = &c.recordings[i];
		check_text("id", i, r->id, want[i].id);
		check_text("session", i, r->session, want[i].session);
		check_text("emission", i, r->emission, want[i].emission);
		check_text("receiver", i, r->receiver, want[i].receiver);
		cr_expect_eq(r->skip, want[i].skip, "row %zu: %s", i, hd_skip_text(r->skip));
		cr_expect(strstr(r->skip_detail ? r->skip_detail : "", want[i].detail),
		        "row %zu: '%s' does not say '%s'", i, r->skip_detail, want[i].detail);
		cr_expect_eq(r->split, i < 2 ? HD_TRAIN : i == 2 ? HD_VAL : HD_TEST, "row %zu: split %d", i, r->split);
	}
	check_number("latitude", 0, c.recordings[0].latitude_deg, 48.5);
	check_number("longitude", 2, c.recordings[2].longitude_deg, 100);
	hd_catalog_free(&c);
}

Test(catalog_formats, original_layout_refuses_two_lengths_and_two_rates)
{
	make_recordings();
	write_recording(below("5.npy"), 5, N + 1);
	hd_catalog c = read_back(root);
	hd_samples s = build(&c);
	cr_expect_eq(hd_catalog_write(below("out"), HD_CATALOG_ORIGINAL, &c, &s, NULL, HD_RAW_AUTO), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), "session 'd'") && strstr(hd_error_text(), ".npy") &&
	                  strstr(hd_error_text(), "64") && strstr(hd_error_text(), "65"),
	        "'%s'", hd_error_text());
	cr_expect_eq(count_files(below("out")), 0, "a failed export leaves %d files", count_files(below("out")));
	c.recordings[0].sample_rate_hz = 12000;
	c.recordings[4].sample_rate_hz = 192000;
	cr_expect_eq(hd_catalog_write(below("out"), HD_CATALOG_ORIGINAL, &c, &s, NULL, HD_RAW_AUTO), HD_E_DATA);
	cr_expect(strstr(hd_error_text(), "192000") && strstr(hd_error_text(), "12000"), "'%s'", hd_error_text());
	cr_expect_eq(hd_catalog_write(below("out"), HD_CATALOG_ORIGINAL, &c, NULL, NULL, HD_RAW_AUTO), HD_E_USAGE);
	hd_samples_free(&s);
	hd_catalog_free(&c);
}

/* ---- the command ---- */

/* Runs heimdall catalog with its stdout in a file; `text` is what it wrote. */
static hd_status run_command(char *text, size_t bytes, const hd_settings *settings, const char **files, int count)
{
	fflush(stdout);
	int kept = dup(1), to = open(below("stdout"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(to, 1);
	hd_status st = hd_cli_catalog(settings, files, count);
	fflush(stdout);
	dup2(kept, 1);
	ssize_t got = pread(to, text, bytes - 1, 0);
	text[got > 0 ? got : 0] = 0;
	close(kept);
	close(to);
	return st;
}

static void check_width(const char *text)
{
	int columns = 0;
	for (const char *c = text; *c; c++) {
		columns = *c == '\n' ? 0 : columns + (((unsigned char)*c & 0xC0) != 0x80);
		cr_assert(columns <= 80, "a line of more than 80 columns in:\n%s", text);
	}
}

static hd_settings settings_of(const char *const (*pairs)[2], int count)
{
	hd_settings s;
	cr_assert_eq(hd_settings_init(&s), HD_OK);
	for (int i = 0; i < count; i++)
		cr_assert_eq(hd_settings_set(&s, pairs[i][0], pairs[i][1], "test"), HD_OK, "%s", hd_error_text());
	return s;
}

Test(catalog_formats, show_counts_what_is_there)
{
	char text[16384] = "";
	FILE *f = fopen(below("manifest.csv"), "wb");
	cr_assert(f);
	fputs("session,emission,receiver,iq,sample_rate,latitude,longitude,frequency_mhz,timestamp,approved\n", f);
	for (int i = 0; i < 30; i++)
		for (int r = 0; r < 3; r++)
			if (r < 2 || i % 2)
				fprintf(f, "s%d,e%d,%s,x%d.npy,%d,%d,179.%d,%d.5,2025-%02d-15,%s\n", i, i % 2,
				        r ? r == 1 ? "r10" : "r2"
				          : "a receiver whose name is longer than the table's column is wide",
				        i, r ? 192000 : 8000 + i, 10 + i % 3, i, 145 + i % 2, 1 + i % 2,
				        r == 1 && i < 12 ? "no" : "yes");
	fputs("s0,e1,r2,y.npy,192000,10,-179.5,,,yes\n", f);
	fclose(f);
	const char *const pairs[][2] = {{"json", below("show.json")}};
	hd_settings s = settings_of(pairs, 1);
	const char *files[] = {"show", root};
	cr_assert_eq(run_command(text, sizeof text, &s, files, 2), HD_OK, "%s", hd_error_text());
	static const char *const lines[] = {"folder: 76 recordings, 34 used, 3 receivers, 30 sessions, 31 emissions",
	        "a receiver whose name .. ", "r2                               16         16", "r10  ", "8000, 29 more",
	        "s2  ", "and 10 more", "2025-01                          30", "2025-02                          45",
	        "undated                           1", "latitude   10.000000 .. 12.000000",
	        "frequency  145.5 .. 146.5 MHz", "not used, not approved: 12", "  and 2 more",
	        "not used, sample rate differs", "train", "100.0 %", "53.3 %"};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		cr_expect(strstr(text, lines[i]), "no '%s' in:\n%s", lines[i], text);
	check_width(strchr(text, '\n'));
	json_t *json = json_load_file(below("show.json"), 0, NULL);
	json_int_t recordings = json_integer_value(json_object_get(json, "recordings"));
	json_int_t used = json_integer_value(json_object_get(json, "used"));
	double west = json_real_value(json_object_get(json_object_get(json, "area"), "west_deg"));
	json_t *receiver = json_array_get(json_object_get(json, "receivers"), 0);
	double share = json_real_value(json_object_get(receiver, "session_share"));
	cr_expect_eq(recordings, 76);
	cr_expect_eq(used, 34);
	cr_expect_float_eq(west, 179, 1e-9, "west %g", west);
	cr_expect_float_eq(share, 1, 1e-9, "share of sessions %g", share);
	cr_expect_eq(json_array_size(json_object_get(json, "sessions")), 30);
	json_decref(json);
	hd_settings_free(&s);
}

Test(catalog_formats, show_of_a_catalogue_that_cannot_be_used)
{
	char text[8192] = "";
	write_text(below("manifest.csv"), HEAD "approved\na,x,1,1,no\nb,x,,,yes\n");
	hd_settings s = settings_of(NULL, 0);
	const char *files[] = {"show", root};
	cr_expect_eq(run_command(text, sizeof text, &s, files, 2), HD_E_DATA);
	cr_expect(strstr(text, "not used, not approved: 1") && strstr(text, "not used, position missing"), "%s", text);
	hd_settings_free(&s);
}

Test(catalog_formats, export_command_and_wrong_usage)
{
	char text[8192] = "";
	static const struct {
		const char *files[3];
		int count;
		const char *words;
	} wrong[] = {{{"show"}, 1, "name a catalogue"}, {{"sohw", "x"}, 2, "'sohw' is no action"},
	        {{""}, 0, "show|export"}, {{"show", "a", "b"}, 3, "'b' is another"}, {{"export", "a"}, 2, "--out"}};
	make_recordings();
	hd_settings none = settings_of(NULL, 0);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *files[3] = {wrong[i].files[0], wrong[i].files[1], wrong[i].files[2]};
		cr_expect_eq(run_command(text, sizeof text, &none, files, wrong[i].count), HD_E_USAGE, "row %zu", i);
		cr_expect(strstr(hd_error_text(), wrong[i].words), "row %zu: '%s'", i, hd_error_text());
	}
	hd_settings_free(&none);
	static const char *const formats[] = {"folder", "sqlite", "original"};
	for (int i = 0; i < 3; i++) {
		const char *const pairs[][2] = {{"data_dir", root}, {"out", below(formats[i])}, {"format", formats[i]}};
		hd_settings s = settings_of(pairs, 3);
		const char *files[] = {"export"};
		cr_expect_eq(run_command(text, sizeof text, &s, files, 1), HD_OK, "%s", hd_error_text());
		cr_expect(strstr(text, i < 2 ? "8 recordings as" : "4 emissions of 3 receivers"), "%s", text);
		hd_catalog c = read_back(s.out);
		cr_expect_eq((int)c.format, i);
		hd_catalog_free(&c);
		hd_settings_free(&s);
	}
}
