/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints written by a thread of their own while training goes on, where the back end's memory is apart from the
 * host's: the weights are copied on the device, and the thread writes from the copy. Elsewhere a copy would take as
 * much of the host's memory again, and files are written before hd_writer_start returns.
 *
 * At most one write is under way. Its thread has all signals blocked.
 */
#ifndef HD_TRAIN_WRITER_H
#define HD_TRAIN_WRITER_H

#include <pthread.h>

#include "heimdall/checkpoint.h"
#include "host/common/first_error.h"
#include "host/model/snapshot.h"

/* A top-k file, best, last. */
#define HD_WRITE_FILES 3

/* What to write, in this order, and then to remove. Owns its texts and its state. */
typedef struct hd_write_job {
	struct {
		char *path;
		bool with_state;
	} files[HD_WRITE_FILES];
	int count;
	char *removed; /* path; NULL: none */
	hd_train_state state;
} hd_write_job;

void hd_write_job_free(hd_write_job *job); /* NULL-safe */

typedef struct hd_writer {
	const hd_model *model;
	const hd_backend *backend;
	const hd_settings *settings;
	const hd_data_card *card;
	hd_snapshot *snapshot; /* NULL: files are written at once */
	pthread_t thread;
	bool running;
	hd_write_job job;
	hd_first_error error; /* of the thread */
} hd_writer;

/* All four must stay as they are until it is closed. Without room for a copy on the device files are written at once.
 */
hd_status hd_writer_open(hd_writer *out, const hd_model *model, hd_backend *backend, const hd_settings *settings,
        const hd_data_card *card);

/* Ends what is under way; an error nobody has asked for is a warning. NULL-safe, and for one that was never opened. */
void hd_writer_close(hd_writer *writer);

/*
 * Writes the model as it is behind all that is queued, once the write before is done. Takes the job's contents over,
 * also on failure. Gives the error of the write before, or its own where it is done at once.
 */
hd_status hd_writer_start(hd_writer *writer, hd_write_job *job);

/* The error of a write that has ended; does not wait for one that is under way. */
hd_status hd_writer_check(hd_writer *writer);

/* Waits for what is under way. */
hd_status hd_writer_wait(hd_writer *writer);

#endif
