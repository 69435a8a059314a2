/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures against published ones: the examples of "Signature Calculations for the Authorization Header" (Amazon S3
 * API reference), AWS's Signature Version 4 test suite, and keys that those leave out, computed by botocore 1.43 with
 * the examples' keys and date.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/text.h"
#include "host/store/sigv4.h"
#include "tests/folder.h"

static const hd_sigv4_keys example = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
static const hd_sigv4_keys suite = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

static char signature[HD_SHA256_HEX_BYTES];

/* The signature of a request is in `signature`; its Authorization is checked for the rest. */
static void sign(const hd_sigv4_request *r, const hd_sigv4_keys *keys, const char *names)
{
	char *authorization, start[512];
	cr_assert_eq(hd_sigv4_authorization(&authorization, r, keys), HD_OK, "%s", hd_error_text());
	snprintf(start, sizeof start,
	        "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=%s,Signature=", keys->access_key,
	        r->timestamp, r->region, r->service, names);
	cr_assert(!strncmp(authorization, start, strlen(start)), "%s", authorization);
	snprintf(signature, sizeof signature, "%s", authorization + strlen(start));
	cr_assert_eq(strlen(authorization), strlen(start) + 64);
	cr_assert(!strstr(authorization, keys->secret_key));
	free(authorization);
}

/* One request of the S3 examples; query pairs and further headers end with a NULL name. */
static void expect(const char *method, const char *path, const hd_pair *query, const hd_pair *more, const char *payload,
        const char *names, const char *want)
{
	char hash[HD_SHA256_HEX_BYTES], *text;
	size_t pairs = 0;
	hd_pair headers[8] = {{"Host", "examplebucket.s3.amazonaws.com"}, {"x-amz-date", "20130524T000000Z"},
	        {"x-amz-content-sha256", hash}};
	hd_sigv4_request r = {.method = method,
	        .path = path,
	        .headers = headers,
	        .header_count = 3,
	        .payload_sha256 = hash,
	        .region = "us-east-1",
	        .service = "s3"};
	hd_sigv4_timestamp(r.timestamp, 1369353600);
	cr_assert_str_eq(r.timestamp, "20130524T000000Z");
	cr_assert_eq(hd_sha256(hash, payload, strlen(payload)), HD_OK);
	for (; query && query[pairs].name; pairs++)
		;
	for (; more && more->name; more++)
		headers[r.header_count++] = *more;
	cr_assert_eq(hd_sigv4_query(&text, query, pairs), HD_OK);
	r.query = text;
	sign(&r, &example, names);
	cr_assert_str_eq(signature, want, "%s %s?%s: %s, not %s", method, path, text, signature, want);
	free(text);
}

#define USUAL "host;x-amz-content-sha256;x-amz-date"

Test(sigv4, examples_of_s3)
{
	static const hd_pair range[] = {{"Range", "bytes=0-9"}, {0}};
	static const hd_pair put[] = {
	        {"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {0}};
	static const hd_pair lifecycle[] = {{"lifecycle", NULL}, {0}};
	static const hd_pair list[] = {{"prefix", "J"}, {"max-keys", "2"}, {0}};
	expect("GET", "/test.txt", NULL, range, "", "host;range;x-amz-content-sha256;x-amz-date",
	        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	expect("PUT", "/test%24file.text", NULL, put, "Welcome to Amazon S3.",
	        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
	expect("GET", "/", lifecycle, NULL, "", USUAL,
	        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
	expect("GET", "/", list, NULL, "", USUAL, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

/* The key as it is, its path on the wire, its signature. */
Test(sigv4, keys_that_go_wrong)
{
	static const char *const keys[][3] = {
	        {"a b+c.npy", "/a%20b%2Bc.npy", "bef489f6e58799a9e886b2e800b4a2f3fd20e34d8a9b7d4fa8d9592afdd82a60"},
	        {"a%2Bb=c", "/a%252Bb%3Dc", "041044d460aac8bea332c3a216a41ca324999e399e22d2c726ab71b39a207f63"},
	        {"\xe9\x8c\xb2\xe9\x9f\xb3/\xe4\xbd\x8d\xe7\xbd\xae.npy", "/%E9%8C%B2%E9%9F%B3/%E4%BD%8D%E7%BD%AE.npy",
	                "b2ebd851f8aa352a83e12c8a62295d04f80546a7a5e3b39658e85f4212b12498"},
	        {"~tilde*(x)'y'!", "/~tilde%2A%28x%29%27y%27%21",
	                "247770927252f8309bf53adad3b173385aab310b424447da331818aaf6939ddd"},
	        {"dots/../x//y", "/dots/../x//y", "5e66dabc5e3623e5f7f29fb8403abde371f2ce0621e47d36ae25f7957eb195e7"},
	};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		char *encoded, path[256];
		cr_assert_eq(hd_percent_encode(&encoded, keys[i][0], true), HD_OK);
		snprintf(path, sizeof path, "/%s", encoded);
		cr_assert_str_eq(path, keys[i][1]);
		expect("GET", path, NULL, NULL, "", USUAL, keys[i][2]);
		free(encoded);
	}
}

Test(sigv4, query_token_and_body)
{
	static const hd_pair query[] = {{"list-type", "2"}, {"prefix", "a b+c=%2B/\xe9\x8c\xb2"}, {"delimiter", "/"},
	        {"continuation-token", "1/x+y=="}, {0}};
	static const hd_pair token[] = {{"x-amz-security-token", "SESSION/TOKEN+=="}, {0}};
	static const hd_pair put[] = {{"Content-Type", "text/plain"}, {"Content-MD5", "x"}, {0}};
	expect("GET", "/", query, NULL, "", USUAL, "c5e4a9147b872a7d8c0ad36debd9aceac33941b012f19d81aca276c4bd8be19d");
	expect("GET", "/k", NULL, token, "", USUAL ";x-amz-security-token",
	        "4ea05726e3a173fc816f2c62cc1273c85290c623c248eae963317c01b97f7d96");
	expect("PUT", "/k", NULL, put, "Welcome to Amazon S3.", "content-md5;content-type;" USUAL,
	        "19edee0bdcdd2a43d3f8d123fd96f5cd16a0b35bf6ad778d12eaa797846cb65a");
}

/* ---- AWS's test suite ---- */

typedef struct vector {
	const char *name, *method, *path;
	hd_pair query[4], headers[6];
	const char *signature;
} vector;

Test(sigv4, test_suite)
{
#define HOST                                                                                                           \
	{                                                                                                              \
		"Host", "example.amazonaws.com"                                                                        \
	}
#define DATE                                                                                                           \
	{                                                                                                              \
		"X-Amz-Date", "20150830T123600Z"                                                                       \
	}
	static const vector vectors[] = {
	        {"get-vanilla", "GET", "/", {{0}}, {HOST, DATE},
	                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	        {"get-vanilla-query-order-key-case", "GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}},
	                {HOST, DATE}, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	        {"get-header-key-duplicate", "GET", "/", {{0}},
	                {HOST, {"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}, DATE},
	                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	        {"get-header-value-trim", "GET", "/", {{0}},
	                {HOST, {"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}, DATE},
	                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	        {"get-utf8", "GET", "/%E1%88%B4", {{0}}, {HOST, DATE},
	                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	        {"get-space", "GET", "/example%20space/", {{0}}, {HOST, DATE},
	                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	        {"post-vanilla", "POST", "/", {{0}}, {HOST, DATE},
	                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	};
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		const vector *v = &vectors[i];
		char *query, names[256] = "", *canonical, *signed_names;
		hd_sigv4_request r = {.method = v->method,
		        .path = v->path,
		        .headers = v->headers,
		        .payload_sha256 = HD_SIGV4_EMPTY_SHA256,
		        .region = "us-east-1",
		        .service = "service",
		        .timestamp = "20150830T123600Z"};
		size_t pairs = 0;
		while (pairs < 4 && v->query[pairs].name)
			pairs++;
		while (r.header_count < 6 && v->headers[r.header_count].name)
			r.header_count++;
		cr_assert_eq(hd_sigv4_query(&query, v->query, pairs), HD_OK);
		r.query = query;
		cr_assert_eq(hd_sigv4_canonical(&canonical, &signed_names, &r), HD_OK);
		snprintf(names, sizeof names, "%s", signed_names);
		sign(&r, &suite, names);
		cr_assert_str_eq(signature, v->signature, "%s: %s\n%s", v->name, signature, canonical);
		free(canonical);
		free(signed_names);
		free(query);
	}
}

Test(sigv4, canonical_text)
{
	static const hd_pair headers[] = {{"X-B", " two   blanks "}, {"host", "h"}, {"x-a", NULL}};
	hd_sigv4_request r = {.method = "GET",
	        .path = "/p",
	        .headers = headers,
	        .header_count = 3,
	        .payload_sha256 = HD_SIGV4_EMPTY_SHA256,
	        .region = "r",
	        .service = "s3",
	        .timestamp = "20150830T123600Z"};
	char *text, *names;
	cr_assert_eq(hd_sigv4_canonical(&text, &names, &r), HD_OK);
	cr_assert_str_eq(text, "GET\n/p\n\nhost:h\nx-a:\nx-b:two blanks\n\nhost;x-a;x-b\n" HD_SIGV4_EMPTY_SHA256);
	cr_assert_str_eq(names, "host;x-a;x-b");
	free(text);
	free(names);
}

/* ---- digests ---- */

Test(sigv4, digests, .init = start, .fini = stop)
{
	char sha[HD_SHA256_HEX_BYTES], md5[HD_MD5_BASE64];
	const char *name = file_in("digest");
	cr_assert_eq(hd_sha256(sha, "", 0), HD_OK);
	cr_assert_str_eq(sha, HD_SIGV4_EMPTY_SHA256);
	cr_assert_eq(hd_md5_base64(md5, "Hello World!", 12), HD_OK);
	cr_assert_str_eq(md5, "7Qdih1MuhjZehB6Sv8UNjA=="); /* openssl md5 -binary | base64 */
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, "..Hello World!..", 16), 16);
	cr_assert_eq(hd_file_digests(sha, md5, fd, name, 2, 12), HD_OK);
	cr_assert_str_eq(md5, "7Qdih1MuhjZehB6Sv8UNjA==");
	cr_assert_str_eq(sha, "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069");
	cr_assert_eq(hd_file_digests(sha, md5, fd, name, 10, 7), HD_E_IO);
	cr_assert(strstr(hd_error_text(), "shorter"), "%s", hd_error_text());
	close(fd);
}
