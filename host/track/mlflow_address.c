/* SPDX-License-Identifier: Apache-2.0 */
#include "host/track/mlflow_address.h"

#include <curl/curl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/text.h"
#include "host/store/s3_profile.h"
#include "host/track/mlflow_client.h"

#define TIMEOUT_S 120.0
#define TIMEOUT_MOST_S 86400.0

static const char *environment(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static bool is_http(const char *uri)
{
	return !strncasecmp(uri, "http://", 7) || !strncasecmp(uri, "https://", 8);
}

/* ---- which server is meant ---- */

/* "postgresql://user:***@host/db" of a URL with a password. */
static hd_status mask_password(char **out, const char *uri)
{
	hd_status st;
	char *bare = NULL;
	HD_TRY(hd_redact(&bare, uri));
	const char *at = strchr(bare, '@');
	if (at && strcmp(bare, uri) != 0)
		HD_TRY(hd_sprintf(out, "%.*s:***%s", (int)(at - bare), bare, at));
	else
		HD_TRY(hd_strdup(out, bare));
done:
	free(bare);
	return st;
}

static hd_status no_server(const char *uri)
{
	hd_status st;
	char *shown = NULL;
	HD_TRY(mask_password(&shown, uri));
	const char *scheme = hd_behind_scheme(uri);
	if (hd_is_database_url(uri))
		st = hd_fail(HD_E_USAGE,
		        "tracking_uri: %s is a database; start a server on it: mlflow server --backend-store-uri %s "
		        "--artifacts-destination s3://BUCKET/PREFIX --port 5000; then give --tracking_uri "
		        "http://127.0.0.1:5000",
		        shown, shown);
	else if (!strncmp(uri, "sqlite:", 7) || !strncmp(uri, "mysql", 5) || !strncmp(uri, "mssql", 5))
		st = hd_fail(HD_E_USAGE,
		        "tracking_uri: %s is a database; start a server on it: mlflow server --backend-store-uri %s "
		        "--artifacts-destination FOLDER --port 5000; then give --tracking_uri http://127.0.0.1:5000",
		        shown, shown);
	else if (scheme && strncasecmp(uri, "file:", 5) != 0)
		st = hd_fail(HD_E_USAGE, "tracking_uri: %s: not an MLflow server, which is http(s)://HOST:PORT", shown);
	else
		st = hd_fail(HD_E_USAGE,
		        "tracking_uri: %s is no server; start one: mlflow server --backend-store-uri "
		        "sqlite:///mlflow.db --artifacts-destination FOLDER --port 5000; then give --tracking_uri "
		        "http://127.0.0.1:5000, or none",
		        shown);
done:
	free(shown);
	return st;
}

hd_status hd_mlflow_uri(char **out, const hd_settings *settings)
{
	const char *uri = settings->tracking_uri, *mlflow = environment("MLFLOW_TRACKING_URI");
	uint8_t given = settings->given[HD_SET_tracking_uri];
	*out = NULL;
	if (mlflow && (given == HD_NOT_GIVEN || given == HD_GIVEN_FILE || !uri[0]))
		uri = mlflow;
	if (!uri[0] || !strcasecmp(uri, "none"))
		return hd_strdup(out, "");
	return is_http(uri) ? hd_strdup(out, uri) : no_server(uri);
}

/* ---- its parts ---- */

static hd_status take_part(char **out, CURLU *url, CURLUPart part, unsigned flags)
{
	char *text = NULL;
	CURLUcode code = curl_url_get(url, part, &text, flags);
	hd_status st = HD_OK;
	*out = NULL;
	if (code == CURLUE_OUT_OF_MEMORY)
		st = hd_fail(HD_E_MEMORY, "out of host memory");
	else if (code == CURLUE_OK)
		st = hd_strdup(out, text);
	curl_free(text);
	return st;
}

static void strip_slashes(char *text)
{
	for (size_t n = strlen(text); n > 0 && text[n - 1] == '/'; n--)
		text[n - 1] = 0;
}

static hd_status read_url(hd_mlflow_address *a, const char *uri)
{
	hd_status st;
	static const CURLUPart dropped[] = {
	        CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS, CURLUPART_QUERY, CURLUPART_FRAGMENT};
	CURLU *url = curl_url();
	if (!url)
		return hd_fail(HD_E_MEMORY, "out of host memory");
	if (!is_http(uri)) {
		st = no_server(uri);
		goto done;
	}
	if (curl_url_set(url, CURLUPART_URL, uri, 0) != CURLUE_OK) {
		st = hd_fail(HD_E_USAGE,
		        "tracking_uri: not a URL, as http://127.0.0.1:5000 is; in a password '/', '?', '#', '@' and "
		        "':' are written %%2F, %%3F, %%23, %%40 and %%3A");
		goto done;
	}
	HD_TRY(take_part(&a->user, url, CURLUPART_USER, CURLU_URLDECODE));
	HD_TRY(take_part(&a->password, url, CURLUPART_PASSWORD, CURLU_URLDECODE));
	if (a->user && !a->password)
		HD_TRY(hd_strdup(&a->password, ""));
	for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
		curl_url_set(url, dropped[i], NULL, 0);
	HD_TRY(take_part(&a->base, url, CURLUPART_URL, 0));
	curl_url_set(url, CURLUPART_PATH, NULL, 0);
	HD_TRY(take_part(&a->root, url, CURLUPART_URL, 0));
	if (!a->base || !a->root) {
		st = hd_fail(HD_E_USAGE, "tracking_uri: the URL names no host");
		goto done;
	}
	strip_slashes(a->base);
	strip_slashes(a->root);
done:
	curl_url_cleanup(url);
	return st;
}

/* ---- keys ---- */

static hd_status read_credentials_file(hd_ini *out)
{
	hd_status st;
	char *path = NULL;
	const char *home = environment("HOME");
	HD_TRY(hd_sprintf(&path, "%s/.mlflow/credentials", home ? home : ""));
	HD_TRY(hd_ini_read(out, path));
done:
	free(path);
	return st;
}

/* As MLflow's client: a name and a password, each from the environment or the file, go before a token. */
static hd_status read_keys(hd_mlflow_address *a)
{
	hd_status st = HD_OK;
	hd_ini file = {0};
	if (a->user)
		return HD_OK;
	const char *user = environment("MLFLOW_TRACKING_USERNAME");
	const char *password = environment("MLFLOW_TRACKING_PASSWORD");
	const char *token = environment("MLFLOW_TRACKING_TOKEN");
	if (!user || !password)
		HD_TRY(read_credentials_file(&file));
	if (!user)
		user = hd_ini_get(&file, "mlflow", "mlflow_tracking_username");
	if (!password)
		password = hd_ini_get(&file, "mlflow", "mlflow_tracking_password");
	if (user && password) {
		HD_TRY(hd_strdup(&a->user, user));
		HD_TRY(hd_strdup(&a->password, password));
	} else if (token && token[strcspn(token, "\r\n")]) {
		st = hd_fail(HD_E_USAGE, "MLFLOW_TRACKING_TOKEN: has a line break in it");
	} else {
		HD_TRY(hd_strdup(&a->token, token));
	}
done:
	hd_ini_free(&file);
	return st;
}

static bool is_true(const char *text)
{
	return text && (!strcasecmp(text, "true") || !strcmp(text, "1"));
}

static hd_status read_transport(hd_mlflow_address *a)
{
	hd_status st;
	const char *timeout = environment("MLFLOW_HTTP_REQUEST_TIMEOUT");
	char *end;
	a->insecure = is_true(environment("MLFLOW_TRACKING_INSECURE_TLS"));
	a->timeout_s = TIMEOUT_S;
	if (timeout) {
		a->timeout_s = strtod(timeout, &end);
		if (*end || !(a->timeout_s > 0 && a->timeout_s <= TIMEOUT_MOST_S))
			return hd_fail(
			        HD_E_USAGE, "MLFLOW_HTTP_REQUEST_TIMEOUT: '%s' is no number of seconds", timeout);
	}
	HD_TRY(hd_strdup(&a->ca_file, environment("MLFLOW_TRACKING_SERVER_CERT_PATH")));
	HD_TRY(hd_strdup(&a->client_file, environment("MLFLOW_TRACKING_CLIENT_CERT_PATH")));
done:
	return st;
}

hd_status hd_mlflow_address_read(hd_mlflow_address *out, const char *uri)
{
	hd_status st;
	*out = (hd_mlflow_address){0};
	HD_TRY(read_url(out, uri));
	HD_TRY(read_keys(out));
	HD_TRY(read_transport(out));
done:
	if (st != HD_OK)
		hd_mlflow_address_free(out);
	return st;
}

void hd_mlflow_address_free(hd_mlflow_address *a)
{
	if (!a)
		return;
	free(a->base);
	free(a->root);
	hd_free_secret(a->user);
	hd_free_secret(a->password);
	hd_free_secret(a->token);
	free(a->ca_file);
	free(a->client_file);
	*a = (hd_mlflow_address){0};
}
