/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MLflow's REST interface (/api/2.0/mlflow/...): one request, one JSON answer; and files through the server. A client
 * serves one thread at a time. Keys appear in no text made here, nor do bodies that are no JSON.
 */
#ifndef HD_TRACK_MLFLOW_CLIENT_H
#define HD_TRACK_MLFLOW_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "heimdall/settings.h"

typedef struct hd_mlflow hd_mlflow;

/* How a request ended. */
typedef enum hd_mlflow_end {
	HD_MLFLOW_DONE,
	HD_MLFLOW_REFUSED, /* the server answered with an error that asking again does not change */
	HD_MLFLOW_AWAY     /* no answer, or one that says "later": it may or may not have been done */
} hd_mlflow_end;

typedef struct hd_mlflow_answer {
	hd_mlflow_end end;
	long status;          /* of HTTP; 0: no answer */
	char code[64];        /* MLflow's error_code, as RESOURCE_ALREADY_EXISTS; "" */
	json_t *body;         /* object; NULL without one */
	double retry_after_s; /* what an answer of "later" asks for; 0: nothing */
	bool maybe_done;      /* AWAY, and the request may have reached the server */
} hd_mlflow_answer;

void hd_mlflow_answer_free(hd_mlflow_answer *answer); /* NULL-safe */

/*
 * The server that the settings mean: --tracking_uri or HEIMDALL_TRACKING_URI, MLFLOW_TRACKING_URI, the configuration
 * file, in this order; new text, "" where none is meant ("none" is none too). HD_E_USAGE for what is no URL of a server
 * (postgresql://..., a folder), with the command that starts a server on it and the password left out.
 */
hd_status hd_mlflow_uri(char **out, const hd_settings *settings);

/*
 * uri: http(s)://[user:password@]host[:port][/path]. Keys, in MLflow's own order: of the URL, MLFLOW_TRACKING_USERNAME
 * and _PASSWORD, ~/.mlflow/credentials, MLFLOW_TRACKING_TOKEN; MLFLOW_TRACKING_INSECURE_TLS,
 * MLFLOW_TRACKING_SERVER_CERT_PATH, MLFLOW_TRACKING_CLIENT_CERT_PATH and MLFLOW_HTTP_REQUEST_TIMEOUT as in Python.
 * Nobody is asked yet.
 */
hd_status hd_mlflow_open(hd_mlflow **out, const char *uri);
void hd_mlflow_close(hd_mlflow *client); /* NULL-safe */

/* The URL without user and password. */
const char *hd_mlflow_shown(const hd_mlflow *client);

/*
 * One request, sent once: "POST", "runs/create", a JSON object (borrowed; of a GET the query, of texts and numbers).
 * HD_OK however it ended, which the answer says; hd_error_text() then has the reason, where it is not DONE. Other
 * statuses: memory, or stop.
 */
hd_status hd_mlflow_call(
        hd_mlflow *client, hd_mlflow_answer *out, const char *method, const char *path, const json_t *body);

/* As hd_mlflow_call, but AWAY is tried again for up to patience_s with waits that double, and all but DONE is an error
 * (HD_E_IO: away; HD_E_FAILED: refused). For what may be done twice. */
hd_status hd_mlflow_ask(hd_mlflow *client, hd_mlflow_answer *out, const char *method, const char *path,
        const json_t *body, double patience_s);

/*
 * A file of any size to URI/NAME, streamed from disk: URI is a run's artifact_uri that goes through a server
 * (mlflow-artifacts:/..., http(s)://...); keys go to the tracking server's own host alone. HD_E_IO for a file that
 * cannot be read, or that became shorter meanwhile. The rest is as in hd_mlflow_call.
 */
hd_status hd_mlflow_put(
        hd_mlflow *client, hd_mlflow_answer *out, const char *artifact_uri, const char *name, const char *path);

/* Whether hd_mlflow_put knows such URIs. */
bool hd_mlflow_takes(const char *artifact_uri);

/* hd_now_s() when something came or went last; 0: never. Of the client's own thread. */
double hd_mlflow_moved_s(const hd_mlflow *client);

/* Asked during transfers and waits, in the client's thread; NULL: never. hd_stop_requested is one. */
void hd_mlflow_stop_by(hd_mlflow *client, bool (*stop)(void));

#endif
