/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/writer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/progress.h"

void hd_write_job_free(hd_write_job *job)
{
	if (!job)
		return;
	hd_train_state_free(&job->state);
	free(job->removed);
	for (int i = 0; i < job->count; i++)
		free(job->files[i].path);
	*job = (hd_write_job){0};
}

hd_status hd_writer_open(
        hd_writer *w, const hd_model *model, hd_backend *backend, const hd_settings *settings, const hd_data_card *card)
{
	*w = (hd_writer){.model = model, .backend = backend, .settings = settings, .card = card};
	hd_status st = backend->own_memory ? hd_snapshot_open(&w->snapshot, model) : HD_OK;
	if (st != HD_E_MEMORY)
		return st;
	hd_warn("training waits while checkpoints are written: %s", hd_error_text());
	return HD_OK;
}

static hd_status write_files(const hd_writer *w, const hd_model *model)
{
	const hd_write_job *job = &w->job;
	for (int i = 0; i < job->count; i++) {
		hd_status st = hd_checkpoint_save(job->files[i].path, model, w->backend, w->settings, w->card,
		        &job->state, job->files[i].with_state);
		if (st != HD_OK)
			return st;
	}
	if (job->removed)
		unlink(job->removed);
	return HD_OK;
}

static void *run(void *context)
{
	hd_writer *w = context;
	hd_first_error_note(&w->error, write_files(w, hd_snapshot_model(w->snapshot)));
	return NULL;
}

/* All signals stay with the threads of training, which ask for them. */
static hd_status start_thread(hd_writer *w)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->running = error == 0;
	return error ? hd_fail(HD_E_FAILED, "cannot start a thread that writes checkpoints: %s", strerror(error))
	             : HD_OK;
}

/* After the thread has ended, or where there was none. */
static hd_status finish(hd_writer *w)
{
	hd_status st = hd_first_error_take(&w->error);
	w->running = false;
	w->error.status = HD_OK;
	hd_write_job_free(&w->job);
	return st;
}

hd_status hd_writer_wait(hd_writer *w)
{
	if (w->running)
		pthread_join(w->thread, NULL);
	return finish(w);
}

hd_status hd_writer_check(hd_writer *w)
{
	if (!w->running || pthread_tryjoin_np(w->thread, NULL) == EBUSY)
		return HD_OK;
	return finish(w);
}

hd_status hd_writer_start(hd_writer *w, hd_write_job *job)
{
	hd_status st;
	HD_TRY(hd_writer_wait(w));
	w->job = *job;
	*job = (hd_write_job){0};
	if (!w->snapshot) {
		st = write_files(w, w->model);
		hd_write_job_free(&w->job);
		goto done;
	}
	HD_TRY(hd_snapshot_take(w->snapshot));
	HD_TRY(start_thread(w));
done:
	hd_write_job_free(job);
	return st;
}

void hd_writer_close(hd_writer *w)
{
	if (!w || !w->model)
		return;
	/* what training ends with may be another error, which stays this thread's */
	if (w->running)
		pthread_join(w->thread, NULL);
	if (w->error.status != HD_OK)
		hd_warn("%s", w->error.text);
	hd_write_job_free(&w->job);
	hd_snapshot_close(w->snapshot);
	*w = (hd_writer){0};
}
