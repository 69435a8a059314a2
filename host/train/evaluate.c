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

/* Mean (north, east) and variance of one axis pair, in label units. */
typedef struct gaussian {
	double mean[2], variance[2];
} gaussian;

/*
 * One answer of the K windows of a sample: the mixture of their Gaussians, weighted by 1/variance, by its mean and
 * variance. Windows of one emission share propagation, so agreeing ones do not add up to more certainty.
 */
static gaussian fuse(const gaussian *windows, int64_t K)
{
	gaussian out = {{0}, {0}};
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

static void decode(hd_prediction *p, const hd_dataset *d, int32_t sample, gaussian g)
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

/* Batches that are queued before the first one is looked at, where the device works on its own. */
#define AHEAD 2

/* Answers to a batch; memory of alloc_host. */
typedef struct answer {
	float *mu, *sigma, *sums; /* (N,2), (N,2), (4) */
	hd_event *done;
} answer;

typedef struct evaluation {
	hd_batcher *batcher;
	const int32_t *samples;
	int64_t count, K, N; /* samples, windows of each, windows in a batch */
	int32_t *list;       /* (2,N) sample and window of a batch's rows */
	answer answers[AHEAD];
	int most;              /* answers in use */
	int64_t queued, taken; /* batches */
	gaussian *windows;     /* (count*K) */
	double total[4];       /* loss sums of the batches taken */
} evaluation;

static void close_evaluation(evaluation *e)
{
	hd_backend *b = e->batcher->backend;
	/* after an error copies may still be on their way */
	b->sync(b, NULL);
	for (int i = 0; i < e->most; i++) {
		answer *a = &e->answers[i];
		b->close_event(b, a->done);
		b->free_host(b, a->sums);
		b->free_host(b, a->sigma);
		b->free_host(b, a->mu);
	}
	free(e->windows);
	free(e->list);
}

static hd_status open_evaluation(evaluation *e, hd_batcher *batcher, const int32_t *samples, int64_t count)
{
	hd_status st;
	hd_backend *b = batcher->backend;
	*e = (evaluation){.batcher = batcher,
	        .samples = samples,
	        .count = count,
	        .K = hd_features_windows(&batcher->dataset->features),
	        .N = hd_model_get_config(batcher->model)->batch,
	        .most = b->own_memory ? AHEAD : 1};
	HD_TRY(hd_alloc(&e->list, (size_t)(2 * e->N), sizeof *e->list));
	HD_TRY(hd_alloc(&e->windows, (size_t)(count * e->K), sizeof *e->windows));
	for (int i = 0; i < e->most; i++) {
		answer *a = &e->answers[i];
		HD_TRY(b->alloc_host(b, (void **)&a->mu, (size_t)(2 * e->N) * sizeof(float)));
		HD_TRY(b->alloc_host(b, (void **)&a->sigma, (size_t)(2 * e->N) * sizeof(float)));
		HD_TRY(b->alloc_host(b, (void **)&a->sums, 4 * sizeof(float)));
		HD_TRY(b->open_event(b, &a->done));
	}
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
	hd_status st;
	hd_batcher *batcher = e->batcher;
	hd_backend *b = batcher->backend;
	const hd_model_io *io = hd_model_buffers(batcher->model);
	const answer *a = &e->answers[e->queued % e->most];
	int64_t from = e->queued * e->N, n = rows_of(e, e->queued);
	for (int64_t i = 0; i < n; i++) {
		e->list[i] = e->samples[(from + i) / e->K];
		e->list[e->N + i] = (int32_t)((from + i) % e->K);
	}
	HD_TRY(hd_batcher_fill(batcher, e->list, e->list + e->N, n, 0, 0, false));
	HD_TRY(hd_model_forward(batcher->model, false));
	HD_TRY(hd_model_loss(batcher->model, 1.0f));
	HD_TRY(b->copy(b, a->mu, io->mu, (size_t)(2 * e->N) * sizeof(float), NULL));
	HD_TRY(b->copy(b, a->sigma, io->sigma, (size_t)(2 * e->N) * sizeof(float), NULL));
	HD_TRY(b->copy(b, a->sums, io->sums, 4 * sizeof(float), NULL));
	HD_TRY(b->record(b, a->done, NULL));
	e->queued++;
done:
	return st;
}

static hd_status take_batch(evaluation *e)
{
	const answer *a = &e->answers[e->taken % e->most];
	int64_t n = rows_of(e, e->taken);
	gaussian *out = e->windows + e->taken * e->N;
	hd_status st = e->batcher->backend->wait(e->batcher->backend, a->done);
	if (st != HD_OK)
		return st;
	for (int i = 0; i < 4; i++)
		e->total[i] += (double)a->sums[i];
	for (int64_t i = 0; i < 2 * n; i++) {
		out[i / 2].mean[i % 2] = (double)a->mu[i];
		out[i / 2].variance[i % 2] = (double)a->sigma[i] * (double)a->sigma[i];
	}
	e->taken++;
	return HD_OK;
}

/* All batches through the model. */
static hd_status run(evaluation *e, hd_progress *bar, bool stoppable)
{
	hd_status st = HD_OK;
	int64_t batches = (e->count * e->K + e->N - 1) / e->N;
	while (e->taken < batches) {
		while (e->queued < batches && e->queued - e->taken < e->most)
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

hd_status hd_evaluate(hd_metrics *out, hd_prediction *predictions, hd_batcher *batcher, const int32_t *samples,
        int64_t count, const char *label, bool stoppable)
{
	hd_status st;
	hd_prediction *all = predictions;
	evaluation e;
	hd_progress *bar = label ? hd_progress_start(label, "sample", count) : NULL;
	HD_TRY(open_evaluation(&e, batcher, samples, count));
	if (!all)
		HD_TRY(hd_alloc(&all, (size_t)count, sizeof *all));
	HD_TRY(run(&e, bar, stoppable));
	for (int64_t i = 0; i < count; i++)
		decode(&all[i], batcher->dataset, samples[i], fuse(e.windows + i * e.K, e.K));
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
	close_evaluation(&e);
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
