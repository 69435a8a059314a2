/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trained model, put where inference services take it from: a folder v{major}.{minor}.{patch} of an object store or
 * of a disk, a model version in an MLflow server's registry, and last of all `latest`. A version is complete once its
 * manifest.json is there, and nothing in it is written twice; what was interrupted is completed by the same call.
 * Settings of group `publish` say where; those of `store` and `track` how to get there. One thread at a time.
 */
#ifndef HEIMDALL_PUBLISH_H
#define HEIMDALL_PUBLISH_H

#include <stdbool.h>
#include <stdio.h>

#include "heimdall/metrics.h"
#include "heimdall/settings.h"

/* What to publish. Texts are borrowed for the time of the call. */
typedef struct hd_publish_source {
	const char *onnx_path;     /* the exported model */
	const char *checkpoint;    /* which it was written from; NULL: not at hand, the model's own metadata do */
	const char *run_folder;    /* of the run that trained it; NULL: none */
	const hd_metrics *metrics; /* of the validation split; NULL: what model, --metrics or metrics.csv say */
	bool validated;            /* hd_export has just compared it with the engine */
} hd_publish_source;

typedef struct hd_published {
	char version[40];    /* "v1.2.0" */
	char *where;         /* "s3://heimdall-models/v1.2.0" */
	char registered[24]; /* number in the registry; "" where nothing was registered */
	bool was_there;      /* complete before this call */
	bool latest;         /* `latest` names it */
} hd_published;

void hd_published_free(hd_published *published); /* NULL-safe */

/*
 * Publishes, registers (where a tracking server is meant), and moves `latest`. With dry_run it only says what it would
 * do. Says what it does, and why the version has its number, on stderr. HD_E_USAGE for a version whose number is taken
 * by another model, with the next free one; HD_E_FAILED for a model that was never evaluated or that does not give the
 * engine's answers; HD_E_IO where store or server are away: the same call completes what is there.
 */
hd_status hd_publish(hd_published *out, const hd_settings *settings, const hd_publish_source *source);

/*
 * The same of what a user names: a run (folder, name, id, latest), a folder with best.safetensors and model.onnx, a
 * checkpoint, or an .onnx file.
 */
hd_status hd_publish_named(hd_published *out, const hd_settings *settings, const char *name);

/* A table of all versions, newest first, on `to`; as JSON too where settings->json names a file. */
hd_status hd_publish_list(FILE *to, const hd_settings *settings);

/*
 * Gives settings->alias to the version settings->promote names, and `latest` where the alias is the default one;
 * rollback: to the highest complete version below the one that has it.
 */
hd_status hd_publish_promote(hd_published *out, const hd_settings *settings);
hd_status hd_publish_rollback(hd_published *out, const hd_settings *settings);

#endif
