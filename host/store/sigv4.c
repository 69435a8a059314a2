/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/text.h"
#include "host/store/sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"

#define SHA256_BYTES 32
#define MD5_BYTES 16
#define READ_BYTES 262144

static const char *text_of(const char *value)
{
	return value ? value : "";
}

static hd_status crypto_error(const char *what)
{
	return hd_fail(HD_E_FAILED, "OpenSSL: %s is not available", what);
}

void hd_sigv4_timestamp(char out[HD_SIGV4_TIMESTAMP], time_t seconds)
{
	struct tm utc = {0};
	gmtime_r(&seconds, &utc);
	if (strftime(out, HD_SIGV4_TIMESTAMP, "%Y%m%dT%H%M%SZ", &utc) == 0)
		out[0] = 0;
}

/* ---- lists that are sorted: queries and headers ---- */

typedef struct item {
	char *name;
	char *value;
	size_t order; /* where it stood; equal headers keep it */
} item;

static int by_name_and_value(const void *a, const void *b)
{
	const item *x = a, *y = b;
	int names = strcmp(x->name, y->name);
	return names ? names : strcmp(x->value, y->value);
}

static int by_name_and_order(const void *a, const void *b)
{
	const item *x = a, *y = b;
	int names = strcmp(x->name, y->name);
	return names ? names : (x->order > y->order) - (x->order < y->order);
}

static void free_items(item *items, size_t count)
{
	for (size_t i = 0; items && i < count; i++) {
		free(items[i].name);
		free(items[i].value);
	}
	free(items);
}

hd_status hd_sigv4_query(char **out, const hd_pair *pairs, size_t count)
{
	hd_status st;
	item *items = NULL;
	size_t length = 1;
	*out = NULL;
	HD_TRY(hd_alloc(&items, count, sizeof *items));
	for (size_t i = 0; i < count; i++) {
		HD_TRY(hd_percent_encode(&items[i].name, pairs[i].name, false));
		HD_TRY(hd_percent_encode(&items[i].value, text_of(pairs[i].value), false));
		length += strlen(items[i].name) + strlen(items[i].value) + 2;
	}
	qsort(items, count, sizeof *items, by_name_and_value);
	HD_TRY(hd_alloc(out, length, 1));
	char *to = *out;
	for (size_t i = 0; i < count; i++)
		to += sprintf(to, "%s%s=%s", i ? "&" : "", items[i].name, items[i].value);
done:
	free_items(items, count);
	return st;
}

/* Leading and trailing blanks go, runs of them become one. */
static void trim_blanks(char *text)
{
	char *to = text;
	for (const char *c = text; *c; c++) {
		if (*c != ' ' && *c != '\t')
			*to++ = *c;
		else if (to != text && to[-1] != ' ')
			*to++ = ' ';
	}
	if (to != text && to[-1] == ' ')
		to--;
	*to = 0;
}

static hd_status sorted_headers(item **out, const hd_sigv4_request *r)
{
	hd_status st;
	HD_TRY(hd_alloc(out, r->header_count, sizeof **out));
	for (size_t i = 0; i < r->header_count; i++) {
		(*out)[i].order = i;
		HD_TRY(hd_strdup(&(*out)[i].name, r->headers[i].name));
		HD_TRY(hd_strdup(&(*out)[i].value, text_of(r->headers[i].value)));
		for (char *c = (*out)[i].name; *c; c++)
			*c = (char)tolower((unsigned char)*c);
		trim_blanks((*out)[i].value);
	}
	qsort(*out, r->header_count, sizeof **out, by_name_and_order);
done:
	return st;
}

/* Closes a stream that writes to memory; its text is complete or the status says so. */
static hd_status end_text(FILE *text)
{
	bool bad = ferror(text) != 0;
	return fclose(text) != 0 || bad ? hd_fail(HD_E_MEMORY, "out of host memory") : HD_OK;
}

hd_status hd_sigv4_canonical(char **out, char **signed_headers, const hd_sigv4_request *r)
{
	hd_status st;
	item *items = NULL;
	size_t bytes = 0, name_bytes = 0;
	*out = NULL;
	*signed_headers = NULL;
	FILE *text = open_memstream(out, &bytes), *names = open_memstream(signed_headers, &name_bytes);
	if (!text || !names) {
		st = hd_fail(HD_E_MEMORY, "out of host memory");
		goto done;
	}
	HD_TRY(sorted_headers(&items, r));
	fprintf(text, "%s\n%s\n%s\n", r->method, r->path, text_of(r->query));
	for (size_t i = 0; i < r->header_count; i++) {
		if (i > 0 && !strcmp(items[i].name, items[i - 1].name)) {
			fprintf(text, ",%s", items[i].value);
			continue;
		}
		fprintf(text, "%s%s:%s", i ? "\n" : "", items[i].name, items[i].value);
		fprintf(names, "%s%s", i ? ";" : "", items[i].name);
	}
	fprintf(text, "%s\n", r->header_count ? "\n" : "");
	fflush(names);
	fprintf(text, "%s\n%s", text_of(*signed_headers), r->payload_sha256);
done:
	if (text) {
		hd_status ended = end_text(text);
		st = st == HD_OK ? ended : st;
	}
	if (names) {
		hd_status ended = end_text(names);
		st = st == HD_OK ? ended : st;
	}
	free_items(items, r->header_count);
	return st;
}

/* ---- signing ---- */

static hd_status scope(char **out, const hd_sigv4_request *r)
{
	return hd_sprintf(out, "%.8s/%s/%s/aws4_request", r->timestamp, r->region, r->service);
}

hd_status hd_sigv4_string_to_sign(char **out, const hd_sigv4_request *r, const char *canonical)
{
	hd_status st;
	char *where = NULL, hash[HD_SHA256_HEX_BYTES];
	*out = NULL;
	HD_TRY(scope(&where, r));
	HD_TRY(hd_sha256(hash, canonical, strlen(canonical)));
	HD_TRY(hd_sprintf(out, "AWS4-HMAC-SHA256\n%s\n%s\n%s", r->timestamp, where, hash));
done:
	free(where);
	return st;
}

static hd_status hmac(
        unsigned char out[SHA256_BYTES], const void *key, size_t key_bytes, const char *text, size_t bytes)
{
	return HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text, bytes, out, NULL)
	               ? HD_OK
	               : crypto_error("HMAC-SHA256");
}

static hd_status sign(
        char signature[HD_SHA256_HEX_BYTES], const hd_sigv4_request *r, const char *secret, const char *text)
{
	hd_status st;
	char *first = NULL;
	unsigned char key[SHA256_BYTES];
	HD_TRY(hd_sprintf(&first, "AWS4%s", secret));
	HD_TRY(hmac(key, first, strlen(first), r->timestamp, 8));
	const char *steps[] = {r->region, r->service, "aws4_request", text};
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		HD_TRY(hmac(key, key, sizeof key, steps[i], strlen(steps[i])));
	hd_hex(signature, key, sizeof key);
done:
	OPENSSL_cleanse(key, sizeof key);
	if (first)
		OPENSSL_cleanse(first, strlen(first));
	free(first);
	return st;
}

hd_status hd_sigv4_authorization(char **out, const hd_sigv4_request *r, const hd_sigv4_keys *keys)
{
	hd_status st;
	char *canonical = NULL, *names = NULL, *text = NULL, *where = NULL, signature[HD_SHA256_HEX_BYTES];
	*out = NULL;
	HD_TRY(hd_sigv4_canonical(&canonical, &names, r));
	HD_TRY(hd_sigv4_string_to_sign(&text, r, canonical));
	HD_TRY(sign(signature, r, keys->secret_key, text));
	HD_TRY(scope(&where, r));
	HD_TRY(hd_sprintf(out, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%s", keys->access_key,
	        where, names, signature));
done:
	free(where);
	free(text);
	free(names);
	free(canonical);
	return st;
}

/* ---- digests ---- */

hd_status hd_md5_base64(char out[HD_MD5_BASE64], const void *data, size_t bytes)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	if (EVP_Digest(data, bytes, hash, NULL, EVP_md5(), NULL) != 1)
		return crypto_error("MD5");
	EVP_EncodeBlock((unsigned char *)out, hash, MD5_BYTES);
	return HD_OK;
}

static hd_status digest_range(
        EVP_MD_CTX *sha, EVP_MD_CTX *md5, int fd, const char *path, long long offset, long long bytes)
{
	hd_status st;
	char *block = NULL;
	HD_TRY(hd_alloc(&block, READ_BYTES, 1));
	while (bytes > 0) {
		ssize_t got = pread(fd, block, bytes < READ_BYTES ? (size_t)bytes : READ_BYTES, offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			st = hd_fail(HD_E_IO, "%s: cannot read: %s", path,
			        got < 0 ? strerror(errno) : "it became shorter meanwhile");
			goto done;
		}
		if (EVP_DigestUpdate(sha, block, (size_t)got) != 1 || EVP_DigestUpdate(md5, block, (size_t)got) != 1) {
			st = crypto_error("a digest");
			goto done;
		}
		offset += got;
		bytes -= got;
	}
done:
	free(block);
	return st;
}

hd_status hd_file_digests(char sha256[HD_SHA256_HEX_BYTES], char md5[HD_MD5_BASE64], int fd, const char *path,
        long long offset, long long bytes)
{
	hd_status st;
	unsigned char hash[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *sha_state = EVP_MD_CTX_new(), *md5_state = EVP_MD_CTX_new();
	if (!sha_state || !md5_state || EVP_DigestInit_ex(sha_state, EVP_sha256(), NULL) != 1 ||
	        EVP_DigestInit_ex(md5_state, EVP_md5(), NULL) != 1) {
		st = crypto_error("SHA-256 or MD5");
		goto done;
	}
	HD_TRY(digest_range(sha_state, md5_state, fd, path, offset, bytes));
	if (EVP_DigestFinal_ex(sha_state, hash, NULL) != 1) {
		st = crypto_error("SHA-256");
		goto done;
	}
	hd_hex(sha256, hash, SHA256_BYTES);
	if (EVP_DigestFinal_ex(md5_state, hash, NULL) != 1)
		st = crypto_error("MD5");
	else
		EVP_EncodeBlock((unsigned char *)md5, hash, MD5_BYTES);
done:
	EVP_MD_CTX_free(md5_state);
	EVP_MD_CTX_free(sha_state);
	return st;
}
