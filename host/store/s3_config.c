/* SPDX-License-Identifier: Apache-2.0 */
#include "host/store/s3_config.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/common/text.h"
#include "host/store/s3_profile.h"

/* What is looked at, in one place. */
typedef struct sources {
	const hd_s3_settings *flags, *file;
	hd_ini credentials, config;
	const char *profile;
	bool profile_wanted;  /* named by someone: it has to exist */
	bool profile_by_flag; /* and goes before the environment */
	char config_section[300];
} sources;

static const char *environment(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static const char *given(const char *text)
{
	return text && *text ? text : NULL;
}

/* The first that is set; ends with a sentinel, for NULL is "not set". */
static const char END[] = "";
static const char *first_of(const char *const *candidates)
{
	while (!*candidates)
		candidates++;
	return *candidates != END ? *candidates : NULL;
}
#define FIRST(...) first_of((const char *const[]){__VA_ARGS__, END})

bool hd_s3_region_is_sound(const char *region)
{
	size_t length = strlen(region);
	return length > 0 && length <= 64 &&
	       strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == length;
}

bool hd_s3_host_is_amazon(const char *host)
{
	return !strcasecmp(host, "amazonaws.com") || hd_ends_with(host, ".amazonaws.com") ||
	       !strcasecmp(host, "amazonaws.com.cn") || hd_ends_with(host, ".amazonaws.com.cn");
}

/* ---- profiles ---- */

static hd_status read_aws_file(hd_ini *out, const char *variable, const char *name)
{
	hd_status st = HD_OK;
	char *path = NULL;
	const char *set = environment(variable), *home = environment("HOME");
	if (set && set[0] == '~' && set[1] == '/')
		st = hd_sprintf(&path, "%s%s", home ? home : "", set + 1);
	else if (set)
		st = hd_strdup(&path, set);
	else
		st = hd_sprintf(&path, "%s/.aws/%s", home ? home : "", name);
	if (st == HD_OK)
		st = hd_ini_read(out, path);
	free(path);
	return st;
}

static hd_status open_sources(sources *s, const hd_s3_settings *flags, const hd_s3_settings *file)
{
	hd_status st;
	*s = (sources){.flags = flags, .file = file};
	s->profile_by_flag = given(flags->profile) != NULL;
	s->profile = FIRST(given(flags->profile), environment("AWS_PROFILE"), given(file->profile));
	s->profile_wanted = s->profile != NULL;
	if (!s->profile)
		s->profile = "default";
	snprintf(s->config_section, sizeof s->config_section, "%s%s", strcmp(s->profile, "default") ? "profile " : "",
	        s->profile);
	HD_TRY(read_aws_file(&s->credentials, "AWS_SHARED_CREDENTIALS_FILE", "credentials"));
	HD_TRY(read_aws_file(&s->config, "AWS_CONFIG_FILE", "config"));
	if (s->profile_wanted && !hd_ini_has(&s->credentials, s->profile) && !hd_ini_has(&s->config, s->config_section))
		st = hd_fail(HD_E_USAGE, "S3 profile '%s' is neither in %s%s nor in %s%s", s->profile,
		        s->credentials.path, s->credentials.exists ? "" : " (no such file)", s->config.path,
		        s->config.exists ? "" : " (no such file)");
done:
	return st;
}

static const char *profile_value(const sources *s, const char *key)
{
	const char *value = hd_ini_get(&s->credentials, s->profile, key);
	return value ? value : hd_ini_get(&s->config, s->config_section, key);
}

static const char *profile_endpoint(const sources *s)
{
	char section[300];
	const char *services = hd_ini_get(&s->config, s->config_section, "services");
	const char *url = NULL;
	if (services) {
		snprintf(section, sizeof section, "services %s", services);
		url = hd_ini_get(&s->config, section, "s3.endpoint_url");
	}
	return FIRST(url, profile_value(s, "s3.endpoint_url"), profile_value(s, "endpoint_url"));
}

/* ---- endpoint ---- */

/* The text of an endpoint may hold a password, so that it is not shown before it is known to hold none. */
static hd_status check_endpoint(const char *text)
{
	hd_status st = HD_OK;
	char *scheme = NULL, *query = NULL, *fragment = NULL;
	CURLU *url = curl_url();
	if (!url)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	if (strchr(text, '@')) {
		st = hd_fail(HD_E_USAGE, "the S3 endpoint has a user or password ('@'); keys go into the environment "
		                         "or ~/.aws");
		goto done;
	}
	CURLUcode parsed = curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
	if (parsed == CURLUE_OK)
		parsed = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
	if (parsed != CURLUE_OK || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
		st = hd_fail(
		        HD_E_USAGE, "S3 endpoint '%s': is no URL like http://127.0.0.1:9000 or https://host", text);
		goto done;
	}
	if (curl_url_get(url, CURLUPART_QUERY, &query, 0) == CURLUE_OK ||
	        curl_url_get(url, CURLUPART_FRAGMENT, &fragment, 0) == CURLUE_OK)
		st = hd_fail(HD_E_USAGE, "S3 endpoint '%s': has a '?' or '#'", text);
done:
	curl_free(scheme);
	curl_free(query);
	curl_free(fragment);
	curl_url_cleanup(url);
	return st;
}

static hd_status find_endpoint(hd_s3_config *out, const sources *s)
{
	hd_status st = HD_OK;
	const char *ignore = environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
	bool aws_too = !ignore || strcasecmp(ignore, "true") != 0;
	const char *found = FIRST(given(s->flags->endpoint), aws_too ? environment("AWS_ENDPOINT_URL_S3") : NULL,
	        aws_too ? environment("AWS_ENDPOINT_URL") : NULL, environment("MLFLOW_S3_ENDPOINT_URL"),
	        given(s->file->endpoint), aws_too ? profile_endpoint(s) : NULL);
	if (!found)
		return HD_OK;
	HD_TRY(check_endpoint(found));
	HD_TRY(hd_strdup(&out->endpoint, found));
	for (size_t n = strlen(out->endpoint); n > 0 && out->endpoint[n - 1] == '/'; n--)
		out->endpoint[n - 1] = 0;
done:
	return st;
}

static hd_status find_region(hd_s3_config *out, const sources *s)
{
	const char *found = FIRST(given(s->flags->region), environment("AWS_REGION"), environment("AWS_DEFAULT_REGION"),
	        given(s->file->region), profile_value(s, "region"), "us-east-1");
	if (!hd_s3_region_is_sound(found))
		return hd_fail(HD_E_USAGE, "S3 region '%s': may have letters, digits and '-'", found);
	return hd_strdup(&out->region, found);
}

static hd_status find_style(hd_s3_config *out, const sources *s)
{
	const char *found =
	        FIRST(given(s->flags->style), given(s->file->style), profile_value(s, "s3.addressing_style"), "auto");
	if (!strcmp(found, "auto"))
		out->style = HD_S3_STYLE_AUTO;
	else if (!strcmp(found, "path"))
		out->style = HD_S3_STYLE_PATH;
	else if (!strcmp(found, "virtual"))
		out->style = HD_S3_STYLE_VIRTUAL;
	else
		return hd_fail(HD_E_USAGE, "S3 addressing style '%s': choose auto, path or virtual", found);
	return HD_OK;
}

/* ---- keys ---- */

static hd_status take_keys(hd_s3_config *out, const char *access, const char *secret, const char *token)
{
	hd_status st;
	HD_TRY(hd_strdup(&out->access_key, access));
	HD_TRY(hd_strdup(&out->secret_key, secret));
	HD_TRY(hd_strdup(&out->session_token, token));
done:
	return st;
}

/* Takes a pair from one place. *found says whether there is one; half a pair is an error that names the place. */
static hd_status try_keys(
        hd_s3_config *out, bool *found, const char *access, const char *secret, const char *token, const char *place)
{
	*found = access && secret;
	if (!access && !secret)
		return HD_OK;
	if (!*found)
		return hd_fail(HD_E_USAGE, "S3 keys in %s: there is %s without %s", place,
		        access ? "an access key" : "a secret key", access ? "its secret key" : "its access key");
	hd_status st = take_keys(out, access, secret, token);
	return st == HD_OK ? hd_strdup(&out->keys_from, place) : st;
}

static hd_status try_settings(hd_s3_config *out, bool *found, const hd_s3_settings *s, const char *place)
{
	return try_keys(out, found, given(s->access_key), given(s->secret_key), given(s->session_token), place);
}

static hd_status try_profile(hd_s3_config *out, bool *found, const sources *s)
{
	hd_status st;
	char *place = NULL;
	const hd_ini *ini = &s->credentials;
	const char *section = s->profile;
	if (!hd_ini_get(ini, section, "aws_access_key_id") && !hd_ini_get(ini, section, "aws_secret_access_key")) {
		ini = &s->config;
		section = s->config_section;
	}
	HD_TRY(hd_sprintf(&place, "profile '%s' of %s", s->profile, ini->path));
	HD_TRY(try_keys(out, found, hd_ini_get(ini, section, "aws_access_key_id"),
	        hd_ini_get(ini, section, "aws_secret_access_key"), hd_ini_get(ini, section, "aws_session_token"),
	        place));
done:
	free(place);
	return st;
}

static hd_status no_keys(const sources *s)
{
	static const char *const elsewhere[] = {
	        "credential_process", "sso_session", "sso_start_url", "role_arn", "web_identity_token_file"};
	for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
		if (profile_value(s, elsewhere[i]))
			return hd_fail(HD_E_USAGE,
			        "S3 profile '%s' gets its keys through %s, which is not supported; put them into the "
			        "environment: eval \"$(aws configure export-credentials --profile %s --format env)\"",
			        s->profile, elsewhere[i], s->profile);
	}
	return hd_fail(HD_E_USAGE,
	        "no S3 keys: looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the settings, and profile '%s' in "
	        "%s (%s) and %s (%s); a store that takes requests without keys has to be asked for as anonymous",
	        s->profile, s->credentials.path,
	        !s->credentials.exists                    ? "no such file"
	        : hd_ini_has(&s->credentials, s->profile) ? "has no keys in it"
	                                                  : "has no such profile",
	        s->config.path,
	        !s->config.exists                           ? "no such file"
	        : hd_ini_has(&s->config, s->config_section) ? "has no keys in it"
	                                                    : "has no such profile");
}

static hd_status find_keys(hd_s3_config *out, const sources *s)
{
	hd_status st = HD_OK;
	bool found = false;
	out->anonymous = s->flags->anonymous || s->file->anonymous;
	if (out->anonymous)
		return hd_strdup(&out->keys_from, "nowhere (anonymous)");
	HD_TRY(try_settings(out, &found, s->flags, "the command line"));
	if (!found && s->profile_by_flag)
		HD_TRY(try_profile(out, &found, s));
	else if (!found)
		HD_TRY(try_keys(out, &found, environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
		        environment("AWS_SESSION_TOKEN"), "the environment"));
	if (!found && !s->profile_by_flag)
		HD_TRY(try_settings(out, &found, s->file, "the settings"));
	if (!found && !s->profile_by_flag)
		HD_TRY(try_profile(out, &found, s));
	if (!found)
		st = no_keys(s);
done:
	return st;
}

/* ---- all of it ---- */

static double positive(double flag, double file, double otherwise)
{
	return flag > 0 ? flag : file > 0 ? file : otherwise;
}

hd_status hd_s3_config_resolve(hd_s3_config *out, const hd_s3_settings *flags, const hd_s3_settings *file)
{
	static const hd_s3_settings nothing = {0};
	hd_status st;
	sources s = {0};
	flags = flags ? flags : &nothing;
	file = file ? file : &nothing;
	*out = (hd_s3_config){.single_bytes = HD_S3_SINGLE_BYTES, .part_bytes = HD_S3_PART_BYTES};
	HD_TRY(open_sources(&s, flags, file));
	HD_TRY(find_endpoint(out, &s));
	HD_TRY(find_region(out, &s));
	HD_TRY(find_style(out, &s));
	HD_TRY(find_keys(out, &s));
	HD_TRY(hd_strdup(&out->ca_bundle,
	        FIRST(given(flags->ca_bundle), environment("AWS_CA_BUNDLE"), environment("CURL_CA_BUNDLE"),
	                given(file->ca_bundle), profile_value(&s, "ca_bundle"))));
	out->attempts = (int)positive(flags->attempts, file->attempts, HD_S3_ATTEMPTS);
	out->retry_s = positive(flags->retry_s, file->retry_s, HD_S3_RETRY_S);
	out->connect_s = positive(flags->connect_s, file->connect_s, HD_S3_CONNECT_S);
	out->stall_s = positive(flags->stall_s, file->stall_s, HD_S3_STALL_S);
done:
	hd_ini_free(&s.credentials);
	hd_ini_free(&s.config);
	if (st != HD_OK)
		hd_s3_config_free(out);
	return st;
}

void hd_s3_config_free(hd_s3_config *c)
{
	free(c->endpoint);
	free(c->region);
	hd_free_secret(c->access_key);
	hd_free_secret(c->secret_key);
	hd_free_secret(c->session_token);
	free(c->keys_from);
	free(c->ca_bundle);
	*c = (hd_s3_config){0};
}
