/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a version, and the manifest that names them. Pure but for reading the files. */
#ifndef HD_PUBLISH_PACKAGE_H
#define HD_PUBLISH_PACKAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"
#include "host/common/sha256.h"

#define HD_PUBLISH_MANIFEST "manifest.json" /* a version is complete where it is */
#define HD_PUBLISH_CLAIM "incomplete.json"  /* the same text, while the other files are on their way */
#define HD_PUBLISH_CONFIG "config.yaml"
#define HD_PUBLISH_METRICS "metrics.json"
#define HD_PUBLISH_MODEL "model.onnx"

typedef struct hd_package_file {
	char *name;
	char *path; /* of a file on this machine, or NULL */
	char *text; /* what is in it, where path is NULL */
	int64_t bytes;
	char sha256[HD_SHA256_HEX_BYTES];
	const char *content_type;
} hd_package_file;

typedef struct hd_package {
	hd_package_file *files;
	size_t count, capacity;
	char *manifest; /* JSON; NULL until hd_package_seal */
} hd_package;

/* Adds a file of this machine, which is read for its hash. */
hd_status hd_package_add_file(hd_package *package, const char *name, const char *path);
/* Adds a text; takes it over, on failure too. NULL is a lack of memory. */
hd_status hd_package_add_text(hd_package *package, const char *name, char *text);
const hd_package_file *hd_package_find(const hd_package *package, const char *name); /* NULL: none */
int64_t hd_package_bytes(const hd_package *package);

/* Writes the manifest: `head` (object; borrowed), and name, bytes and SHA-256 of every file. */
hd_status hd_package_seal(hd_package *package, const json_t *head);
void hd_package_free(hd_package *package); /* NULL-safe; leaves zeroes */

/* A manifest's or a claim's text as JSON, new reference; NULL where it is none. */
json_t *hd_publish_manifest_read(const char *text);
/* SHA-256 of a file that a manifest names; "" where it does not. */
const char *hd_publish_manifest_sha256(const json_t *manifest, const char *name);

#endif
