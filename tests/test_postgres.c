/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What takes no server: URLs without their passwords, in settings, checkpoints' texts and errors. The rest is
 * tests/services/postgres_check.sh.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/catalog.h"
#include "heimdall/settings.h"
#include "host/common/redact.h"
#include "host/data/postgres.h"

#define SECRET "s3cr-t%20x"

static const struct {
	const char *url, *bare;
} urls[] = {
        {"postgresql://u:" SECRET "@h/db", "postgresql://u@h/db"},
        {"postgres://u:" SECRET "@h:5432,h2:5433/db?sslmode=require", "postgres://u@h:5432,h2:5433/db?sslmode=require"},
        {"postgresql://:" SECRET "@/db", "postgresql://@/db"},
        {"postgresql://u:" SECRET "@[::1]:5432/db", "postgresql://u@[::1]:5432/db"},
        {"postgresql://h/db?user=u&password=" SECRET, "postgresql://h/db?user=u"},
        {"postgresql://h/db?password=" SECRET "&user=u", "postgresql://h/db?user=u"},
        {"postgresql://h/db?PASSWORD=" SECRET "&sslpassword=" SECRET, "postgresql://h/db"},
        {"postgresql://u:" SECRET "@h/db?a=1&password=" SECRET "&b=2", "postgresql://u@h/db?a=1&b=2"},
        /* what should have been escaped */
        {"postgresql://u:s3cr-t@x" SECRET "@h/db", "postgresql://u@h/db"},
        {"postgresql://u:s3cr-t/" SECRET "@h/db", "postgresql://u@h/db"},
        {"postgresql://u:s3cr-t?" SECRET "@h/db", "postgresql://u@h/db"},
        {"postgresql://u:s3cr-t#" SECRET "@h/db", "postgresql://u@h/db"},
        {"postgresql://h:1234/db@x", "postgresql://h@x"},                               /* may be either */
        {"postgresql://u:1234?" SECRET "@h/db", "postgresql://u:1234?" SECRET "@h/db"}, /* a port, a parameter */
        /* of others, the authority alone */
        {"https://u:" SECRET "@h/a?b=c@d", "https://u@h/a?b=c@d"},
        {"s3://bucket/a:b@c", "s3://bucket/a:b@c"},
        /* nothing to leave out */
        {"postgresql:///db", "postgresql:///db"},
        {"postgresql://", "postgresql://"},
        {"postgresql://u@h:5432/db?service=x", "postgresql://u@h:5432/db?service=x"},
        {"postgresql://h:5432/db?application_name=a@b", "postgresql://h:5432/db?application_name=a@b"},
        {"a folder/x:y@z", "a folder/x:y@z"},
        {"", ""},
};
#define URLS (sizeof urls / sizeof *urls)

Test(postgres, urls_without_passwords)
{
	for (size_t i = 0; i < URLS; i++) {
		char *bare;
		cr_assert_eq(hd_redact(&bare, urls[i].url), HD_OK);
		cr_expect_str_eq(bare, urls[i].bare, "%s: got %s, want %s", urls[i].url, bare, urls[i].bare);
		cr_expect_eq(hd_has_password(urls[i].url), strcmp(urls[i].url, urls[i].bare) != 0, "%s", urls[i].url);
		free(bare);
	}
}

Test(postgres, passwords_that_should_have_been_escaped)
{
	static const char *const wrong[] = {"postgresql://u:a@b@h/db", "postgresql://u:a/b@h/db",
	        "postgresql://u:a?b@h/db", "postgresql://u:a#b@h/db", "postgresql://u:a b@h/db",
	        "postgresql://u:a[b]@h/db"};
	static const char *const right[] = {"postgresql://u:a%40b@h/db", "postgresql://u:a:b@h/db",
	        "postgresql://u@[::1]/db", "postgresql:///db", "a/b"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		cr_expect(hd_password_is_unescaped(wrong[i]), "%s", wrong[i]);
	for (size_t i = 0; i < sizeof right / sizeof *right; i++)
		cr_expect_not(hd_password_is_unescaped(right[i]), "%s", right[i]);
}

Test(postgres, settings_keep_no_password)
{
	hd_settings s, old;
	char *yaml = NULL, *differences = NULL;
	cr_assert_eq(hd_settings_init(&s), HD_OK);
	cr_assert_eq(hd_settings_init(&old), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "data_dir", "postgresql://u:" SECRET "@h/db", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "out", "https://u:" SECRET "@h/db", "test"), HD_OK);
	cr_assert_eq(hd_settings_dump(&s, &yaml), HD_OK);
	cr_expect_null(strstr(yaml, "s3cr"), "%s", yaml);
	cr_assert_not_null(strstr(yaml, "data_dir: \"postgresql://u@h/db\""), "%s", yaml);
	cr_assert_eq(hd_settings_read_yaml_text(&old, yaml, "dump"), HD_OK, "%s", hd_error_text());
	/* the same database, named with the password again, is no difference */
	cr_assert_eq(hd_settings_inherit(&s, &old, &differences), HD_OK, "%s", hd_error_text());
	cr_expect_null(differences, "%s", differences);
	cr_expect_str_eq(s.data_dir, "postgresql://u:" SECRET "@h/db");
	cr_assert_eq(hd_settings_set(&old, "data_dir", "postgresql://u:other" SECRET "@h2/db", "test"), HD_OK);
	cr_assert_eq(hd_settings_inherit(&s, &old, &differences), HD_OK, "%s", hd_error_text());
	cr_assert_not_null(differences);
	cr_expect_str_eq(differences, "data_dir postgresql://u@h2/db -> postgresql://u@h/db");
	free(differences);
	free(yaml);
	hd_settings_free(&old);
	hd_settings_free(&s);
}

/* No server is asked: the port is one that nobody listens on. */
Test(postgres, errors_name_no_password)
{
	static const struct {
		const char *url;
		hd_status status;
		const char *words;
	} cases[] = {
	        {"postgresql://u:" SECRET "@127.0.0.1:1/db", HD_E_IO, "postgresql://u@127.0.0.1:1/db: cannot connect"},
	        {"postgresql://u:s3cr-t%zz@127.0.0.1:1/db", HD_E_USAGE, "is no URL that PostgreSQL knows"},
	        {"postgresql://u:s3cr-t/x@127.0.0.1:1/db", HD_E_USAGE, "%2F"},
	        {"postgresql://u:s3cr-t@x@127.0.0.1:1/db", HD_E_USAGE, "%40"},
	        {"postgresql://127.0.0.1:1/db?pasword=x", HD_E_USAGE, "pasword"}};
	hd_settings s;
	hd_catalog catalog;
	cr_assert_eq(hd_settings_init(&s), HD_OK);
	char folder[] = "/tmp/heimdall-postgres-XXXXXX";
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(hd_settings_set(&s, "cache_dir", folder, "test"), HD_OK);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_status st = hd_catalog_open(&catalog, cases[i].url, true, &s);
		cr_expect_eq(st, cases[i].status, "case %zu: %s", i, hd_error_text());
		cr_expect(strstr(hd_error_text(), cases[i].words), "case %zu: %s", i, hd_error_text());
		cr_expect_null(strstr(hd_error_text(), "s3cr"), "case %zu: %s", i, hd_error_text());
		hd_catalog empty = {0};
		st = hd_postgres_write(cases[i].url, false, &empty);
		cr_expect_eq(st, cases[i].status, "case %zu: %s", i, hd_error_text());
		cr_expect_null(strstr(hd_error_text(), "s3cr"), "case %zu: %s", i, hd_error_text());
	}
	cr_expect_eq(rmdir(folder), 0, "something was written into %s", folder);
	hd_settings_free(&s);
}
