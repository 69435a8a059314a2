/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"
#include "host/data/catalog_rows.h"

#define AT_BOUND 0.01 /* how near a bound counts as at it */

/*
 * One answer of the K windows of a sample: the mixture of their Gaussians, weighted by 1/variance, by its mean and
 * variance. Windows of one emission share propagation, so agreeing ones do not add up to more certainty.
 */
static hd_gaussian fuse(const hd_gaussian *windows, int64_t K)
{
	hd_gaussian out = {{0}, {0}};
	for (int d = 0; d < 2; d++) {
		double sum = 0;
		for (int64_t k = 0; k < K; k++) {
			sum += 1 / windows[k].variance[d];
			out.mean[d] += windows[k].mean[d] / windows[k].variance[d];
		}
		out.mean[d] /= sum;
		for (int64_t k = 0; k < K; k++) {
			double off = windows[k].mean[d] - out.mean[d];
			out.variance[d] += (windows[k].variance[d] + off * off) / windows[k].variance[d] / sum;
		}
	}
	return out;
}

static void decode(hd_prediction *p, const hd_dataset *d, int32_t sample, hd_gaussian g)
{
	const hd_data_card *card = &d->card;
	const hd_sample *s = &d->samples.samples[sample];
	double scale = card->frame.scale_m;
	p->sample = sample;
	p->latitude_deg = s->latitude_deg;
	p->longitude_deg = s->longitude_deg;
	hd_geo_from_local_m(&card->frame, g.mean[0] * scale, g.mean[1] * scale, &p->predicted_latitude_deg,
	        &p->predicted_longitude_deg);
	p->sigma_north_m = sqrt(g.variance[0]) * scale;
	p->sigma_east_m = sqrt(g.variance[1]) * scale;
	p->error_m = hd_geo_distance_m(
	        s->latitude_deg, s->longitude_deg, p->predicted_latitude_deg, p->predicted_longitude_deg);
	p->label_sigma_m = isnan(s->label_sigma_m) ? d->label_sigma_m : s->label_sigma_m;
	double north, east;
	hd_geo_to_local_m(&card->frame, s->latitude_deg, s->longitude_deg, &north, &east);
	p->error_north_m = g.mean[0] * scale - north;
	p->error_east_m = g.mean[1] * scale - east;
	p->at_bound = false;
	for (int i = 0; i < 2; i++) {
		double sigma_m = sqrt(g.variance[i]) * scale;
		p->at_bound |=
		        sigma_m < card->sigma_min_m * (1 + AT_BOUND) || sigma_m > card->sigma_max_m * (1 - AT_BOUND);
	}
	p->centre_error_m = hd_geo_distance_m(
	        s->latitude_deg, s->longitude_deg, card->centre_latitude_deg, card->centre_longitude_deg);
}

/* ---- batches of any source ---- */

typedef struct evaluation {
	const hd_answers *answers;
	const int32_t *samples;
	int64_t count, K, N;   /* samples, windows of each, windows in a batch */
	int32_t *list;         /* (2,N) sample and window of a batch's rows */
	int64_t queued, taken; /* batches */
	hd_gaussian *windows;  /* (count*K) */
	double total[4];       /* loss sums of the batches taken */
} evaluation;

static hd_status open_evaluation(evaluation *e, const hd_answers *answers, const int32_t *samples, int64_t count)
{
	hd_status st;
	*e = (evaluation){.answers = answers,
	        .samples = samples,
	        .count = count,
	        .K = hd_features_windows(&answers->dataset->features),
	        .N = answers->batch};
	HD_TRY(hd_alloc(&e->list, (size_t)(2 * e->N), sizeof *e->list));
	HD_TRY(hd_alloc(&e->windows, (size_t)(count * e->K), sizeof *e->windows));
done:
	return st;
}

/* Windows of batch k: how many. */
static int64_t rows_of(const evaluation *e, int64_t k)
{
	int64_t left = e->count * e->K - k * e->N;
	return left < e->N ? left : e->N;
}

static hd_status queue_batch(evaluation *e)
{
	const hd_answers *a = e->answers;
	int64_t from = e->queued * e->N, n = rows_of(e, e->queued);
	for (int64_t i = 0; i < n; i++) {
		e->list[i] = e->samples[(from + i) / e->K];
		e->list[e->N + i] = (int32_t)((from + i) % e->K);
	}
	hd_status st = a->queue(a->context, (int)(e->queued % a->ahead), e->list, e->list + e->N, n);
	e->queued++;
	return st;
}

static hd_status take_batch(evaluation *e)
{
	const hd_answers *a = e->answers;
	hd_status st = a->take(
	        a->context, (int)(e->taken % a->ahead), e->windows + e->taken * e->N, rows_of(e, e->taken), e->total);
	e->taken++;
	return st;
}

/* All batches through the model. */
static hd_status run(evaluation *e, hd_progress *bar, bool stoppable)
{
	hd_status st = HD_OK;
	int64_t batches = (e->count * e->K + e->N - 1) / e->N;
	while (e->taken < batches) {
		while (e->queued < batches && e->queued - e->taken < e->answers->ahead)
			HD_TRY(queue_batch(e));
		HD_TRY(take_batch(e));
		hd_progress_update(bar, e->taken < batches ? e->taken * e->N / e->K : e->count, NULL);
		if (stoppable && hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted");
			goto done;
		}
	}
done:
	return st;
}

hd_status hd_evaluate_answers(hd_metrics *out, hd_prediction *predictions, const hd_answers *answers,
        const int32_t *samples, int64_t count, const char *label, bool stoppable)
{
	hd_status st;
	hd_prediction *all = predictions;
	evaluation e;
	hd_progress *bar = label ? hd_progress_start(label, "sample", count) : NULL;
	HD_TRY(open_evaluation(&e, answers, samples, count));
	if (!all)
		HD_TRY(hd_alloc(&all, (size_t)count, sizeof *all));
	HD_TRY(run(&e, bar, stoppable));
	for (int64_t i = 0; i < count; i++)
		decode(&all[i], answers->dataset, samples[i], fuse(e.windows + i * e.K, e.K));
	HD_TRY(hd_metrics_compute(out, all, (size_t)count));
	out->loss = e.total[0] / e.total[1];
	out->nll = (e.total[2] + e.total[3]) / e.total[1];
	out->log_term = e.total[2] / e.total[1];
	out->mse_term = e.total[3] / e.total[1];
done:
	if (bar)
		hd_progress_end(bar);
	if (all != predictions)
		free(all);
	free(e.windows);
	free(e.list);
	return st;
}

/* ---- the engine ---- */

/* Batches that are queued before the first one is looked at, where the device works on its own. */
#define AHEAD 2

/* Answers to a batch; memory of alloc_host. */
typedef struct answer {
	float *mu, *sigma, *sums; /* (N,2), (N,2), (4) */
	hd_event *done;
} answer;

typedef struct engine {
	hd_batcher *batcher;
	answer answers[AHEAD];
	int slots; /* answers in use */
} engine;

static void close_engine(engine *e)
{
	hd_backend *b = e->batcher->backend;
	/* after an error copies may still be on their way */
	b->sync(b, NULL);
	for (int i = 0; i < e->slots; i++) {
		answer *a = &e->answers[i];
		b->close_event(b, a->done);
		b->free_host(b, a->sums);
		b->free_host(b, a->sigma);
		b->free_host(b, a->mu);
	}
}

static hd_status open_engine(engine *e, hd_batcher *batcher)
{
	hd_status st = HD_OK;
	hd_backend *b = batcher->backend;
	size_t rows = (size_t)hd_model_get_config(batcher->model)->batch;
	*e = (engine){.batcher = batcher, .slots = b->own_memory ? AHEAD : 1};
	for (int i = 0; i < e->slots; i++) {
		answer *a = &e->answers[i];
		HD_TRY(b->alloc_host(b, (void **)&a->mu, 2 * rows * sizeof(float)));
		HD_TRY(b->alloc_host(b, (void **)&a->sigma, 2 * rows * sizeof(float)));
		HD_TRY(b->alloc_host(b, (void **)&a->sums, 4 * sizeof(float)));
		HD_TRY(b->open_event(b, &a->done));
	}
done:
	return st;
}

static hd_status queue_engine(void *context, int slot, const int32_t *samples, const int32_t *windows, int64_t count)
{
	hd_status st;
	engine *e = context;
	hd_batcher *batcher = e->batcher;
	hd_backend *b = batcher->backend;
	const hd_model_io *io = hd_model_buffers(batcher->model);
	const answer *a = &e->answers[slot];
	size_t rows = (size_t)hd_model_get_config(batcher->model)->batch;
	HD_TRY(hd_batcher_fill(batcher, samples, windows, count, 0, 0, false));
	HD_TRY(hd_model_forward(batcher->model, false));
	HD_TRY(hd_model_loss(batcher->model, 1.0f));
	HD_TRY(b->copy(b, a->mu, io->mu, 2 * rows * sizeof(float), NULL));
	HD_TRY(b->copy(b, a->sigma, io->sigma, 2 * rows * sizeof(float), NULL));
	HD_TRY(b->copy(b, a->sums, io->sums, 4 * sizeof(float), NULL));
	HD_TRY(b->record(b, a->done, NULL));
done:
	return st;
}

static hd_status take_engine(void *context, int slot, hd_gaussian *out, int64_t count, double total[4])
{
	const engine *e = context;
	const answer *a = &e->answers[slot];
	hd_status st = e->batcher->backend->wait(e->batcher->backend, a->done);
	if (st != HD_OK)
		return st;
	for (int i = 0; i < 4; i++)
		total[i] += (double)a->sums[i];
	for (int64_t i = 0; i < 2 * count; i++) {
		out[i / 2].mean[i % 2] = (double)a->mu[i];
		out[i / 2].variance[i % 2] = (double)a->sigma[i] * (double)a->sigma[i];
	}
	return HD_OK;
}

hd_status hd_evaluate(hd_metrics *out, hd_prediction *predictions, hd_batcher *batcher, const int32_t *samples,
        int64_t count, const char *label, bool stoppable)
{
	engine e;
	hd_status st = open_engine(&e, batcher);
	const hd_answers answers = {.dataset = batcher->dataset,
	        .batch = hd_model_get_config(batcher->model)->batch,
	        .ahead = e.slots,
	        .context = &e,
	        .queue = queue_engine,
	        .take = take_engine};
	if (st == HD_OK)
		st = hd_evaluate_answers(out, predictions, &answers, samples, count, label, stoppable);
	close_engine(&e);
	return st;
}

/* ---- the file of predictions ---- */

hd_status hd_evaluate_checkpoint(hd_metrics *out, hd_prediction *predictions, const hd_checkpoint *checkpoint,
        hd_backend *backend, const hd_dataset *dataset, int64_t batch, const int32_t *samples, int64_t count,
        const char *label)
{
	hd_status st;
	hd_model *model = NULL;
	hd_batcher batcher = {0};
	HD_TRY(hd_checkpoint_model(&model, checkpoint, backend, (int)batch, hd_dataset_has_label_sigma(dataset)));
	HD_TRY(hd_batcher_open(&batcher, model, backend, dataset, NULL));
	HD_TRY(hd_evaluate(out, predictions, &batcher, samples, count, label, false));
done:
	hd_batcher_close(&batcher);
	hd_model_free(model);
	return st;
}

hd_status hd_predictions_write(const char *path, const hd_dataset *d, const hd_prediction *predictions, int64_t count)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the predictions");
	fprintf(to, "session,emission,split,latitude,longitude,predicted_latitude,predicted_longitude,error_m,sigma_"
	            "north_m,"
	            "sigma_east_m\n");
	for (int64_t i = 0; i < count; i++) {
		const hd_prediction *p = &predictions[i];
		const hd_sample *s = &d->samples.samples[p->sample];
		const hd_recording *r = NULL;
		for (int c = 0; !r && c < d->samples.R; c++)
			r = s->recording[c] >= 0 ? &d->catalog.recordings[s->recording[c]] : NULL;
		fprintf(to, "%s,%s,%s,%.8f,%.8f,%.8f,%.8f,%.2f,%.2f,%.2f\n", r ? r->session : "", r ? r->emission : "",
		        hd_split_name((int)s->split), p->latitude_deg, p->longitude_deg, p->predicted_latitude_deg,
		        p->predicted_longitude_deg, p->error_m, p->sigma_north_m, p->sigma_east_m);
	}
	fclose(to);
	hd_status st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}
