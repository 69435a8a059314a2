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

/* Windows [from, from + n) of the list samples x K through the model; total: the loss sums so far. */
static hd_status run_windows(gaussian *out, double total[4], hd_batcher *batcher, const int32_t *samples, int64_t K,
        int64_t from, int64_t n, int32_t *list, float *answers)
{
	hd_status st;
	hd_backend *be = batcher->backend;
	const hd_model_io *io = hd_model_buffers(batcher->model);
	int64_t N = hd_model_get_config(batcher->model)->batch;
	float sums[4], *mu = answers, *sigma = answers + 2 * N;
	for (int64_t i = 0; i < n; i++) {
		list[i] = samples[(from + i) / K];
		list[N + i] = (int32_t)((from + i) % K);
	}
	HD_TRY(hd_batcher_fill(batcher, list, list + N, n, 0, 0, false));
	HD_TRY(hd_model_forward(batcher->model, false));
	HD_TRY(hd_model_loss(batcher->model, 1.0f));
	HD_TRY(be->download(be, mu, io->mu, (size_t)(2 * N) * sizeof *mu, NULL));
	HD_TRY(be->download(be, sigma, io->sigma, (size_t)(2 * N) * sizeof *sigma, NULL));
	HD_TRY(be->download(be, sums, io->sums, sizeof sums, NULL));
	HD_TRY(be->sync(be, NULL));
	for (int i = 0; i < 4; i++)
		total[i] += (double)sums[i];
	for (int64_t i = 0; i < 2 * n; i++) {
		out[i / 2].mean[i % 2] = (double)mu[i];
		out[i / 2].variance[i % 2] = (double)sigma[i] * (double)sigma[i];
	}
done:
	return st;
}

hd_status hd_evaluate(hd_metrics *out, hd_prediction *predictions, hd_batcher *batcher, const int32_t *samples,
        int64_t count, const char *label, bool stoppable)
{
	hd_status st = HD_OK;
	int64_t N = hd_model_get_config(batcher->model)->batch;
	int64_t K = hd_features_windows(&batcher->dataset->features);
	hd_prediction *all = predictions;
	gaussian *windows = NULL;
	int32_t *list = NULL;
	float *answers = NULL;
	double total[4] = {0};
	hd_progress *bar = label ? hd_progress_start(label, "sample", count) : NULL;
	HD_TRY(hd_alloc(&list, (size_t)(2 * N), sizeof *list));
	HD_TRY(hd_alloc(&answers, (size_t)(4 * N), sizeof *answers));
	HD_TRY(hd_alloc(&windows, (size_t)(count * K), sizeof *windows));
	if (!all)
		HD_TRY(hd_alloc(&all, (size_t)count, sizeof *all));
	for (int64_t from = 0; from < count * K; from += N) {
		int64_t n = count * K - from < N ? count * K - from : N;
		HD_TRY(run_windows(windows + from, total, batcher, samples, K, from, n, list, answers));
		hd_progress_update(bar, (from + n) / K, NULL);
		if (stoppable && hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted");
			goto done;
		}
	}
	for (int64_t i = 0; i < count; i++)
		decode(&all[i], batcher->dataset, samples[i], fuse(windows + i * K, K));
	HD_TRY(hd_metrics_compute(out, all, (size_t)count));
	out->loss = total[0] / total[1];
	out->nll = (total[2] + total[3]) / total[1];
	out->log_term = total[2] / total[1];
	out->mse_term = total[3] / total[1];
done:
	if (bar)
		hd_progress_end(bar);
	if (all != predictions)
		free(all);
	free(windows);
	free(answers);
	free(list);
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
