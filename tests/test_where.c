/* SPDX-License-Identifier: Apache-2.0 */
/* The --where filter: which rows an expression keeps, and what it says of a bad one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/catalog.h"

static char folder[256];
static char file[512];

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/heimdall-where-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	snprintf(file, sizeof file, "%s/manifest.csv", folder);
}

static void teardown(void)
{
	unlink(file);
	rmdir(folder);
}

TestSuite(where, .init = setup, .fini = teardown);

/* Row f is skipped for another reason before any filter. */
static const char *const manifest =
        "id,session,receiver,iq,sample_rate,latitude,longitude,frequency_mhz,snr_db,timestamp,approved,source,split,"
        "depth,and,session_id\n"
        "a,s1,1,/a.npy,192000,48,11,145.5,6,2025-06-30 12:00:00,true,tower,train,2,x y,q1\n"
        "b,s1,2,/b.npy,192000,48,11,145.5,10.5,2025-06-30T14:00:00+02:00,true,tower,val,10,it's,q2\n"
        "c,s2,10,/c.npy,12000,48.5,11.5,433,-3,2025-07-01,true,,test,n/a,,q3\n"
        "d,s10,site,/d.npy,8000,-1,-179.5,433,,,true,hill,,-5,10,q4\n"
        "e,9007199254740993,1.0,/e.npy,,1,2,,0,1751284800.5,true,M\xc3\xbcnchen,,,x,q5\n"
        "f,s1,1,/f.npy,192000,48,11,145.5,6,,false,tower,train,2,x,q6\n";

static hd_catalog read_rows(void)
{
	hd_catalog c;
	FILE *f = fopen(file, "wb");
	cr_assert(f, "%s", file);
	cr_assert(fputs(manifest, f) >= 0);
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(hd_catalog_read(&c, folder, true), HD_OK, "%s", hd_error_text());
	return c;
}

Test(where, expressions)
{
	static const struct {
		const char *text, *ids;
	} rows[] = {{"", "abcde"}, {" \n\t", "abcde"},
	        /* numbers */
	        {"snr_db >= 6", "ab"}, {"snr_db>6", "b"}, {"snr_db < 6", "ce"}, {"snr_db <= 6.0", "ace"},
	        {"snr_db = 6e0", "a"}, {"snr_db != 6", "bce"}, {"SNR_DB = '10.5'", "b"},
	        {"snr_db between -3 and 0", "ce"}, {"snr_db in (6, -3)", "ac"}, {"latitude < 0", "d"},
	        {"longitude between -180 and -179", "d"}, {"sample_rate = 192000", "ab"},
	        {"frequency_mhz = 145.5", "ab"}, {"frequency_mhz > 145.5", "cd"}, {"snr_db between 7 and 6", ""},
	        /* times */
	        {"timestamp = 2025-06-30T12:00:00", "ab"}, {"timestamp > 2025-06-30T12:00:00Z", "ce"},
	        {"timestamp < 2025-07-01", "abe"}, {"timestamp <= 2025-07-01", "abce"},
	        {"timestamp between '2025-06-30 12:00:00' and '2025-06-30 14:00+02'", "ab"},
	        {"timestamp = 1751284800", "ab"}, {"timestamp != 2025-07-01", "abe"},
	        /* texts */
	        {"session = s1", "ab"}, {"session = S1", ""}, {"session != s1", "cde"}, {"source = tower", "ab"},
	        {"source != tower", "de"}, {"source = \"M\xc3\xbcnchen\"", "e"}, {"source < n", "de"},
	        {"iq = /c.npy", "c"}, {"id between b and d", "bcd"}, {"split = train", "a"},
	        {"split = validation", "b"}, {"split != test", "ab"}, {"approved = yes", "abcde"},
	        {"approved != true", ""}, {"emission = s2", "c"},
	        /* numbers in text columns */
	        {"receiver in (1, 2)", "abe"}, {"receiver = '1'", "a"}, {"receiver > 2", "c"}, {"receiver = site", "d"},
	        {"receiver between 1 and 2", "abe"}, {"session = 9007199254740993", "e"},
	        {"session = 9007199254740992", ""}, {"websdr_id = 2", "b"},
	        /* extra columns, also of unlucky names */
	        {"depth > 3", "b"}, {"depth < 3", "ad"}, {"depth = n/a", "c"}, {"depth != 2", "bcd"},
	        {"depth between -5 and 2", "ad"}, {"\"and\" = 'x y'", "a"}, {"and = 'it''s'", "b"},
	        {"and = \"it's\"", "b"}, {"session_id = q3", "c"}, {"session_id in (q1, 'q5')", "ae"},
	        /* joined */
	        {"snr_db >= 6 and receiver in (1, 2)", "ab"},
	        {"snr_db>=0 AND snr_db BETWEEN 0 AND 7 and session != s2", "ae"},
	        {"source = tower and split = val", "b"}, {"session IN(s2)and snr_db=-3", "c"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char kept[16] = "";
		hd_catalog c = read_rows();
		hd_status st = hd_catalog_where(&c, rows[i].text);
		cr_expect_eq(st, HD_OK, "'%s': %s", rows[i].text, st == HD_OK ? "" : hd_error_text());
		for (size_t k = 0; k < c.count; k++)
			if (c.recordings[k].skip == HD_SKIP_NONE)
				strcat(kept, c.recordings[k].id);
		cr_expect_str_eq(kept, rows[i].ids, "'%s': kept '%s', wanted '%s'", rows[i].text, kept, rows[i].ids);
		cr_expect_eq(c.recordings[5].skip, HD_SKIP_NOT_APPROVED, "an earlier reason stays");
		hd_catalog_free(&c);
	}
}

Test(where, details_name_the_condition)
{
	hd_catalog c = read_rows();
	cr_assert_eq(hd_catalog_where(&c, "session = s1 and  receiver in (1, 2) and snr_db>6"), HD_OK);
	static const char *const want[] = {"a: not snr_db>6", NULL, "c: not session = s1"};
	for (size_t i = 0; i < 3; i++) {
		const char *got = c.recordings[i].skip_detail;
		cr_expect(want[i] ? got && !strcmp(got, want[i]) : !got, "row %zu: '%s', wanted '%s'", i,
		        got ? got : "(null)", want[i] ? want[i] : "(null)");
		cr_expect_eq(c.recordings[i].skip, want[i] ? HD_SKIP_FILTERED : HD_SKIP_NONE);
	}
	hd_catalog_free(&c);
}

Test(where, bad_expressions)
{
	static const struct {
		const char *text, *words;
		int column; /* of the caret, from 0 */
	} rows[] = {{"snr >= 6", "unknown column 'snr'; did you mean", 0},
	        {"qqqqqqqqqq = 1", "unknown column 'qqqqqqqqqq'\n", 0}, {"dept = 1", "did you mean 'depth'?", 0},
	        {"session = s1 and recever = 1", "did you mean 'receiver'?", 17}, {"snr_db", "one of = != <", 6},
	        {"snr_db ~ 3", "one of = != <", 7}, {"snr_db >", "a value is wanted", 8},
	        {"snr_db = high", "this is none", 9}, {"snr_db = nan", "this is none", 9},
	        {"snr_db == 6", "one of = !=", 7}, {"timestamp > noon", "no date and time", 12},
	        {"timestamp > 2025-02-30", "no date and time", 12},
	        {"timestamp > 2025-06-30 12:00", "'and' or the end is wanted", 23},
	        {"split = holdout", "train, val or test", 8}, {"approved = maybe", "true or false", 11},
	        {"snr_db between 1", "'and' is wanted", 16}, {"snr_db between 1 or 2", "'and' is wanted", 17},
	        {"snr_db between 1 and", "a value is wanted", 20}, {"receiver in 1", "'(' is wanted", 12},
	        {"receiver in (1", "',' or ')'", 14}, {"receiver in (1 2)", "',' or ')'", 15},
	        {"receiver in ()", "a value is wanted", 13}, {"receiver in (1,)", "a value is wanted", 15},
	        {"session = 's1", "never closed", 10}, {"session = s1 or session = s2", "joined by 'and' only", 13},
	        {"session = s1 and", "a column's name", 16}, {"= 3", "a column's name", 0},
	        {"source = 'M\xc3\xbcnchen' x", "'and' or the end", 19}, {"session\n= s1 ! ", "'and' or the end", 13}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		hd_catalog c = read_rows();
		cr_expect_eq(hd_catalog_where(&c, rows[i].text), HD_E_USAGE, "'%s'", rows[i].text);
		const char *error = hd_error_text(), *caret = strrchr(error, '\n');
		cr_expect(strstr(error, rows[i].words), "'%s' gives '%s' without '%s'", rows[i].text, error,
		        rows[i].words);
		cr_assert(caret && strchr(caret, '^'), "no caret in '%s'", error);
		cr_expect_eq(strchr(caret, '^') - caret - 3, rows[i].column, "'%s': caret in column %d, wanted %d:\n%s",
		        rows[i].text, (int)(strchr(caret, '^') - caret - 3), rows[i].column, error);
		for (size_t k = 0; k < c.count; k++)
			cr_expect_neq(
			        c.recordings[k].skip, HD_SKIP_FILTERED, "'%s' filtered all the same", rows[i].text);
		hd_catalog_free(&c);
	}
}

Test(where, long_texts_are_shown_around_the_place)
{
	char text[2000] = "session = s1";
	for (int i = 0; i < 40; i++)
		strcat(text, " and session = s1");
	strcat(text, " and sesion = s1 and session = s2");
	hd_catalog c = read_rows();
	cr_assert_eq(hd_catalog_where(&c, text), HD_E_USAGE);
	const char *line = strchr(hd_error_text(), '\n') + 1, *caret = strchr(line, '\n') + 1;
	cr_expect(caret - line <= 80, "a line of %d columns", (int)(caret - line));
	size_t column = strcspn(caret, "^");
	cr_expect(!strncmp(line + column, "sesion = s1", 11), "'%s'", hd_error_text());
	hd_catalog_free(&c);
}
