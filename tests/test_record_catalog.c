/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.csv: what a run saw, and how a data set that was opened anew differs from it. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/data/csv.h"
#include "host/track/record.h"
#include "tests/run_folder.h"

TestSuite(record_catalog, .init = start_run, .fini = stop_run);

#define HEADER "session,emission,receiver,id,iq,sample_rate,latitude,longitude,frequency_mhz,snr_db,mood,split\n"

/* The catalogue that is compared with others. */
#define ROW_A1 "a,e1,1,11,a1.npy,12000,45.07,7.5,145.5,6,fair,train\n"
#define ROW_A2 "a,e1,2,12,a2.npy,12000,45.07,7.5,145.5,7,fair,train\n"
#define ROW_B1 "\"b, \"\"c\"\"\",,1,13,sub/b.npy,12000,45.1,7.6,145.5,8,good,val\n"
#define ROW_D1 "d,,1,14,d.npy,12000,45.2,7.7,145.5,9,bad,test\n"

static char said[1 << 16]; /* by the last comparison */

static void write_catalog(const char *rows)
{
	char all[8192];
	snprintf(all, sizeof all, HEADER "%s", rows);
	write_text("data/manifest.csv", all);
}

static void make_data(void)
{
	cr_assert_eq(hd_make_folders(file_in("data/sub")), HD_OK);
	write_recording("data/a1.npy", RECORDING_SAMPLES, 0.1);
	write_recording("data/a2.npy", RECORDING_SAMPLES, 0.2);
	write_recording("data/sub/b.npy", RECORDING_SAMPLES + 1, 0.3);
	write_recording("data/d.npy", RECORDING_SAMPLES, 0.4);
	/* nanoseconds have leading zeroes */
	const struct timespec time = {1700000000, 5};
	cr_assert_eq(utimensat(AT_FDCWD, file_in("data/d.npy"), (const struct timespec[]){time, time}, 0), 0);
	write_catalog(ROW_D1 ROW_A2 ROW_B1 ROW_A1);
	set("data_dir", file_in("data"));
	small_features();
	open_data();
}

static void record(void)
{
	cr_assert_eq(hd_record_catalog(&run, &dataset), HD_OK, "%s", hd_error_text());
}

static hd_record_changes compare_most(int64_t most)
{
	hd_record_changes changes;
	FILE *to = fmemopen(said, sizeof said, "w");
	hd_status st = hd_record_compare(&changes, to, most, &run, &dataset);
	fclose(to);
	cr_assert_eq(st, HD_OK, "%s", hd_error_text());
	return changes;
}

/* Opens the data set anew, compares, and expects these counts. */
static void expect(int64_t same, int64_t changed, int64_t gone, int64_t added)
{
	open_data();
	hd_record_changes got = compare_most(100);
	cr_assert(got.same == same && got.changed == changed && got.gone == gone && got.added == added,
	        "got %lld same, %lld changed, %lld gone, %lld added; want %lld, %lld, %lld, %lld:\n%s",
	        (long long)got.same, (long long)got.changed, (long long)got.gone, (long long)got.added, (long long)same,
	        (long long)changed, (long long)gone, (long long)added, said);
}

static void expect_said(const char *words)
{
	cr_assert_str_eq(said, words, "got:\n%swant:\n%s", said, words);
}

/* Moves the file's time by a second. */
static void touch(const char *name)
{
	struct stat info;
	cr_assert_eq(stat(file_in(name), &info), 0);
	info.st_mtim.tv_sec -= 1;
	cr_assert_eq(utimensat(AT_FDCWD, file_in(name), (struct timespec[]){info.st_atim, info.st_mtim}, 0), 0);
}

/* ---- the file ---- */

static size_t column_of(const hd_csv *csv, const char *name)
{
	size_t f = 0;
	while (f < csv->field_count && strcmp(csv->fields[f], name) != 0)
		f++;
	cr_assert_lt(f, csv->field_count, "no column %s", name);
	return f;
}

Test(record_catalog, a_line_per_recording_in_the_samples_order)
{
	static const char *const want[][10] = {
	        {"a", "e1", "1", "11", "a1.npy", "train", "45.07", "7.5", "12000", "145.5"},
	        {"a", "e1", "2", "12", "a2.npy", "train", "45.07", "7.5", "12000", "145.5"},
	        {"b, \"c\"", "b, \"c\"", "1", "13", "sub/b.npy", "val", "45.1", "7.6", "12000", "145.5"},
	        {"d", "d", "1", "14", "d.npy", "test", "45.2", "7.7", "12000", "145.5"}};
	static const char *const names[10] = {"session", "emission", "receiver", "id", "iq", "split", "latitude",
	        "longitude", "sample_rate", "frequency_mhz"};
	static const char *const files[] = {"data/a1.npy", "data/a2.npy", "data/sub/b.npy", "data/d.npy"};
	size_t at[10], version, row, left_out;
	char *path, first_hash[64] = "", text[128];
	hd_csv csv;
	int more;
	make_data();
	record();
	cr_assert_eq(hd_run_path(&path, &run, "catalog.csv"), HD_OK);
	cr_assert_eq(hd_csv_open(&csv, path), HD_OK);
	cr_assert_eq(hd_csv_next(&csv, &more), HD_OK);
	for (int k = 0; k < 10; k++)
		at[k] = column_of(&csv, names[k]);
	version = column_of(&csv, "version");
	row = column_of(&csv, "row");
	left_out = column_of(&csv, "left_out");
	for (int i = 0; i < 4; i++) {
		struct stat info;
		cr_assert_eq(hd_csv_next(&csv, &more), HD_OK);
		cr_assert(more);
		for (int k = 0; k < 10; k++)
			cr_assert_str_eq(
			        csv.fields[at[k]], want[i][k], "row %d, %s: '%s'", i, names[k], csv.fields[at[k]]);
		cr_assert_eq(stat(file_in(files[i]), &info), 0);
		snprintf(text, sizeof text, "%lld %lld.%09ld", (long long)info.st_size, (long long)info.st_mtim.tv_sec,
		        info.st_mtim.tv_nsec);
		cr_assert_str_eq(csv.fields[version], text);
		cr_assert_eq(strspn(csv.fields[row], "0123456789abcdef"), 16);
		cr_assert_eq(strlen(csv.fields[row]), 16);
		cr_assert_str_neq(csv.fields[row], first_hash);
		snprintf(first_hash, sizeof first_hash, "%s", csv.fields[row]);
		cr_assert_str_eq(csv.fields[left_out], "");
	}
	cr_assert_eq(hd_csv_next(&csv, &more), HD_OK);
	cr_assert_not(more);
	hd_csv_close(&csv);
	free(path);
}

Test(record_catalog, what_could_not_be_used_is_said)
{
	make_data();
	write_text("data/a1.npy", "no recording at all");
	load_data();
	record();
	cr_assert_not_null(strstr(read_text("catalog.csv"), ",IQ file unreadable\na,e1,2,"), "%s", file_text);
	expect(4, 0, 0, 0);
}

/* By another program. */
Test(record_catalog, the_hash_is_what_it_says)
{
	char command[700];
	make_data();
	write_text("data/manifest.csv", "zone,session,iq,latitude,longitude,frequency_mhz,timestamp,mood,split\n"
	                                "1,a,a1.npy,45.07,-7.5,145.5,2026-03-01T00:00:00.5+01:00,fair,train\n"
	                                "2,b,a1.npy,45.07,-7.5,145.5,2026-03-01T00:00:00.5+01:00,fair,val\n");
	open_data();
	record();
	snprintf(command, sizeof command,
	        "h=$(printf '45.07\n-7.5\n\n145.5\n\n\n1772319600.5\n\n{\"mood\":\"fair\",\"zone\":\"1\"}' |"
	        " sha256sum | cut -c1-16); grep -q \"^a,a,0,.*,$h,\" '%s/catalog.csv'",
	        run.folder);
	cr_assert_eq(system(command), 0, "%s\n%s", command, read_text("catalog.csv"));
}

/* ---- the comparison ---- */

Test(record_catalog, nothing_changed)
{
	make_data();
	record();
	expect(4, 0, 0, 0);
	expect_said("");
	/* other ids and another order of rows and columns are the same recordings */
	write_text("data/manifest.csv",
	        "mood,session,emission,receiver,iq,sample_rate,latitude,longitude,frequency_mhz,snr_db,split\n"
	        "fair,a,e1,1,a1.npy,12000.0,45.070,7.5,145.5,6,train\nbad,d,,1,d.npy,12000,45.2,7.7,145.5,9,test\n"
	        "good,\"b, \"\"c\"\"\",,1,sub/b.npy,12000,45.1,7.6,145.5,8,val\n"
	        "fair,a,e1,2,a2.npy,12000,45.07,7.5,145.5,7,train\n");
	expect(4, 0, 0, 0);
	/* and so is the folder by another name */
	char other[600];
	snprintf(other, sizeof other, "%s/./data", folder);
	set("data_dir", other);
	expect(4, 0, 0, 0);
	cr_assert_eq(symlink("data", file_in("link")), 0);
	set("data_dir", file_in("link"));
	expect(4, 0, 0, 0);
}

Test(record_catalog, a_row_that_changed)
{
	static const struct {
		const char *rows, *said;
	} cases[] = {
	        {ROW_A1 ROW_A2 ROW_B1 "d,,1,14,d.npy,12000,45.201,7.7,145.5,9,bad,test\n",
	                "changed  d, receiver 1 (d.npy): position moved by 111.2 m\n"},
	        {ROW_A1 ROW_A2 ROW_B1 "d,,1,14,d.npy,12000,45.2,7.7000001,145.5,9,bad,test\n",
	                "changed  d, receiver 1 (d.npy): position moved by 0.008 m\n"},
	        {ROW_A1 ROW_A2 ROW_B1 "d,,1,14,d.npy,12001,45.2,7.7,145.25,9,bad,test\n",
	                "changed  d, receiver 1 (d.npy): sample_rate 12000 -> 12001, frequency_mhz 145.5 -> 145.25\n"},
	        {ROW_A1 ROW_A2 ROW_B1 "d,,1,14,d.npy,12000,45.2,7.7,145.5,9,bad,val\n",
	                "changed  d, receiver 1 (d.npy): split test -> val\n"},
	        {ROW_A1 ROW_A2 ROW_B1 "d,,1,14,d.npy,12000,45.2,7.7,145.5,9.5,bad,test\n",
	                "changed  d, receiver 1 (d.npy): another column of the catalogue\n"},
	        {ROW_A1 ROW_A2 ROW_B1 "d,,1,14,d.npy,12000,45.2,7.7,145.5,9,better,test\n",
	                "changed  d, receiver 1 (d.npy): another column of the catalogue\n"},
	        {ROW_A1 ROW_A2 ROW_B1 "d,,2,14,d.npy,12000,45.2,7.7,145.5,9,bad,test\n",
	                "changed  d, receiver 1 (d.npy): receiver 1 -> 2\n"},
	        {ROW_A1 "a,e1,2,12,a1.npy,12000,45.07,7.5,145.5,7,fair,train\n" ROW_B1 ROW_D1,
	                "changed  a e1, receiver 2 (a2.npy): iq a2.npy -> a1.npy, file touched (same size, another "
	                "time)\n"},
	};
	make_data();
	touch("data/a1.npy");
	record();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_catalog(cases[i].rows);
		expect(3, 1, 0, 0);
		expect_said(cases[i].said);
		cr_assert_eq(compare_most(100).touched, 0);
	}
}

Test(record_catalog, a_file_that_changed)
{
	make_data();
	record();
	touch("data/sub/b.npy");
	expect(3, 1, 0, 0);
	expect_said("changed  b, \"c\", receiver 1 (sub/b.npy): file touched (same size, another time)\n");
	cr_assert_eq(compare_most(100).touched, 1);
	write_recording("data/sub/b.npy", RECORDING_SAMPLES, 0.3);
	expect(3, 1, 0, 0);
	expect_said("changed  b, \"c\", receiver 1 (sub/b.npy): file of 32136 bytes -> 32128\n");
	cr_assert_eq(unlink(file_in("data/sub/b.npy")), 0);
	expect(3, 1, 0, 0);
	expect_said("changed  b, \"c\", receiver 1 (sub/b.npy): its file is not there\n");
	cr_assert_eq(compare_most(100).touched, 0);
}

Test(record_catalog, rows_that_are_gone_or_new)
{
	make_data();
	record();
	write_catalog("0,,1,1,d.npy,12000,45.2,7.7,145.5,9,bad,test\n" ROW_A1
	              "a,e1,3,12,d.npy,12000,45.07,7.5,145.5,7,fair,train\n" ROW_D1
	              "z,,1,1,d.npy,12000,45.2,7.7,145.5,9,bad,val\n");
	expect(2, 0, 2, 3);
	expect_said("new      0, receiver 1 (d.npy)\ngone     a e1, receiver 2 (a2.npy)\n"
	            "new      a e1, receiver 3 (d.npy)\ngone     b, \"c\", receiver 1 (sub/b.npy)\n"
	            "new      z, receiver 1 (d.npy)\n");
}

Test(record_catalog, no_more_lines_than_wanted)
{
	char rows[8192] = "";
	make_data();
	for (int i = 0; i < 20; i++)
		snprintf(rows + strlen(rows), sizeof rows - strlen(rows),
		        "n%02d,,1,,d.npy,12000,45.2,7.7,145.5,9,bad,val\n", i);
	record();
	write_catalog(rows);
	open_data();
	hd_record_changes got = compare_most(3);
	cr_assert(got.same == 0 && got.changed == 0 && got.gone == 4 && got.added == 20);
	expect_said("gone     a e1, receiver 1 (a1.npy)\ngone     a e1, receiver 2 (a2.npy)\n"
	            "gone     b, \"c\", receiver 1 (sub/b.npy)\nnew      n00, receiver 1 (d.npy)\n"
	            "new      n01, receiver 1 (d.npy)\nnew      n02, receiver 1 (d.npy)\n"
	            "... and 1 more gone\n... and 17 more new\n");
	got = compare_most(0);
	cr_assert_eq(got.added, 20);
	expect_said("... and 4 more gone\n... and 20 more new\n");
}

/* ---- versions that are no file's ---- */

#define VERSIONED "session,receiver,iq,latitude,longitude,split,version\n"

Test(record_catalog, a_version_that_the_catalogue_gives)
{
	make_data();
	write_text("data/manifest.csv",
	        VERSIONED "a,1,s3://bucket/a,45,7,train,\"\"\"0af1\"\"\"\nb,1,gone.npy,45,7,val,v1\n");
	open_data();
	record();
	cr_assert_not_null(strstr(read_text("catalog.csv"), ",\"\"\"0af1\"\"\",\n"), "%s", file_text);
	expect(2, 0, 0, 0);
	write_text("data/manifest.csv",
	        VERSIONED "a,1,s3://bucket/a,45,7,train,\"\"\"0af2\"\"\"\nb,1,gone.npy,45,7,val,v1\n");
	expect(1, 1, 0, 0);
	expect_said("changed  a, receiver 1 (s3://bucket/a): version \"0af1\" -> \"0af2\"\n");
}

/* Whose store was asked when features were taken; a data set that is not loaded does not know, which is no change. */
Test(record_catalog, a_version_that_a_store_gives)
{
	char rows[2048];
	make_data();
	snprintf(rows, sizeof rows,
	        "session,receiver,iq,latitude,longitude,split\na,1,file://%s/data/a1.npy,45,7,train\n"
	        "b,1,file://%s/data/a2.npy,45.1,7,val\n",
	        folder, folder);
	write_text("data/manifest.csv", rows);
	load_data();
	record();
	cr_assert_not_null(strstr(read_text("catalog.csv"), "/data/a1.npy,train,45,7,,,"), "%s", file_text);
	touch("data/a1.npy");
	expect(2, 0, 0, 0);
	load_data();
	hd_record_changes got = compare_most(9);
	cr_assert(got.same == 1 && got.changed == 1 && got.touched == 1, "%s", said);
}

Test(record_catalog, no_password_of_an_iq)
{
	make_data();
	write_text("data/manifest.csv", VERSIONED
	        "a,1,http://me:Geheimnis@host/a,45,7,train,1\nb,1,s3://bucket/b?password=Geheimnis,45,7,val,1\n");
	open_data();
	record();
	cr_assert_null(strstr(read_text("catalog.csv"), "Geheimnis"));
	expect(2, 0, 0, 0);
	write_text("data/manifest.csv", VERSIONED
	        "a,1,http://me:Geheimnis@host/c,45,7,train,1\nb,1,s3://bucket/d?password=Geheimnis,45,7,val,1\n");
	expect(0, 2, 0, 0);
	cr_assert_null(strstr(said, "Geheimnis"));
}

/* ---- files that are none of ours ---- */

static void replace(const char *content)
{
	char *path;
	cr_assert_eq(hd_run_path(&path, &run, "catalog.csv"), HD_OK);
	cr_assert_eq(hd_file_write(path, &(hd_span){content, strlen(content)}, 1, 0), HD_OK);
	free(path);
}

static void expect_refused(hd_status want, const char *words)
{
	hd_record_changes changes;
	hd_status st = hd_record_compare(&changes, stderr, 10, &run, &dataset);
	cr_assert_eq(st, want, "got status %d: %s", (int)st, hd_error_text());
	cr_assert_not_null(strstr(hd_error_text(), words), "got '%s', want '%s'", hd_error_text(), words);
}

Test(record_catalog, a_file_that_the_run_did_not_write)
{
	char text[8192], *line;
	make_data();
	expect_refused(HD_E_IO, "catalog.csv");
	record();
	snprintf(text, sizeof text, "%s", read_text("catalog.csv"));
	replace("");
	expect_refused(HD_E_DATA, "no column 'session'");
	line = strstr(text, ",version");
	*line = 0;
	replace(text);
	expect_refused(HD_E_DATA, "no column 'version'");
	*line = ',';
	line = strstr(text, "\nd,d,");
	char last[512];
	snprintf(last, sizeof last, "%s", line + 1);
	line[1] = 0;
	snprintf(line + 1, 16, "d,d,1\n");
	replace(text);
	expect_refused(HD_E_DATA, "catalog.csv:5: too few fields");
	line[1] = 0;
	char *first = strchr(text, '\n') + 1, header[512];
	snprintf(header, sizeof header, "%.*s", (int)(first - text), text);
	char swapped[8192];
	snprintf(swapped, sizeof swapped, "%s%s%s", header, last, first);
	replace(swapped);
	expect_refused(HD_E_DATA, "catalog.csv:3: out of order");
}

/* A whole file or the old one. */
Test(record_catalog, a_full_disk_leaves_the_old_file)
{
	struct rlimit old, tight;
	char before[8192];
	make_data();
	record();
	snprintf(before, sizeof before, "%s", read_text("catalog.csv"));
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = old;
	tight.rlim_cur = 100;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
	hd_status st = hd_record_catalog(&run, &dataset);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	cr_assert_eq(st, HD_E_IO);
	cr_assert_str_eq(read_text("catalog.csv"), before);
	char command[700];
	snprintf(command, sizeof command, "! ls '%s' | grep tmp", run.folder);
	cr_assert_eq(system(command), 0, "a temporary file is left");
}

/* More rows than a block has, of samples with several receivers: none is lost where blocks meet. */
Test(record_catalog, many_samples)
{
	enum { SAMPLES = 5000 };
	make_data();
	FILE *to = fopen(file_in("data/manifest.csv"), "w");
	fprintf(to, "session,receiver,iq,latitude,longitude,split\n");
	for (int i = 0; i < SAMPLES; i++)
		for (int r = 0; r < 3; r++)
			fprintf(to, "s%05d,%d,a1.npy,45,7,%s\n", i, r, i % 5 ? "train" : "val");
	fclose(to);
	open_data();
	record();
	expect(3 * SAMPLES, 0, 0, 0);
	to = fopen(file_in("data/manifest.csv"), "w");
	fprintf(to, "session,receiver,iq,latitude,longitude,split\n");
	for (int i = 0; i < SAMPLES; i++)
		for (int r = 0; r < 3; r++)
			if ((i * 3 + r) % 1000)
				fprintf(to, "s%05d,%d,a1.npy,45,7,%s\n", i, r, i % 5 ? "train" : "val");
	fclose(to);
	expect(3 * SAMPLES - 3 * SAMPLES / 1000, 0, 3 * SAMPLES / 1000, 0);
}
