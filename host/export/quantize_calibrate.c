/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/quantize_calibrate.h"

#include <math.h>
#include <stdlib.h>

#include "host/common/memory.h"
#include "host/common/progress.h"

#define BATCH 16

static hd_status write_graph(const char *path, const hd_checkpoint *c, int opset, int products)
{
	hd_status st;
	hd_onnx *g = NULL;
	hd_onnx_value ranges;
	const hd_onnx_dim in[] = {
	        {.name = "batch"}, {.size = c->card.channels}, {.size = c->card.height}, {.size = c->settings.frames}};
	const hd_onnx_dim out[] = {{.name = "batch"}, {.size = 2 * (int64_t)products}};
	HD_TRY(hd_onnx_create(&g, opset, "calibration"));
	hd_onnx_value x = hd_onnx_input(g, "features", HD_ONNX_F32, 4, in);
	HD_TRY(hd_export_ranges(g, c, x, &ranges));
	hd_onnx_output(g, ranges, "ranges", HD_ONNX_F32, 2, out);
	HD_TRY(hd_onnx_write(g, path, HD_ONNX_EXTERNAL_AUTO));
done:
	hd_onnx_free(g);
	return st;
}

/* found (rows, products): of each row of a batch. */
static hd_status widen(hd_onnx_range *ranges, int products, const hd_run_tensor *found, int64_t rows)
{
	if (found->ndim != 2 || found->shape[0] != rows || found->shape[1] != 2 * (int64_t)products)
		return hd_fail(HD_E_DATA, "the calibration's answer is of another shape");
	for (int64_t i = 0; i < rows * products; i++) {
		hd_onnx_range *r = &ranges[i % products];
		float lo = found->data[2 * i], hi = found->data[2 * i + 1];
		if (!isfinite(lo) || !isfinite(hi))
			return hd_fail(HD_E_NONFINITE, "calibration: the input of matrix product %lld is not finite",
			        (long long)(i % products));
		r->lo = fminf(r->lo, lo);
		r->hi = fmaxf(r->hi, hi);
	}
	return HD_OK;
}

static hd_status run(hd_onnx_range *ranges, int products, hd_session *session, const hd_dataset *d,
        const int32_t *samples, int64_t count)
{
	hd_status st;
	float *features = NULL;
	int64_t row = d->cache.C * d->cache.H * d->features.frames;
	hd_progress *bar = hd_progress_start("calibrate", "sample", count);
	HD_TRY(hd_alloc(&features, (size_t)(BATCH * row), sizeof *features));
	for (int64_t at = 0; at < count; at += BATCH) {
		int64_t rows = count - at < BATCH ? count - at : BATCH;
		hd_run_tensor found = {0};
		for (int64_t i = 0; i < rows; i++)
			hd_onnx_model_window(features + i * row, d, samples[at + i], 0);
		st = hd_session_run(session,
		        &(hd_run_tensor){4, {rows, d->cache.C, d->cache.H, d->features.frames}, features}, &found);
		if (st == HD_OK)
			st = widen(ranges, products, &found, rows);
		free(found.data);
		HD_TRY(st);
		hd_progress_update(bar, at + rows, NULL);
	}
done:
	hd_progress_end(bar);
	free(features);
	return st;
}

hd_status hd_calibrate(hd_onnx_range *ranges, const hd_checkpoint *checkpoint, hd_runtime *runtime, const char *path,
        int opset, const hd_dataset *dataset, const int32_t *samples, int64_t count, int threads)
{
	hd_status st;
	hd_model_config config;
	hd_session *session = NULL;
	HD_TRY(hd_model_config_from(&config, &checkpoint->settings, &checkpoint->card, 1));
	int products = hd_export_product_count(&config.backbone);
	for (int i = 0; i < products; i++)
		ranges[i] = (hd_onnx_range){INFINITY, -INFINITY};
	HD_TRY(write_graph(path, checkpoint, opset, products));
	HD_TRY(hd_session_open(&session, runtime, path, HD_RUNTIME_ALL, threads));
	HD_TRY(run(ranges, products, session, dataset, samples, count));
done:
	hd_session_close(session);
	hd_onnx_remove(path);
	return st;
}
