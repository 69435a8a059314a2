/* SPDX-License-Identifier: Apache-2.0 */
/* The object store without a server: where settings come from, URLs, answers, the cache on disk. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/store/object_cache.h"
#include "host/store/s3.h"
#include "host/store/s3_request.h"
#include "host/store/store.h"
#include "tests/folder.h"

/* Nothing of this machine's user: no AWS_*, a home of the test's own. */
static void begin(void)
{
	static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	        "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL", "AWS_REGION",
	        "AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE",
	        "CURL_CA_BUNDLE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "XDG_CACHE_HOME"};
	start();
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	setenv("HOME", folder, 1);
}

TestSuite(store, .init = begin, .fini = stop);

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(file_in(name), "w");
	cr_assert(f, "%s", name);
	fputs(text, f);
	cr_assert_eq(fclose(f), 0);
}

static void write_profiles(const char *credentials, const char *config)
{
	mkdir(file_in(".aws"), 0700);
	if (credentials)
		write_text(".aws/credentials", credentials);
	if (config)
		write_text(".aws/config", config);
}

static void expect_text(const char *got, const char *want)
{
	cr_assert(want ? got && !strcmp(got, want) : !got, "%s, not %s", got ? got : "NULL", want ? want : "NULL");
}

static void expect_error(hd_status got, hd_status want, const char *words)
{
	cr_assert_eq(got, want, "status %d: %s", got, hd_error_text());
	cr_assert(strstr(hd_error_text(), words), "no '%s' in: %s", words, hd_error_text());
}

/* ---- where settings come from ---- */

static void expect_config(const hd_s3_settings *flags, const hd_s3_settings *file, const char *endpoint,
        const char *region, const char *access_key, const char *secret_key, const char *from)
{
	hd_s3_config c;
	cr_assert_eq(hd_s3_config_resolve(&c, flags, file), HD_OK, "%s", hd_error_text());
	expect_text(c.endpoint, endpoint);
	expect_text(c.region, region);
	expect_text(c.access_key, access_key);
	expect_text(c.secret_key, secret_key);
	cr_assert(strstr(c.keys_from, from), "keys from %s", c.keys_from);
	hd_s3_config_free(&c);
	cr_assert_null(c.secret_key);
}

Test(store, endpoints_in_their_order)
{
	const hd_s3_settings file = {.endpoint = "http://file:1", .access_key = "FA", .secret_key = "FS"};
	const hd_s3_settings flags = {.endpoint = "http://flag:1///"};
	write_profiles(NULL, "[default]\nendpoint_url = http://profile:1\nservices = mine\n"
	                     "[services mine]\ns3 =\n  endpoint_url = http://service:1\n  max = 2\n");
	hd_s3_settings keys = {.access_key = "A", .secret_key = "S"};
	expect_config(&keys, NULL, "http://service:1", "us-east-1", "A", "S", "command line");
	expect_config(NULL, &file, "http://file:1", "us-east-1", "FA", "FS", "the settings");
	setenv("MLFLOW_S3_ENDPOINT_URL", "http://mlflow:1", 1);
	expect_config(NULL, &file, "http://mlflow:1", "us-east-1", "FA", "FS", "the settings");
	setenv("AWS_ENDPOINT_URL", "http://aws:1", 1);
	expect_config(NULL, &file, "http://aws:1", "us-east-1", "FA", "FS", "the settings");
	setenv("AWS_ENDPOINT_URL_S3", "http://aws-s3:1", 1);
	expect_config(NULL, &file, "http://aws-s3:1", "us-east-1", "FA", "FS", "the settings");
	expect_config(&flags, &file, "http://flag:1", "us-east-1", "FA", "FS", "the settings");
	setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
	expect_config(NULL, &file, "http://mlflow:1", "us-east-1", "FA", "FS", "the settings");
	unsetenv("MLFLOW_S3_ENDPOINT_URL");
	expect_config(&keys, NULL, NULL, "us-east-1", "A", "S", "command line");
}

Test(store, endpoints_that_are_none)
{
	static const char *const bad[] = {
	        "127.0.0.1:9000", "ftp://host", "http://", "s3://bucket", "http://host/?a=b", "x"};
	hd_s3_config c;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		hd_s3_settings s = {.endpoint = bad[i], .anonymous = true};
		expect_error(hd_s3_config_resolve(&c, &s, NULL), HD_E_USAGE, "S3 endpoint");
	}
	hd_s3_settings s = {.endpoint = "http://someone:pass-word@host", .anonymous = true};
	expect_error(hd_s3_config_resolve(&c, &s, NULL), HD_E_USAGE, "has a user or password");
	cr_assert(!strstr(hd_error_text(), "pass-word"));
	hd_s3_settings region = {.region = "evil.example/", .anonymous = true};
	expect_error(hd_s3_config_resolve(&c, &region, NULL), HD_E_USAGE, "region");
	hd_s3_settings style = {.style = "sideways", .anonymous = true};
	expect_error(hd_s3_config_resolve(&c, &style, NULL), HD_E_USAGE, "auto, path or virtual");
}

Test(store, keys_in_their_order)
{
	hd_s3_config c;
	write_profiles("# comment\n[default]\naws_access_key_id = DA\naws_secret_access_key=D/S+=#x\n"
	               "[lab]\naws_access_key_id = LA\naws_secret_access_key = LS\naws_session_token = LT\n",
	        "[default]\nregion = eu-west-1\n[profile lab]\nregion = eu-north-1\n"
	        "s3 =\n    addressing_style = virtual\nca_bundle = /etc/lab.pem\n"
	        "[profile  \"only config\"]\naws_access_key_id=CA\naws_secret_access_key=CS\n");
	const hd_s3_settings lab = {.profile = "lab"}, only = {.profile = "only config"};
	expect_config(NULL, NULL, NULL, "eu-west-1", "DA", "D/S+=#x", "profile 'default'");
	expect_config(NULL, &lab, NULL, "eu-north-1", "LA", "LS", "profile 'lab'");
	expect_config(&only, NULL, NULL, "us-east-1", "CA", "CS", "/.aws/config");
	setenv("AWS_PROFILE", "lab", 1);
	cr_assert_eq(hd_s3_config_resolve(&c, NULL, NULL), HD_OK);
	expect_text(c.session_token, "LT");
	expect_text(c.ca_bundle, "/etc/lab.pem");
	cr_assert_eq(c.style, HD_S3_STYLE_VIRTUAL);
	hd_s3_config_free(&c);
	setenv("AWS_ACCESS_KEY_ID", "EA", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "ES", 1);
	setenv("AWS_CA_BUNDLE", "/env.pem", 1);
	cr_assert_eq(hd_s3_config_resolve(&c, NULL, NULL), HD_OK);
	expect_text(c.session_token, NULL); /* of the environment's own, or none */
	expect_text(c.ca_bundle, "/env.pem");
	hd_s3_config_free(&c);
	expect_config(NULL, NULL, NULL, "eu-north-1", "EA", "ES", "the environment");
	expect_config(&lab, NULL, NULL, "eu-north-1", "LA", "LS", "profile 'lab'");
	setenv("AWS_DEFAULT_REGION", "r-2", 1);
	expect_config(NULL, NULL, NULL, "r-2", "EA", "ES", "the environment");
	setenv("AWS_REGION", "r-1", 1);
	expect_config(NULL, NULL, NULL, "r-1", "EA", "ES", "the environment");
}

Test(store, keys_that_are_missing)
{
	hd_s3_config c;
	expect_error(hd_s3_config_resolve(&c, NULL, NULL), HD_E_USAGE, "/.aws/credentials (no such file)");
	expect_error(HD_E_USAGE, HD_E_USAGE, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
	setenv("AWS_ACCESS_KEY_ID", "EA-not-shown", 1);
	expect_error(
	        hd_s3_config_resolve(&c, NULL, NULL), HD_E_USAGE, "the environment: there is an access key without");
	cr_assert(!strstr(hd_error_text(), "EA-not-shown"));
	unsetenv("AWS_ACCESS_KEY_ID");
	setenv("AWS_PROFILE", "absent", 1);
	expect_error(hd_s3_config_resolve(&c, NULL, NULL), HD_E_USAGE, "S3 profile 'absent' is neither in");
	unsetenv("AWS_PROFILE");
	write_profiles(NULL, "[default]\nsso_start_url = https://x\n");
	expect_error(hd_s3_config_resolve(&c, NULL, NULL), HD_E_USAGE, "gets its keys through sso_start_url");
	write_profiles("[default]\naws_secret_access_key = not-shown\n this-is no setting\nnor-this\n", NULL);
	expect_error(
	        hd_s3_config_resolve(&c, NULL, NULL), HD_E_DATA, "credentials:4: neither [section] nor key = value");
	write_profiles("[default\n", NULL);
	expect_error(hd_s3_config_resolve(&c, NULL, NULL), HD_E_DATA, "credentials:1");
	write_profiles("[default]\naws_secret_access_key = not-shown\n", NULL);
	expect_error(hd_s3_config_resolve(&c, NULL, NULL), HD_E_USAGE, "a secret key without its access key");
	cr_assert(!strstr(hd_error_text(), "not-shown"));
	hd_s3_settings anonymous = {.anonymous = true};
	cr_assert_eq(hd_s3_config_resolve(&c, &anonymous, NULL), HD_OK);
	cr_assert_null(c.access_key);
	hd_s3_config_free(&c);
}

/* ---- URLs ---- */

Test(store, urls)
{
	hd_s3_url url;
	cr_assert_eq(hd_s3_url_parse(&url, "s3://data.v2/a b+c%2B=?x#y//z/"), HD_OK);
	expect_text(url.bucket, "data.v2");
	expect_text(url.key, "a b+c%2B=?x#y//z/");
	hd_s3_url_free(&url);
	cr_assert_eq(hd_s3_url_parse(&url, "s3://bucket"), HD_OK);
	expect_text(url.key, "");
	hd_s3_url_free(&url);
	static const char *const bad[] = {"s3://", "s3:///key", "s3://bu cket/k", "s3://b@d/k", "s3://b:9/k", "/b/k"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		expect_error(hd_s3_url_parse(&url, bad[i]), HD_E_USAGE, "s3://bucket/key");
	expect_error(hd_s3_url_parse(&url, "s3://KEY:not-shown@host/k"), HD_E_USAGE, "do not belong");
	cr_assert(!strstr(hd_error_text(), "not-shown"));
	cr_assert(hd_s3_host_is_amazon("b.s3.eu-west-1.amazonaws.com") &&
	          hd_s3_host_is_amazon("S3.cn-north-1.AMAZONAWS.com.cn"));
	cr_assert(!hd_s3_host_is_amazon("evilamazonaws.com") && !hd_s3_host_is_amazon("amazonaws.com.evil.example"));
}

/* ---- where requests go ---- */

static hd_s3 *open_s3(const char *endpoint, const char *region, const char *style)
{
	hd_s3 *s;
	hd_s3_config c;
	hd_s3_settings settings = {.endpoint = endpoint, .region = region, .style = style, .anonymous = true};
	cr_assert_eq(hd_s3_config_resolve(&c, &settings, NULL), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_s3_open(&s, &c), HD_OK, "%s", hd_error_text());
	return s;
}

static void expect_target(const hd_s3_target *t, const char *want)
{
	char got[600];
	snprintf(got, sizeof got, "%s://%s%s%s%s", t->scheme, t->host, t->path, *t->query ? "?" : "", t->query);
	expect_text(got, want);
}

Test(store, requests_go_to)
{
	/* endpoint, region, style, bucket, key, where */
	static const char *const cases[][6] = {
	        {NULL, "eu-west-1", NULL, "b", "a b/c+", "https://b.s3.eu-west-1.amazonaws.com/a%20b/c%2B"},
	        {NULL, "eu-west-1", NULL, "b.c", "k", "https://s3.eu-west-1.amazonaws.com/b.c/k"},
	        {NULL, "eu-west-1", "path", "b", NULL, "https://s3.eu-west-1.amazonaws.com/b"},
	        {NULL, "cn-north-1", NULL, "b", NULL, "https://b.s3.cn-north-1.amazonaws.com.cn/"},
	        {"https://s3.amazonaws.com", "r", NULL, "b", "k", "https://b.s3.amazonaws.com/k"},
	        {"http://127.0.0.1:9000", "r", NULL, "b", "k", "http://127.0.0.1:9000/b/k"},
	        {"http://minio/", "r", "virtual", "b", "k", "http://b.minio/k"},
	        {"https://minio:443", "r", NULL, "b", "../k", "https://minio/b/../k"},
	        {"http://proxy:8080/s3", "r", NULL, "b", "k", "http://proxy:8080/s3/b/k"},
	        {"http://[::1]:9000", "r", NULL, "b", "k", "http://[::1]:9000/b/k"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_s3 *s = open_s3(cases[i][0], cases[i][1], cases[i][2]);
		hd_s3_target t;
		hd_s3_call call = {.method = "GET", .bucket = cases[i][3], .key = cases[i][4]};
		cr_assert_eq(hd_s3_aim(&t, s, &call), HD_OK);
		expect_target(&t, cases[i][5]);
		hd_s3_target_free(&t);
		hd_s3_close(s);
	}
}

Test(store, redirects_that_are_followed)
{
	/* endpoint, Location, where to (NULL: refused) */
	static const char *const cases[][3] = {
	        {NULL, "https://b.s3.eu-north-1.amazonaws.com/k?rk=e2%2Bc&a",
	                "https://b.s3.eu-north-1.amazonaws.com/k?a=&rk=e2%2Bc"},
	        {NULL, "http://b.s3.eu-north-1.amazonaws.com/k", NULL},
	        {NULL, "https://b.s3.amazonaws.com.evil.example/k", NULL},
	        {NULL, "https://evilamazonaws.com/k", NULL},
	        {NULL, "https://b.s3.amazonaws.com:8443/k", NULL},
	        {NULL, "https://x:y@b.s3.amazonaws.com/k", NULL},
	        {"https://minio.lab", "https://minio.lab/b/k2", "https://minio.lab/b/k2"},
	        {"https://minio.lab", "https://node1.minio.lab/b/k", "https://node1.minio.lab/b/k"},
	        {"https://minio.lab", "https://evilminio.lab/b/k", NULL},
	        {"https://minio.lab", "https://lab/b/k", NULL},
	        {"https://minio.lab", "https://minio.lab:9000/b/k", NULL},
	        {"https://minio.lab", "http://minio.lab/b/k", NULL},
	        {"https://minio.lab:9000", "http://minio.lab:9000/b/k", NULL},
	        {"https://minio.lab", "https://b.s3.amazonaws.com/k", NULL},
	        {"http://minio.lab", "https://minio.lab/b/k", "https://minio.lab/b/k"},
	        {"http://minio", "http://node.minio/b/k", NULL}, /* one label may be anybody's */
	        {"http://10.0.0.1:9000", "http://10.0.0.2:9000/b/k", NULL},
	        {"http://10.0.0.1:9000", "/other?x=1", "http://10.0.0.1:9000/other?x=1"},
	        {"http://10.0.0.1:9000", "", NULL},
	        {"http://10.0.0.1:9000", "gopher://10.0.0.1:9000/", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_s3 *s = open_s3(cases[i][0], "us-east-1", NULL);
		hd_s3_target t;
		hd_s3_call call = {.method = "GET", .bucket = "b", .key = "k"};
		hd_s3_answer a = {.status = 307};
		snprintf(a.location, sizeof a.location, "%s", cases[i][1]);
		cr_assert_eq(hd_s3_aim(&t, s, &call), HD_OK);
		cr_assert(hd_s3_is_moved(&t, &a));
		hd_status st = hd_s3_follow(&t, s, &call, &a);
		cr_assert_eq(st == HD_OK, cases[i][2] != NULL, "%s: %s", cases[i][1],
		        st == HD_OK ? "followed" : hd_error_text());
		if (cases[i][2])
			expect_target(&t, cases[i][2]);
		hd_s3_target_free(&t);
		hd_s3_close(s);
	}
}

Test(store, regions_that_a_server_names)
{
	hd_s3 *s = open_s3(NULL, "us-east-1", NULL);
	hd_s3_target t;
	hd_s3_call call = {.method = "GET", .bucket = "b", .key = "k"};
	hd_s3_answer a = {.status = 301, .region = "eu-north-1"}, bad = {.status = 400, .region = "evil.example/"};
	cr_assert_eq(hd_s3_aim(&t, s, &call), HD_OK);
	cr_assert(!hd_s3_is_moved(&t, &bad), "a region that is a host");
	cr_assert(hd_s3_is_moved(&t, &a));
	cr_assert_eq(hd_s3_follow(&t, s, &call, &a), HD_OK, "%s", hd_error_text());
	expect_target(&t, "https://b.s3.eu-north-1.amazonaws.com/k");
	expect_text(t.region, "eu-north-1");
	hd_s3_target_free(&t);
	cr_assert_eq(hd_s3_aim(&t, s, &call), HD_OK); /* and from then on */
	expect_text(t.region, "eu-north-1");
	hd_s3_target_free(&t);
	hd_s3_close(s);
}

/* ---- answers ---- */

static hd_status read_list(hd_s3_page *page, const char *text)
{
	return hd_s3_xml_list(page, text, strlen(text));
}

Test(store, listings)
{
	hd_s3_page page;
	cr_assert_eq(
	        read_list(&page,
	                "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
	                "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
	                "<NextContinuationToken>a&amp;b</NextContinuationToken>"
	                "<Contents><Key>a%20b+c%2Bd</Key><Size>5</Size><ETag>&quot;x&quot;</ETag></Contents>"
	                "<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes></ListBucketResult>"),
	        HD_OK, "%s", hd_error_text());
	cr_assert_eq(page.count, 2);
	expect_text(page.items[0].key, "a b c+d");
	expect_text(page.items[0].etag, "\"x\"");
	cr_assert_eq(page.items[0].bytes, 5);
	cr_assert(page.items[1].prefix && !page.items[0].prefix);
	expect_text(page.items[1].key, "dir/");
	expect_text(page.next, "a&b");
	hd_s3_page_free(&page);
	cr_assert_eq(
	        read_list(&page,
	                "<ListBucketResult><Contents><Key>a%20+</Key><Size>0</Size></Contents></ListBucketResult>"),
	        HD_OK);
	expect_text(page.items[0].key, "a%20+"); /* nothing said that it is encoded */
	hd_s3_page_free(&page);
	static const char *const bad[] = {"", "no xml", "<Other/>", "<ListBucketResult>",
	        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
	        "<ListBucketResult><Contents><Key>a</Key><Size>1e3</Size></Contents></ListBucketResult>",
	        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
	        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
	        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%2</Key><Size>1</Size></Contents>"
	        "</ListBucketResult>",
	        "<!DOCTYPE x [<!ENTITY e \"k\">]><ListBucketResult><Contents><Key>&e;</Key><Size>1</Size></Contents>"
	        "</ListBucketResult>"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert_eq(read_list(&page, bad[i]), HD_E_DATA, "%s", bad[i]);
}

Test(store, faults)
{
	hd_s3_fault f;
	const char *text = "<Error><Code>SlowDown</Code><Message>less\nplease</Message><Region>r-1</Region></Error>";
	cr_assert(hd_s3_xml_fault(&f, text, strlen(text)));
	expect_text(f.code, "SlowDown");
	expect_text(f.message, "less please");
	expect_text(f.region, "r-1");
	cr_assert(!hd_s3_xml_fault(&f, "<ListBucketResult><Error/></ListBucketResult>", 45));
	cr_assert(!hd_s3_xml_fault(&f, "<html>Error</html>", 18));
	cr_assert(!hd_s3_xml_fault(&f, NULL, 0));
}

/* ---- the cache ---- */

static hd_object_name named(const char *key)
{
	return (hd_object_name){"http://127.0.0.1:1", "bucket", key};
}

/* A copy of `bytes` bytes, in use by *out. */
static void add(hd_object_cache *c, hd_cached *out, const char *key, const char *etag, size_t bytes)
{
	hd_caching making;
	hd_object_name name = named(key);
	char block[1000];
	memset(block, key[0], sizeof block);
	cr_assert_eq(hd_object_cache_begin(c, &making, &name), HD_OK, "%s", hd_error_text());
	cr_assert_eq(write(making.fd, block, bytes), (ssize_t)bytes);
	cr_assert_eq(hd_object_cache_commit(&making, out, etag), HD_OK, "%s", hd_error_text());
	cr_assert_eq(access(out->path, R_OK), 0);
}

static bool has(hd_object_cache *c, const char *key, const char *etag)
{
	hd_cached found;
	hd_object_name name = named(key);
	cr_assert_eq(hd_object_cache_find(c, &found, &name), HD_OK, "%s", hd_error_text());
	bool there = found.path != NULL;
	if (there && etag)
		expect_text(found.etag, etag);
	hd_cached_release(&found);
	return there;
}

/* A moment's difference in the times of use, which have a file system's resolution. */
static void later(void)
{
	struct timespec t = {0, 20000000};
	nanosleep(&t, NULL);
}

static int files(void)
{
	char command[400], text[32] = "";
	snprintf(command, sizeof command, "find '%s/c' -type f ! -name lock | wc -l", folder);
	FILE *pipe = popen(command, "r");
	cr_assert_not_null(fgets(text, sizeof text, pipe));
	pclose(pipe);
	return atoi(text);
}

Test(store, cache_keeps_and_finds)
{
	hd_object_cache *c;
	hd_cached one, two;
	cr_assert_eq(hd_object_cache_open(&c, file_in("c"), -1), HD_OK);
	cr_assert(!has(c, "a", NULL));
	add(c, &one, "a", "\"1/x%+\"", 10);
	cr_assert(has(c, "a", "\"1/x%+\""));
	cr_assert(!has(c, "b", NULL));
	hd_object_name other = {"http://other", "bucket", "a"};
	cr_assert_eq(hd_object_cache_find(c, &two, &other), HD_OK);
	cr_assert_null(two.path);
	/* the same once more: what is there stays, and both hold it */
	add(c, &two, "a", "\"1/x%+\"", 10);
	expect_text(two.path, one.path);
	cr_assert_eq(files(), 1);
	/* cut short by a crash */
	cr_assert_eq(truncate(one.path, 4), 0);
	cr_assert(!has(c, "a", NULL));
	hd_cached_release(&one);
	hd_cached_release(&two);
	add(c, &one, "a", "\"1/x%+\"", 10);
	cr_assert(has(c, "a", "\"1/x%+\""));
	hd_cached_release(&one);
	hd_object_cache_close(c);
	cr_assert_eq(files(), 1);
}

Test(store, cache_takes_the_newest_version)
{
	hd_object_cache *c;
	hd_cached one;
	cr_assert_eq(hd_object_cache_open(&c, file_in("c"), -1), HD_OK);
	static const char *const etags[] = {"\"z\"", "\"a\"", "\"m\""};
	for (int i = 0; i < 3; i++) {
		add(c, &one, "k", etags[i], (size_t)i);
		const struct timespec times[2] = {{1000 + i, 0}, {1000 + i, 0}};
		cr_assert_eq(utimensat(AT_FDCWD, one.path, times, 0), 0);
		hd_cached_release(&one);
		cr_assert(has(c, "k", etags[i]));
	}
	hd_object_cache_close(c);
}

Test(store, cache_removes_what_was_used_longest_ago)
{
	hd_object_cache *c;
	hd_cached copies[10], held;
	cr_assert_eq(hd_object_cache_open(&c, file_in("c"), 5000), HD_OK);
	add(c, &held, "0held", "\"e\"", 1000);
	char key[8];
	for (int i = 1; i < 5; i++) {
		snprintf(key, sizeof key, "%d", i);
		later();
		add(c, &copies[i], key, "\"e\"", 1000);
		hd_cached_release(&copies[i]);
	}
	later();
	cr_assert(has(c, "1", NULL)); /* used again */
	cr_assert_eq(files(), 5);
	later();
	add(c, &copies[5], "5", "\"e\"", 1000);
	cr_assert(has(c, "0held", NULL), "a copy in use was removed");
	cr_assert(has(c, "1", NULL), "what was used last was removed");
	cr_assert(!has(c, "2", NULL) && !has(c, "3", NULL), "what was used longest ago is there");
	cr_assert_leq(files(), 5);
	hd_cached_release(&copies[5]);
	hd_cached_release(&held);
	hd_object_cache_close(c);
	/* another limit at the next opening; what is not the cache's own stays */
	write_text("c/notes.txt", "mine");
	cr_assert_eq(hd_object_cache_open(&c, file_in("c"), 0), HD_OK);
	cr_assert_eq(files(), 1);
	cr_assert_eq(access(file_in("c/notes.txt"), F_OK), 0);
	hd_object_cache_close(c);
}

Test(store, cache_cleans_up_after_a_killed_process)
{
	hd_object_cache *c;
	hd_caching making;
	hd_object_name name = named("a");
	pid_t child = fork();
	if (child == 0) {
		if (hd_object_cache_open(&c, file_in("c"), 100) != HD_OK ||
		        hd_object_cache_begin(c, &making, &name) != HD_OK)
			_exit(1);
		_exit(write(making.fd, "half", 4) == 4 ? 0 : 2);
	}
	int status;
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0);
	cr_assert_eq(files(), 1);
	cr_assert_eq(hd_object_cache_open(&c, file_in("c"), 100), HD_OK);
	cr_assert_eq(files(), 0);
	/* one that lives is left alone */
	hd_object_cache *second;
	cr_assert_eq(hd_object_cache_begin(c, &making, &name), HD_OK);
	cr_assert_eq(hd_object_cache_open(&second, file_in("c"), 0), HD_OK);
	cr_assert_eq(files(), 1);
	hd_object_cache_close(second);
	hd_object_cache_drop(&making);
	cr_assert_eq(files(), 0);
	hd_object_cache_close(c);
}

/* A copy that is removed between its opening and its lock is none: the lock would be on a file without a name. */
Test(store, cache_does_not_give_out_what_is_being_removed)
{
	hd_object_cache *c;
	hd_cached one;
	char path[512];
	cr_assert_eq(hd_object_cache_open(&c, file_in("c"), -1), HD_OK);
	add(c, &one, "a", "\"e\"", 10);
	snprintf(path, sizeof path, "%s", one.path);
	hd_cached_release(&one);
	int remover = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(flock(remover, LOCK_EX), 0);
	pid_t child = fork();
	if (child == 0) {
		close(remover); /* shares the lock */
		_exit(has(c, "a", NULL) ? 1 : 0);
	}
	struct timespec until_it_waits = {0, 200000000};
	nanosleep(&until_it_waits, NULL);
	cr_assert_eq(unlink(path), 0);
	close(remover);
	int status;
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0, "a copy without a name was given out");
	hd_object_cache_close(c);
}

#define PROCESSES 6
#define ROUNDS 300

/* One of several processes that fill and empty one small folder; returns what it saw go wrong. */
static int use_heavily(unsigned seed)
{
	hd_object_cache *c;
	char block[500], got[600], key[8];
	if (hd_object_cache_open(&c, file_in("c"), 2000) != HD_OK)
		return 1;
	for (int i = 0; i < ROUNDS; i++) {
		hd_cached copy;
		seed = seed * 1103515245 + 12345;
		snprintf(key, sizeof key, "%c", 'a' + (int)(seed >> 16) % 8);
		hd_object_name name = named(key);
		if (hd_object_cache_find(c, &copy, &name) != HD_OK)
			return 2;
		if (!copy.path) {
			hd_caching making;
			memset(block, key[0], sizeof block);
			if (hd_object_cache_begin(c, &making, &name) != HD_OK ||
			        write(making.fd, block, sizeof block) != (ssize_t)sizeof block ||
			        hd_object_cache_commit(&making, &copy, "\"e\"") != HD_OK)
				return 3;
		}
		/* by its path, as a user of the copy does */
		FILE *f = fopen(copy.path, "rb");
		if (!f)
			return 4;
		size_t n = fread(got, 1, sizeof got, f);
		fclose(f);
		if (n != sizeof block || got[0] != key[0] || got[n - 1] != key[0])
			return 5;
		hd_cached_release(&copy);
	}
	hd_object_cache_close(c);
	return 0;
}

Test(store, cache_is_shared_by_processes)
{
	pid_t children[PROCESSES];
	for (unsigned p = 0; p < PROCESSES; p++) {
		children[p] = fork();
		if (children[p] == 0) {
			int bad = use_heavily(p + 1);
			if (bad)
				fprintf(stderr, "%d: %s\n", bad, hd_error_text());
			_exit(bad);
		}
	}
	for (int p = 0; p < PROCESSES; p++) {
		int status;
		cr_assert_eq(waitpid(children[p], &status, 0), children[p]);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "process %d: %d", p, status);
	}
	cr_assert_leq(files(), 4);
}

/* ---- the store, without S3 ---- */

Test(store, paths_pass_through)
{
	static const char *const same[][2] = {{"/a/b c.npy", "/a/b c.npy"}, {"rel/x%20y", "rel/x%20y"},
	        {"file:///a/b%20c.npy", "/a/b c.npy"}, {"file://localhost/x", "/x"}, {"c:/x", "c:/x"}};
	hd_store *s;
	hd_store_file f;
	hd_store_settings settings = {0};
	/* no keys anywhere: nobody asked for S3 */
	cr_assert_eq(hd_store_open(&s, &settings), HD_OK, "%s", hd_error_text());
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		cr_assert_eq(hd_store_fetch(s, &f, same[i][0]), HD_OK, "%s", hd_error_text());
		expect_text(f.path, same[i][1]);
		expect_text(f.version, NULL);
		hd_store_release(&f);
		hd_store_release(&f);
	}
	expect_error(hd_store_fetch(s, &f, "https://host/x"), HD_E_UNSUPPORTED, "https://");
	expect_error(hd_store_fetch(s, &f, "file://host/x"), HD_E_USAGE, "whole path");
	expect_error(hd_store_fetch(s, &f, "s3://bucket/x"), HD_E_USAGE, "no S3 keys");
	expect_error(hd_store_fetch(s, &f, "s3://bucket/x"), HD_E_USAGE, "no S3 keys");
	expect_error(hd_store_fetch(s, &f, "s3://bucket/"), HD_E_USAGE, "");
	write_text("from", "words");
	char from[300], to[300];
	snprintf(from, sizeof from, "%s", file_in("from"));
	snprintf(to, sizeof to, "file://%s", file_in("to"));
	cr_assert_eq(hd_store_put(s, to, from, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(access(file_in("to"), R_OK), 0);
	expect_error(hd_store_put(s, to, from, true), HD_E_DATA, "exists already");
	cr_assert(hd_store_is_url("S3://a/b") && hd_store_is_url("file:///x") && !hd_store_is_url("/x"));
	hd_store_close(s);
	cr_assert_neq(access(file_in(".cache"), F_OK), 0, "a cache was made for nothing");
}
