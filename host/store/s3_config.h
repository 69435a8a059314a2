/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an S3 store is and who asks: endpoint, region, addressing style, keys, limits, found in the order of aws-cli:
 * flags, environment, a file's settings, profiles of ~/.aws. Values of keys appear in no text made here.
 * Nothing is asked over the network (no instance metadata, no SSO).
 */
#ifndef HD_STORE_S3_CONFIG_H
#define HD_STORE_S3_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/status.h"

/* What a user has given; NULL and 0 are "not given". Strings are borrowed for the time of the call. */
typedef struct hd_s3_settings {
	const char *endpoint; /* "http://127.0.0.1:9000" */
	const char *region;
	const char *style;   /* "auto", "path" or "virtual" */
	const char *profile; /* a section of ~/.aws */
	const char *access_key, *secret_key, *session_token;
	const char *ca_bundle; /* PEM file of the authorities to trust */
	bool anonymous;        /* sign nothing */
	int attempts;          /* of one request in a row without progress */
	double retry_s;        /* after which none is begun; counted from the last progress */
	double connect_s;      /* until a connection stands */
	double stall_s;        /* of fewer than 1000 bytes a second: the connection is given up */
} hd_s3_settings;

typedef enum hd_s3_style { HD_S3_STYLE_AUTO, HD_S3_STYLE_PATH, HD_S3_STYLE_VIRTUAL } hd_s3_style;

typedef struct hd_s3_config {
	char *endpoint; /* without a '/' at its end; NULL: Amazon's of the region */
	char *region;
	hd_s3_style style; /* AUTO: virtual host at amazonaws.com (but for bucket names with dots), else path */
	char *access_key, *secret_key, *session_token; /* NULL when anonymous; the token also when there is none */
	char *keys_from;                               /* for messages: "the environment", "profile 'x' of FILE" */
	char *ca_bundle;                               /* NULL: the system's */
	bool anonymous;
	int attempts;
	double retry_s, connect_s, stall_s;
	int64_t single_bytes;  /* larger files are sent in parts */
	int64_t part_bytes;    /* at least; more where the file would have over 10000 parts */
	int64_t clock_ahead_s; /* added to this machine's clock when signing */
	bool (*stop)(void);    /* asked in waits and transfers: true ends them with HD_E_INTERRUPTED; NULL: never */
} hd_s3_config;

#define HD_S3_SINGLE_BYTES ((int64_t)64 << 20)
#define HD_S3_PART_BYTES ((int64_t)16 << 20)
#define HD_S3_ATTEMPTS 6
#define HD_S3_RETRY_S 120.0
#define HD_S3_CONNECT_S 10.0
#define HD_S3_STALL_S 60.0

/*
 * flags: of the command line, before the environment; file: of a configuration file, behind it; either may be NULL.
 *
 *   endpoint   flag, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, MLFLOW_S3_ENDPOINT_URL, file, the profile's services
 *              section, the profile's endpoint_url (AWS_IGNORE_CONFIGURED_ENDPOINT_URLS leaves AWS's own ones out)
 *   region     flag, AWS_REGION, AWS_DEFAULT_REGION, file, profile, us-east-1
 *   keys       flag, AWS_ACCESS_KEY_ID + AWS_SECRET_ACCESS_KEY (+ AWS_SESSION_TOKEN), file, profile; a profile given
 *              by flag goes before the environment
 *   profile    flag, AWS_PROFILE, file, "default", in AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials) and
 *              AWS_CONFIG_FILE (~/.aws/config)
 *   CA bundle  flag, AWS_CA_BUNDLE, CURL_CA_BUNDLE, file, profile
 *
 * HD_E_USAGE: no keys (with the places that were looked at), half a pair, an unknown profile, a malformed endpoint.
 */
hd_status hd_s3_config_resolve(hd_s3_config *out, const hd_s3_settings *flags, const hd_s3_settings *file);
void hd_s3_config_free(hd_s3_config *config); /* keys are wiped */

/* Letters, digits and '-': what may become part of a host's name. */
bool hd_s3_region_is_sound(const char *region);

/* Whether a host is Amazon's: amazonaws.com, amazonaws.com.cn or a name under them. */
bool hd_s3_host_is_amazon(const char *host);

#endif
