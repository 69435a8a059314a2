/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model registry of an MLflow server: one registered model whose versions are those of the place. A version is
 * known by its source (its URL in the place) and the SHA-256 of its model, so that registering it twice makes it once.
 * Errors: HD_E_IO where the server is away, HD_E_FAILED where it refuses.
 */
#ifndef HD_PUBLISH_REGISTRY_H
#define HD_PUBLISH_REGISTRY_H

#include <jansson.h>

#include "heimdall/settings.h"

#define HD_REGISTRY_NUMBER 24

typedef struct hd_registry hd_registry;

/* HD_E_USAGE for an alias or a model's name that MLflow does not take. */
hd_status hd_registry_check_names(const hd_settings *settings);

/* *out is NULL where no server is meant. */
hd_status hd_registry_open(hd_registry **out, const hd_settings *settings);
void hd_registry_close(hd_registry *registry); /* NULL-safe */
/* The server's URL without its password. */
const char *hd_registry_shown(const hd_registry *registry);

/* A version to register. */
typedef struct hd_registry_entry {
	const char *source;  /* "s3://heimdall-models/v1.2.0" */
	const char *version; /* "v1.2.0" */
	const char *sha256;  /* of the model */
	const char *run_id;  /* of MLflow; "" where unknown */
	const char *commit;
	const json_t *metrics; /* object of numbers */
} hd_registry_entry;

/* The number that the version has in the registry, where it is made if it is not there. */
hd_status hd_registry_register(char number[HD_REGISTRY_NUMBER], hd_registry *registry, const hd_registry_entry *entry);

/* The number of a source's newest version; "" where there is none. sha256 NULL: whatever its model. */
hd_status hd_registry_find(
        char number[HD_REGISTRY_NUMBER], hd_registry *registry, const char *source, const char *sha256);

hd_status hd_registry_set_alias(hd_registry *registry, const char *alias, const char *number);

/* Aliases by number: {"3": "staging, production"}; empty where there is no such model. New reference. */
hd_status hd_registry_aliases(json_t **out, hd_registry *registry);
/* Source of the version that has an alias, new text; NULL where none has it. */
hd_status hd_registry_source_of(char **out, hd_registry *registry, const char *alias);

#endif
