/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where versions lie: an object store's bucket and prefix, or a folder. A version is complete once its manifest is
 * there, which is written last; what is complete is never written to again.
 *
 * In a store the files come one after the other, behind a claim that names them all and keeps the number for this
 * model; who meets another's file or claim leaves the number to him. That takes a server that knows the condition
 * If-None-Match: at others publishers must not meet. In a folder files are gathered in a hidden one under a lock and
 * renamed in one step.
 */
#ifndef HD_PUBLISH_PLACE_H
#define HD_PUBLISH_PLACE_H

#include "heimdall/settings.h"
#include "host/publish/package.h"
#include "host/publish/version.h"
#include "host/store/store.h"

#define HD_PLACE_LATEST "latest"

typedef struct hd_place_version {
	hd_publish_version version;
	bool complete; /* has its manifest */
	bool claimed;  /* has a claim */
	int64_t bytes; /* of all its files */
} hd_place_version;

typedef struct hd_place_list {
	hd_place_version *versions; /* highest first */
	size_t count, capacity;
} hd_place_list;

typedef struct hd_place hd_place;

/* What a kind of place does; see the functions of the same names. */
typedef struct hd_place_kind {
	hd_status (*list)(hd_place_list *out, hd_place *place);
	hd_status (*read)(char **out, hd_place *place, const char *name);
	hd_status (*latest)(char **out, hd_place *place);
	hd_status (*move_latest)(hd_place *place, const char *version);
	hd_status (*begin)(bool *taken, hd_place *place, const char *version, const char *manifest);
	hd_status (*put)(bool *taken, hd_place *place, const char *version, const hd_package_file *file);
	hd_status (*finish)(bool *taken, hd_place *place, const char *version, const char *manifest);
	hd_status (*tidy)(hd_place *place, const char *version); /* NULL: nothing to do */
	void (*close)(hd_place *place);                          /* NULL too */
} hd_place_kind;

struct hd_place {
	const hd_place_kind *kind;
	char *url; /* "s3://bucket/prefix", "file:///folder", without '/' behind it */
	hd_store *store;
	/* of a store */
	hd_s3 *s3; /* the store's */
	char *bucket;
	char *prefix;      /* "" or with '/' behind it */
	const char *claim; /* text of the version in the making; the package's */
	/* of a folder */
	char *folder;
	char *staging; /* hidden folder of the version in the making; NULL: none */
	int lock;      /* -1: not held */
};

extern const hd_place_kind hd_place_s3, hd_place_folder;

/* By settings->models_uri. HD_E_USAGE for a URL of another kind. */
hd_status hd_place_open(hd_place **out, const hd_settings *settings);
void hd_place_close(hd_place *place); /* NULL-safe; what was begun and not finished goes, in a folder */

/* Versions and what there is of them; a place that is not there yet has none. */
hd_status hd_place_versions(hd_place_list *out, hd_place *place);
void hd_place_list_free(hd_place_list *list); /* NULL-safe; leaves zeroes */
const hd_place_version *hd_place_list_find(const hd_place_list *list, hd_publish_version version); /* NULL: none */

/* A small text of a version, new; *out is NULL and the status HD_OK where it is not there. */
hd_status hd_place_read(char **out, hd_place *place, const char *version, const char *name);

/* The manifest of a version, or the claim of one in the making; *out is NULL where it has neither. New text. */
hd_status hd_place_read_manifest(char **out, hd_place *place, const hd_place_version *version);

/* The version that `latest` names; false in *there where it does not exist. HD_E_DATA for one that names none. */
hd_status hd_place_latest(bool *there, hd_publish_version *out, hd_place *place);
hd_status hd_place_move_latest(hd_place *place, const char *version);

/* Writes a whole version. *taken: its number is another model's, and nothing was changed. */
hd_status hd_place_put(bool *taken, hd_place *place, const char *version, const hd_package *package);

/* Takes the claim of a complete version away, where whoever finished it did not come to that. */
hd_status hd_place_tidy(hd_place *place, const char *version);

/* For the kinds: notes one file of a version ("v1.0.0/model.onnx" below the place); other names are passed over. */
hd_status hd_place_note(hd_place_list *list, const char *name, int64_t bytes);

#endif
