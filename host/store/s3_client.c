/* SPDX-License-Identifier: Apache-2.0 */
/* The client itself: where its requests go, which redirects are followed, its pool of connections. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/text.h"
#include "host/common/memory.h"
#include "host/store/s3_profile.h"
#include "host/store/s3_request.h"

/* ---- names ---- */

bool hd_s3_is_url(const char *text)
{
	return text && !strncasecmp(text, "s3://", 5);
}

hd_status hd_s3_check_names(const char *bucket, const char *key)
{
	/* what may become part of a host's name; old stores have capitals and '_' */
	size_t length = strlen(bucket);
	if (length < 1 || length > 255 ||
	        strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != length)
		return hd_fail(HD_E_USAGE, "an S3 URL is s3://bucket/key, its bucket of letters, digits, '.' and '-' "
		                           "(keys to sign with do not belong into it)");
	if (key && strlen(key) > HD_S3_KEY_MAX)
		return hd_fail(HD_E_USAGE, "s3://%s/%.40s...: a key has at most %d bytes, this one %zu", bucket, key,
		        HD_S3_KEY_MAX, strlen(key));
	return key && !*key ? hd_fail(HD_E_USAGE, "s3://%s/: the key is missing", bucket) : HD_OK;
}

hd_status hd_s3_url_parse(hd_s3_url *out, const char *text)
{
	hd_status st;
	*out = (hd_s3_url){0};
	if (!hd_s3_is_url(text))
		return hd_fail(HD_E_USAGE, "not an s3://bucket/key URL");
	const char *bucket = text + 5, *slash = strchrnul(bucket, '/');
	HD_TRY(hd_sprintf(&out->bucket, "%.*s", (int)(slash - bucket), bucket));
	HD_TRY(hd_s3_check_names(out->bucket, NULL));
	HD_TRY(hd_strdup(&out->key, *slash ? slash + 1 : ""));
done:
	if (st != HD_OK)
		hd_s3_url_free(out);
	return st;
}

void hd_s3_url_free(hd_s3_url *url)
{
	free(url->bucket);
	free(url->key);
	*url = (hd_s3_url){0};
}

hd_status hd_s3_say_where(hd_status status, const hd_s3_call *call)
{
	if (status == HD_OK)
		return status;
	return hd_context(status, "s3://%s%s%s", call->bucket, call->key ? "/" : "", call->key ? call->key : "");
}

/* ---- a URL in its parts ---- */

typedef struct parts {
	char *scheme, *name, *port, *path, *query, *user; /* query NULL where there is none */
	char *host;                                       /* name, with the port where it is not the scheme's own */
} parts;

static void free_parts(parts *p)
{
	curl_free(p->scheme);
	curl_free(p->name);
	curl_free(p->port);
	curl_free(p->path);
	curl_free(p->query);
	curl_free(p->user);
	free(p->host);
	*p = (parts){0};
}

/* base (or NULL) is what a relative text is relative to. */
static hd_status split_url(parts *out, const char *base, const char *text)
{
	hd_status st = HD_OK;
	*out = (parts){0};
	CURLU *url = curl_url();
	if (!url) {
		hd_fail(HD_E_MEMORY, "out of host memory");
		return HD_E_MEMORY;
	}
	CURLUcode bad = base ? curl_url_set(url, CURLUPART_URL, base, CURLU_PATH_AS_IS) : CURLUE_OK;
	bad = bad ? bad : curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS);
	bad = bad ? bad : curl_url_get(url, CURLUPART_SCHEME, &out->scheme, 0);
	bad = bad ? bad : curl_url_get(url, CURLUPART_HOST, &out->name, 0);
	bad = bad ? bad : curl_url_get(url, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT);
	bad = bad ? bad : curl_url_get(url, CURLUPART_PATH, &out->path, 0);
	if (bad || (strcmp(out->scheme, "http") != 0 && strcmp(out->scheme, "https") != 0)) {
		hd_fail(HD_E_DATA, "not an http URL");
		st = HD_E_DATA;
		goto done;
	}
	curl_url_get(url, CURLUPART_QUERY, &out->query, 0);
	curl_url_get(url, CURLUPART_USER, &out->user, 0);
	bool usual = !strcmp(out->port, strcmp(out->scheme, "https") ? "80" : "443");
	HD_TRY(hd_sprintf(&out->host, "%s%s%s", out->name, usual ? "" : ":", usual ? "" : out->port));
done:
	curl_url_cleanup(url);
	if (st != HD_OK)
		free_parts(out);
	return st;
}

/* ---- where requests go ---- */

static hd_status amazon_host(char **out, const char *region)
{
	return hd_sprintf(out, "s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) ? "" : ".cn");
}

static hd_status place_in(hd_s3_target *out, const hd_s3 *s, const hd_s3_call *call, const char *host)
{
	hd_status st;
	char *key = NULL;
	bool inside = s->config.style == HD_S3_STYLE_VIRTUAL ||
	              (s->config.style == HD_S3_STYLE_AUTO && hd_s3_host_is_amazon(host) && !strchr(call->bucket, '.'));
	HD_TRY(hd_percent_encode(&key, call->key ? call->key : "", true));
	if (inside) {
		HD_TRY(hd_sprintf(&out->host, "%s.%s", call->bucket, host));
		HD_TRY(hd_sprintf(&out->path, "%s/%s", s->prefix, key));
	} else {
		HD_TRY(hd_strdup(&out->host, host));
		HD_TRY(hd_sprintf(&out->path, "%s/%s%s%s", s->prefix, call->bucket, call->key ? "/" : "", key));
	}
done:
	free(key);
	return st;
}

hd_status hd_s3_aim(hd_s3_target *out, hd_s3 *s, const hd_s3_call *call)
{
	hd_status st;
	char *host = NULL;
	*out = (hd_s3_target){0};
	pthread_mutex_lock(&s->mutex);
	memcpy(out->region, s->region, sizeof out->region);
	pthread_mutex_unlock(&s->mutex);
	if (!s->host)
		HD_TRY(amazon_host(&host, out->region));
	HD_TRY(hd_strdup(&out->scheme, s->scheme ? s->scheme : "https"));
	HD_TRY(place_in(out, s, call, s->host ? s->host : host));
	HD_TRY(hd_sigv4_query(&out->query, call->query, call->query_count));
done:
	free(host);
	return st;
}

void hd_s3_target_free(hd_s3_target *t)
{
	free(t->scheme);
	free(t->host);
	free(t->path);
	free(t->query);
	*t = (hd_s3_target){0};
}

/* ---- redirects ---- */

static const char *region_of(const hd_s3_answer *a)
{
	const char *region = a->region[0] ? a->region : a->fault.region;
	return hd_s3_region_is_sound(region) ? region : NULL;
}

static bool is_other_region(const hd_s3_target *t, const hd_s3_answer *a)
{
	const char *region = region_of(a);
	bool may = a->status == 301 || a->status == 307 || a->status == 400;
	return may && region && strcmp(region, t->region) != 0;
}

bool hd_s3_is_moved(const hd_s3_target *t, const hd_s3_answer *a)
{
	bool redirect =
	        a->status == 301 || a->status == 302 || a->status == 303 || a->status == 307 || a->status == 308;
	return redirect || is_other_region(t, a);
}

static bool is_address(const char *name)
{
	unsigned char bytes[16];
	return inet_pton(AF_INET, name, bytes) == 1 || name[0] == '[';
}

static bool is_under(const char *name, const char *host)
{
	size_t n = strlen(name), m = strlen(host);
	return n > m && name[n - m - 1] == '.' && !strcasecmp(name + n - m, host);
}

/* Who may get signatures that were made for `from`: the same host and port, names under it, Amazon's among each other.
 */
static bool may_follow(const parts *from, const parts *to)
{
	bool secure = !strcmp(to->scheme, "https");
	if (to->user || (!secure && !strcmp(from->scheme, "https")))
		return false;
	if (hd_s3_host_is_amazon(from->name) && hd_s3_host_is_amazon(to->name))
		return secure && !strcmp(to->port, "443");
	bool port = !strcmp(from->port, to->port) || (!strcmp(from->port, "80") && !strcmp(to->port, "443"));
	bool name = !strcasecmp(from->name, to->name) ||
	            (!is_address(from->name) && strchr(from->name, '.') && is_under(to->name, from->name));
	return port && name;
}

/* A query as it came, encoded and sorted as it is signed. */
static hd_status requery(char **out, const char *query)
{
	hd_status st;
	char *copy = NULL;
	hd_pair *pairs = NULL;
	size_t count = 0, capacity = 0;
	HD_TRY(hd_strdup(&copy, query));
	for (char *rest = copy, *word; (word = strsep(&rest, "&"));) {
		if (!*word)
			continue;
		HD_TRY(hd_grow(&pairs, &capacity, count + 1, sizeof *pairs));
		char *value = strchr(word, '=');
		if (value)
			*value++ = 0;
		hd_pair *pair = &pairs[count++];
		pair->name = curl_easy_unescape(NULL, word, 0, NULL);
		pair->value = curl_easy_unescape(NULL, value ? value : "", 0, NULL);
		if (!pair->name || !pair->value) {
			st = hd_fail(HD_E_MEMORY, "out of host memory");
			goto done;
		}
	}
	HD_TRY(hd_sigv4_query(out, pairs, count));
done:
	for (size_t i = 0; i < count; i++) {
		curl_free((char *)pairs[i].name);
		curl_free((char *)pairs[i].value);
	}
	free(pairs);
	free(copy);
	return st;
}

static hd_status turn_to(hd_s3_target *t, const parts *to)
{
	hd_status st;
	hd_s3_target next = {0};
	memcpy(next.region, t->region, sizeof next.region);
	HD_TRY(hd_strdup(&next.scheme, to->scheme));
	HD_TRY(hd_strdup(&next.host, to->host));
	HD_TRY(hd_strdup(&next.path, to->path));
	if (to->query)
		HD_TRY(requery(&next.query, to->query));
	else
		HD_TRY(hd_strdup(&next.query, t->query));
	hd_s3_target_free(t);
	*t = next;
	next = (hd_s3_target){0};
done:
	hd_s3_target_free(&next);
	return st;
}

static hd_status follow_location(hd_s3_target *t, const char *location)
{
	hd_status st;
	char *here = NULL;
	parts from = {0}, to = {0};
	HD_TRY(hd_sprintf(&here, "%s://%s%s", t->scheme, t->host, t->path));
	HD_TRY(split_url(&from, NULL, here));
	if (split_url(&to, here, location) != HD_OK) {
		st = hd_fail(HD_E_DATA, "%s redirects to what is no http URL", t->host);
		goto done;
	}
	if (!may_follow(&from, &to)) {
		st = hd_fail(HD_E_FAILED,
		        "%s://%s redirects to %s://%s, which is not followed: what is signed for one host does not go "
		        "to another; if that one is the store, make it the endpoint",
		        t->scheme, t->host, to.scheme, to.host);
		goto done;
	}
	HD_TRY(turn_to(t, &to));
done:
	free_parts(&to);
	free_parts(&from);
	free(here);
	return st;
}

hd_status hd_s3_follow(hd_s3_target *t, hd_s3 *s, const hd_s3_call *call, const hd_s3_answer *a)
{
	hd_status st = HD_OK;
	if (is_other_region(t, a)) {
		pthread_mutex_lock(&s->mutex);
		snprintf(s->region, sizeof s->region, "%s", region_of(a));
		pthread_mutex_unlock(&s->mutex);
		if (!s->host) {
			hd_s3_target_free(t);
			return hd_s3_aim(t, s, call);
		}
		snprintf(t->region, sizeof t->region, "%s", region_of(a));
		if (!a->location[0])
			return HD_OK;
	}
	if (!a->location[0])
		st = hd_fail(HD_E_FAILED, "%s answers %d (%s) without saying where to; check endpoint and region",
		        t->host, a->status, a->has_fault ? a->fault.code : "moved");
	else
		st = follow_location(t, a->location);
	return st;
}

/* ---- connections ---- */

hd_status hd_s3_line_take(hd_s3_line **out, hd_s3 *s)
{
	pthread_mutex_lock(&s->mutex);
	*out = s->idle;
	if (*out)
		s->idle = (*out)->next;
	pthread_mutex_unlock(&s->mutex);
	if (*out)
		return HD_OK;
	hd_status st = hd_alloc(out, 1, sizeof **out);
	if (st != HD_OK)
		return st;
	st = hd_curl_open(&(*out)->curl);
	if (st == HD_OK)
		return HD_OK;
	free(*out);
	*out = NULL;
	return st;
}

void hd_s3_line_give(hd_s3 *s, hd_s3_line *line)
{
	if (!line)
		return;
	/* what was set for this request must not reach into the next one; connections stay open */
	curl_easy_reset(line->curl);
	pthread_mutex_lock(&s->mutex);
	line->next = s->idle;
	s->idle = line;
	pthread_mutex_unlock(&s->mutex);
}

hd_status hd_s3_open(hd_s3 **out, hd_s3_config *config)
{
	hd_status st;
	parts p = {0};
	char *host = NULL;
	hd_s3_config taken = *config;
	*config = (hd_s3_config){0};
	hd_s3_xml_begin();
	st = hd_alloc(out, 1, sizeof **out);
	if (st != HD_OK) {
		hd_s3_config_free(&taken);
		return st;
	}
	hd_s3 *s = *out;
	s->config = taken;
	pthread_mutex_init(&s->mutex, NULL);
	snprintf(s->region, sizeof s->region, "%s", taken.region);
	if (taken.endpoint) {
		HD_TRY(split_url(&p, NULL, taken.endpoint));
		HD_TRY(hd_strdup(&s->scheme, p.scheme));
		HD_TRY(hd_strdup(&s->host, p.host));
		HD_TRY(hd_strdup(&s->prefix, strcmp(p.path, "/") ? p.path : ""));
		HD_TRY(hd_strdup(&s->endpoint, taken.endpoint));
	} else {
		HD_TRY(hd_strdup(&s->prefix, ""));
		HD_TRY(amazon_host(&host, taken.region));
		HD_TRY(hd_sprintf(&s->endpoint, "https://%s", host));
	}
done:
	free(host);
	free_parts(&p);
	if (st != HD_OK) {
		hd_s3_close(s);
		*out = NULL;
	}
	return st;
}

void hd_s3_close(hd_s3 *s)
{
	hd_curl_quiet quiet;
	if (!s)
		return;
	hd_curl_quiet_begin(&quiet); /* closing says good-bye to the other side */
	while (s->idle) {
		hd_s3_line *line = s->idle;
		s->idle = line->next;
		curl_easy_cleanup(line->curl);
		free(line);
	}
	hd_curl_quiet_end(&quiet);
	pthread_mutex_destroy(&s->mutex);
	free(s->endpoint);
	free(s->scheme);
	free(s->host);
	free(s->prefix);
	hd_s3_config_free(&s->config);
	free(s);
}

const char *hd_s3_endpoint(const hd_s3 *s)
{
	return s->endpoint;
}
