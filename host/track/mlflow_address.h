/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An MLflow server's address taken apart, and the keys that go with it, from the places where MLflow's own client
 * looks. Values of keys appear in no text made here. For the files of this folder alone.
 */
#ifndef HD_TRACK_MLFLOW_ADDRESS_H
#define HD_TRACK_MLFLOW_ADDRESS_H

#include <stdbool.h>

#include "heimdall/status.h"

typedef struct hd_mlflow_address {
	char *base;            /* "https://host:5000/path", without user, password and a '/' at its end */
	char *root;            /* "https://host:5000" */
	char *user, *password; /* NULL: none; both or neither */
	char *token;           /* NULL: none, or user and password are there */
	char *ca_file;         /* PEM; NULL: the system's */
	char *client_file;     /* PEM with certificate and key; NULL: none */
	bool insecure;         /* certificates are not looked at */
	double timeout_s;      /* of one request */
} hd_mlflow_address;

/* See hd_mlflow_open for what is read. HD_E_USAGE for what is no http(s) URL. */
hd_status hd_mlflow_address_read(hd_mlflow_address *out, const char *uri);
void hd_mlflow_address_free(hd_mlflow_address *address); /* NULL-safe; keys are wiped */

#endif
