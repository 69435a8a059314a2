/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/evaluate.h"

#include <stdio.h>
#include <stdlib.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/stop.h"

static void decode(hd_prediction *p, const hd_dataset *d, int32_t sample, const float mu[2], const float sigma[2])
{
	const hd_data_card *card = &d->card;
	const hd_sample *s = &d->samples.samples[sample];
	double scale = card->frame.scale_m;
	p->sample = sample;
	p->latitude_deg = s->latitude_deg;
	p->longitude_deg = s->longitude_deg;
	hd_geo_from_local_m(&card->frame, (double)mu[0] * scale, (double)mu[1] * scale, &p->predicted_latitude_deg,
	        &p->predicted_longitude_deg);
	p->sigma_north_m = (double)sigma[0] * scale;
	p->sigma_east_m = (double)sigma[1] * scale;
	p->error_m = hd_geo_distance_m(
	        s->latitude_deg, s->longitude_deg, p->predicted_latitude_deg, p->predicted_longitude_deg);
	p->centre_error_m = hd_geo_distance_m(
	        s->latitude_deg, s->longitude_deg, card->centre_latitude_deg, card->centre_longitude_deg);
}

hd_status hd_evaluate(hd_metrics *out, hd_prediction *predictions, hd_batcher *batcher, const int32_t *samples,
        int64_t count, const char *label, bool stoppable)
{
	hd_status st = HD_OK;
	hd_backend *be = batcher->backend;
	const hd_model_io *io = hd_model_buffers(batcher->model);
	int64_t N = hd_model_get_config(batcher->model)->batch;
	hd_prediction *all = predictions;
	float *mu = NULL, *sigma = NULL, sums[4];
	double total[4] = {0};
	hd_progress *bar = label ? hd_progress_start(label, "sample", count) : NULL;
	HD_TRY(hd_alloc(&mu, (size_t)(2 * N), sizeof *mu));
	HD_TRY(hd_alloc(&sigma, (size_t)(2 * N), sizeof *sigma));
	if (!all)
		HD_TRY(hd_alloc(&all, (size_t)count, sizeof *all));
	for (int64_t from = 0; from < count; from += N) {
		int64_t n = count - from < N ? count - from : N;
		HD_TRY(hd_batcher_fill(batcher, samples + from, n, 0, 0, false));
		HD_TRY(hd_model_forward(batcher->model, false));
		HD_TRY(hd_model_loss(batcher->model, 1.0f));
		HD_TRY(be->download(be, mu, io->mu, (size_t)(2 * N) * sizeof *mu, NULL));
		HD_TRY(be->download(be, sigma, io->sigma, (size_t)(2 * N) * sizeof *sigma, NULL));
		HD_TRY(be->download(be, sums, io->sums, sizeof sums, NULL));
		HD_TRY(be->sync(be, NULL));
		for (int i = 0; i < 4; i++)
			total[i] += (double)sums[i];
		for (int64_t i = 0; i < n; i++)
			decode(&all[from + i], batcher->dataset, samples[from + i], mu + 2 * i, sigma + 2 * i);
		hd_progress_update(bar, from + n, NULL);
		if (stoppable && hd_stop_requested()) {
			st = hd_fail(HD_E_INTERRUPTED, "interrupted");
			goto done;
		}
	}
	HD_TRY(hd_metrics_compute(out, all, (size_t)count));
	out->loss = total[0] / total[1];
	out->log_term = total[2] / total[1];
	out->mse_term = total[3] / total[1];
done:
	if (bar)
		hd_progress_end(bar);
	if (all != predictions)
		free(all);
	free(sigma);
	free(mu);
	return st;
}

hd_status hd_predictions_write(const char *path, const hd_dataset *d, const hd_prediction *predictions, int64_t count)
{
	static const char *const names[] = {"train", "val", "test"};
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
		        names[s->split], p->latitude_deg, p->longitude_deg, p->predicted_latitude_deg,
		        p->predicted_longitude_deg, p->error_m, p->sigma_north_m, p->sigma_east_m);
	}
	fclose(to);
	hd_status st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}
