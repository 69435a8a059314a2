/* SPDX-License-Identifier: Apache-2.0 */
/* One publication: what its steps share. */
#ifndef HD_PUBLISH_JOB_H
#define HD_PUBLISH_JOB_H

#include "host/publish/model.h"
#include "host/publish/package.h"
#include "host/publish/place.h"
#include "host/publish/registry.h"

#define HD_PUBLISH_TIME_BYTES 24 /* "2026-05-01T12:00:00Z" */

typedef struct hd_publish_job {
	const hd_settings *settings; /* of this call */
	hd_place *place;
	hd_registry *registry; /* NULL: none */
	hd_publish_model model;
	json_t *interface;
	hd_package package;
	size_t fixed; /* files of the package that are the same whatever the version; the others come behind */
	hd_place_list list;
	/* what was chosen */
	hd_publish_version version;
	char text[HD_VERSION_BYTES]; /* of it */
	char created[HD_PUBLISH_TIME_BYTES];
	bool complete; /* is there already */
	bool begun;    /* is there in part */
} hd_publish_job;

/* Puts the files that do not depend on the version into the package. */
hd_status hd_publish_gather(hd_publish_job *job);

/* Adds the others and the manifest. */
hd_status hd_publish_write_texts(hd_publish_job *job, hd_publish_version version, const char *created);

/*
 * Chooses the version: the one that is this model's already, complete or begun; else settings->model_version; else what
 * is proposed. Says why on stderr. HD_E_USAGE where settings->model_version is another model's.
 */
hd_status hd_publish_choose(hd_publish_job *job);

/* The error that a version's number is taken, with the next free one. */
hd_status hd_publish_taken(const hd_publish_job *job, hd_publish_version version);

#endif
