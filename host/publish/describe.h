/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that go with a published model: for MLflow, and for people. New texts; NULL on lack of memory. Pure functions.
 */
#ifndef HD_PUBLISH_DESCRIBE_H
#define HD_PUBLISH_DESCRIBE_H

#include "host/publish/model.h"

/* What a version is. */
typedef struct hd_publish_facts {
	const hd_publish_model *model;
	const char *version;    /* "v1.2.0" */
	const char *created;    /* "2026-05-01T12:00:00Z" */
	const char *sha256;     /* of model.onnx */
	int64_t bytes;          /* of it and its external data */
	const char *url;        /* of the place */
	const char *registered; /* name in the registry */
	const char *license;
} hd_publish_facts;

/* MLmodel: flavours onnx and python_function, and the signature, as mlflow.onnx.save_model writes them. */
char *hd_publish_mlmodel(const hd_publish_facts *facts);
char *hd_publish_requirements(void);
char *hd_publish_conda(void);
char *hd_publish_python_env(void);
/* metrics.json */
char *hd_publish_metrics(const json_t *metrics);
/* README.md: the model card, as Hugging Face shows it. */
char *hd_publish_card(const hd_publish_facts *facts);

#endif
