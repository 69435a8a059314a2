/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions in an object store. Every object is put with the condition that none is there, but for `latest`; one that is
 * there is read and compared, so that a call that was cut off is completed by the next.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/publish/place.h"

#define TEXT_BYTES ((int64_t)4 << 20)
#define READ_ATTEMPTS 5 /* at a text that others replace: `latest`, a claim */
#define CHUNK_BYTES ((size_t)8 << 20)

static hd_status key_of(char **out, const hd_place *p, const char *version, const char *name)
{
	return hd_sprintf(out, "%s%s%s%s", p->prefix, version, version[0] ? "/" : "", name);
}

/* ---- reading ---- */

typedef struct listing {
	hd_place_list *out;
	size_t prefix;
} listing;

static hd_status note(void *context, const hd_s3_listed *item)
{
	listing *l = context;
	return strlen(item->key) > l->prefix ? hd_place_note(l->out, item->key + l->prefix, item->bytes) : HD_OK;
}

static hd_status list(hd_place_list *out, hd_place *p)
{
	listing l = {out, strlen(p->prefix)};
	hd_status st = hd_s3_list(p->s3, p->bucket, p->prefix[0] ? p->prefix : NULL, NULL, 0, note, &l);
	return st == HD_E_DATA ? hd_context(st, "the bucket has to be there before; --models_uri names another") : st;
}

/* Whether there is such an object; HD_E_DATA from the client is that there is none, for the bucket has been listed. */
static hd_status look(bool *there, hd_s3_object *object, hd_place *p, const char *key)
{
	hd_status st = hd_s3_head(p->s3, object, p->bucket, key);
	*there = st == HD_OK;
	return st == HD_E_DATA ? HD_OK : st;
}

/* A text in one piece; *changed: it was replaced between the two requests. */
static hd_status read_once(char **out, bool *changed, hd_place *p, const char *key)
{
	hd_status st;
	bool there;
	char *text = NULL;
	size_t got = 0;
	hd_s3_object object, again;
	*out = NULL;
	*changed = false;
	HD_TRY(look(&there, &object, p, key));
	if (!there)
		goto done;
	if (object.bytes > TEXT_BYTES) {
		st = hd_fail(HD_E_DATA, "s3://%s/%s: %lld bytes are none of this program's texts", p->bucket, key,
		        (long long)object.bytes);
		goto done;
	}
	HD_TRY(hd_alloc(&text, (size_t)object.bytes + 1, 1));
	if (object.bytes)
		st = hd_s3_get_range(p->s3, text, &got, &again, p->bucket, key, 0, (size_t)object.bytes, object.etag);
	*changed = st == HD_E_DATA;
	HD_TRY(st);
	text[got] = 0;
	*out = text;
	text = NULL;
done:
	free(text);
	return st;
}

static hd_status read_key(char **out, hd_place *p, const char *key)
{
	bool changed = true;
	hd_status st = HD_OK;
	for (int attempt = 0; changed && attempt < READ_ATTEMPTS; attempt++)
		st = read_once(out, &changed, p, key);
	return st;
}

static hd_status read_name(char **out, hd_place *p, const char *name)
{
	char *key = NULL;
	*out = NULL;
	hd_status st = key_of(&key, p, "", name);
	if (st == HD_OK)
		st = read_key(out, p, key);
	free(key);
	return st;
}

static hd_status latest(char **out, hd_place *p)
{
	return read_name(out, p, HD_PLACE_LATEST);
}

/* SHA-256 of an object, read in pieces of one version of it. */
static hd_status object_sha256(char hex[HD_SHA256_HEX_BYTES], hd_place *p, const char *key, hd_s3_object *object)
{
	hd_status st;
	unsigned char *chunk = NULL, hash[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	char etag[HD_S3_ETAG];
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	snprintf(etag, sizeof etag, "%s", object->etag);
	HD_TRY(hd_alloc(&chunk, CHUNK_BYTES, 1));
	bool good = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
	for (int64_t at = 0, end = object->bytes; good && at < end;) {
		size_t got = 0;
		HD_TRY(hd_s3_get_range(p->s3, chunk, &got, object, p->bucket, key, at, CHUNK_BYTES, etag));
		good = got && EVP_DigestUpdate(digest, chunk, got);
		at += (int64_t)got;
	}
	if (!good || !EVP_DigestFinal_ex(digest, hash, &size))
		st = hd_fail(HD_E_FAILED, "s3://%s/%s: cannot be hashed", p->bucket, key);
	else
		hd_hex(hex, hash, size);
done:
	EVP_MD_CTX_free(digest);
	free(chunk);
	return st;
}

/* ---- writing ---- */

/* What a put that ended with `st` means: with an object of the same content there it is done, with another *taken. */
static hd_status accept_same(bool *taken, hd_status st, hd_place *p, const char *key, const char *sha256)
{
	bool there;
	hd_s3_object object;
	char its[HD_SHA256_HEX_BYTES] = "", error[1024];
	if (st != HD_E_DATA)
		return st;
	snprintf(error, sizeof error, "%s", hd_error_text());
	hd_status looked = look(&there, &object, p, key);
	if (looked == HD_OK && !there)
		return hd_fail(st, "%s", error);
	if (looked == HD_OK)
		looked = object_sha256(its, p, key, &object);
	*taken = looked == HD_OK && strcmp(its, sha256) != 0;
	return looked;
}

static hd_status put_text(hd_place *p, const char *key, const char *text, const char *content_type)
{
	hd_s3_object object;
	const hd_s3_put_options once = {.content_type = content_type, .no_overwrite = true};
	return hd_s3_put_bytes(p->s3, &object, p->bucket, key, text, strlen(text), &once);
}

/* Takes the claim away, where it is this model's (text) or whosever (NULL). */
static hd_status drop_claim(hd_place *p, const char *version, const char *text)
{
	hd_status st;
	char *claim = NULL, *its = NULL;
	HD_TRY(key_of(&claim, p, version, HD_PUBLISH_CLAIM));
	if (text)
		HD_TRY(read_key(&its, p, claim));
	if (!text || (its && !strcmp(its, text)))
		HD_TRY(hd_s3_delete(p->s3, p->bucket, claim));
done:
	free(its);
	free(claim);
	return st;
}

static hd_status put(bool *taken, hd_place *p, const char *version, const hd_package_file *file)
{
	hd_status st;
	char *key = NULL;
	hd_s3_object object;
	const hd_s3_put_options once = {.content_type = file->content_type, .no_overwrite = true};
	*taken = false;
	HD_TRY(key_of(&key, p, version, file->name));
	st = file->path ? hd_s3_put_file(p->s3, &object, p->bucket, key, file->path, &once)
	                : put_text(p, key, file->text, file->content_type);
	HD_TRY(accept_same(taken, st, p, key, file->sha256));
	if (*taken)
		HD_TRY(drop_claim(p, version, p->claim));
done:
	free(key);
	return st;
}

/* A text that is put once: *taken where another text is there. One that was there and has gone is put again. */
static hd_status put_once(bool *taken, hd_place *p, const char *key, const char *text)
{
	hd_status st = HD_E_DATA;
	for (int attempt = 0; st == HD_E_DATA && attempt < READ_ATTEMPTS; attempt++) {
		char *there = NULL, error[1024];
		st = put_text(p, key, text, "application/json");
		if (st != HD_E_DATA)
			break;
		snprintf(error, sizeof error, "%s", hd_error_text());
		st = read_key(&there, p, key);
		if (st == HD_OK && there)
			*taken = strcmp(there, text) != 0;
		else if (st == HD_OK)
			st = hd_fail(HD_E_DATA, "%s", error);
		free(there);
	}
	return st;
}

/* Whether a claim or manifest is another's by now. */
static hd_status check_text(bool *taken, hd_place *p, const char *key, const char *manifest)
{
	char *text = NULL;
	hd_status st = read_key(&text, p, key);
	*taken = text && strcmp(text, manifest) != 0;
	free(text);
	return st;
}

/*
 * The manifest is looked for behind the claim: whoever finished the version in between has written the one before he
 * took the other away.
 */
static hd_status begin(bool *taken, hd_place *p, const char *version, const char *manifest)
{
	hd_status st;
	char *claim = NULL, *complete = NULL;
	*taken = false;
	p->claim = manifest;
	HD_TRY(key_of(&claim, p, version, HD_PUBLISH_CLAIM));
	HD_TRY(key_of(&complete, p, version, HD_PUBLISH_MANIFEST));
	HD_TRY(put_once(taken, p, claim, manifest));
	if (!*taken)
		HD_TRY(check_text(taken, p, claim, manifest));
	if (*taken)
		goto done;
	HD_TRY(check_text(taken, p, complete, manifest));
	if (*taken)
		HD_TRY(drop_claim(p, version, manifest));
done:
	free(complete);
	free(claim);
	return st;
}

static hd_status tidy(hd_place *p, const char *version)
{
	return drop_claim(p, version, NULL);
}

static hd_status finish(bool *taken, hd_place *p, const char *version, const char *manifest)
{
	hd_status st;
	char *claim = NULL, *complete = NULL;
	HD_TRY(key_of(&claim, p, version, HD_PUBLISH_CLAIM));
	HD_TRY(key_of(&complete, p, version, HD_PUBLISH_MANIFEST));
	HD_TRY(check_text(taken, p, claim, manifest));
	if (!*taken)
		HD_TRY(put_once(taken, p, complete, manifest));
	if (!*taken)
		HD_TRY(tidy(p, version));
done:
	free(complete);
	free(claim);
	return st;
}

static hd_status move_latest(hd_place *p, const char *version)
{
	hd_status st;
	char *key = NULL, text[HD_VERSION_BYTES + 1];
	hd_s3_object object;
	snprintf(text, sizeof text, "%s\n", version);
	HD_TRY(key_of(&key, p, "", HD_PLACE_LATEST));
	st = hd_s3_put_bytes(p->s3, &object, p->bucket, key, text, strlen(text),
	        &(hd_s3_put_options){.content_type = "text/plain; charset=utf-8"});
done:
	free(key);
	return st;
}

const hd_place_kind hd_place_s3 = {.list = list,
        .read = read_name,
        .latest = latest,
        .move_latest = move_latest,
        .begin = begin,
        .put = put,
        .finish = finish,
        .tidy = tidy};
