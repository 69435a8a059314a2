/* SPDX-License-Identifier: Apache-2.0 */
/* Samples until the median's interval is narrow enough. */
#include "bench/common/timing.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/statistics.h"

#define LINE_BYTES 64
#define HOST_FLUSH_LEAST ((size_t)64 << 20)
#define HOST_FLUSH_MOST ((size_t)128 << 20) /* a virtual machine may be told of caches that it shares with others */
#define DEVICE_FLUSH ((size_t)256 << 20)    /* twice the largest L2 there is */
#define INTERVAL 0.98                       /* 1.96 / 2: 95 % by the normal approximation of the binomial */
#define LIMITED_LEAST 3                     /* samples that a time limit leaves */

hd_status hd_bench_flush_open(hd_bench_flush *out, hd_backend *backend, size_t bytes)
{
	hd_status st = HD_OK;
	*out = (hd_bench_flush){.backend = backend, .bytes = bytes};
	if (!bytes && backend->own_memory) {
		size_t available, total;
		HD_TRY(backend->memory(backend, &available, &total));
		out->bytes = DEVICE_FLUSH < available / 4 ? DEVICE_FLUSH : available / 4;
	} else if (!bytes) {
		long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
		size_t wanted = cache > 0 ? 2 * (size_t)cache : 0;
		out->bytes = wanted < HOST_FLUSH_LEAST ? HOST_FLUSH_LEAST : wanted;
		out->bytes = out->bytes > HOST_FLUSH_MOST ? HOST_FLUSH_MOST : out->bytes;
	}
	HD_TRY(backend->alloc(backend, &out->memory, out->bytes));
	HD_TRY(backend->fill(backend, out->memory, 1, out->bytes, NULL));
	HD_TRY(backend->sync(backend, NULL));
done:
	return st;
}

/* On the CPU a line at a time: a fill of this size may write past the caches and leave what they hold. */
hd_status hd_bench_flush_run(hd_bench_flush *flush)
{
	hd_status st;
	hd_backend *b = flush->backend;
	if (!b->own_memory) {
		volatile unsigned char *p = flush->memory;
#pragma omp parallel for schedule(static)
		for (size_t i = 0; i < flush->bytes; i += LINE_BYTES)
			p[i] = (unsigned char)(p[i] + 1);
		return HD_OK;
	}
	HD_TRY(b->fill(b, flush->memory, 2, flush->bytes, NULL));
	HD_TRY(b->sync(b, NULL));
done:
	return st;
}

void hd_bench_flush_close(hd_bench_flush *flush)
{
	if (flush->backend)
		flush->backend->free(flush->backend, flush->memory);
	*flush = (hd_bench_flush){NULL};
}

/* Of sorted samples. */
static double half_width(const double *sorted, int n)
{
	double reach = INTERVAL * sqrt(n), middle = sorted[n / 2];
	int low = (int)floor(n / 2.0 - reach), high = (int)ceil(n / 2.0 + reach) - 1;
	low = low < 0 ? 0 : low;
	high = high > n - 1 ? n - 1 : high;
	return fmax(middle - sorted[low], sorted[high] - middle) / middle;
}

static void summarise(hd_bench_timing *out, const double *times, int n, const hd_bench_rule *rule)
{
	double sorted[HD_BENCH_SAMPLES_MAX];
	memcpy(sorted, times, (size_t)n * sizeof *times);
	out->median = hd_median(sorted, (size_t)n);
	out->p10 = hd_quantile(sorted, (size_t)n, 0.1);
	out->p90 = hd_quantile(sorted, (size_t)n, 0.9);
	out->half_width = half_width(sorted, n);
	out->samples = n;
	out->settled = n >= rule->least && out->half_width <= rule->half_width;
}

hd_status hd_bench_time(hd_bench_timing *out, hd_backend *backend, hd_bench_flush *flush, const hd_bench_rule *rule,
        int calls, hd_bench_call call, void *context)
{
	hd_status st = HD_OK;
	double times[HD_BENCH_SAMPLES_MAX], queues[HD_BENCH_SAMPLES_MAX], began = hd_now_s();
	int most = rule->most < HD_BENCH_SAMPLES_MAX ? rule->most : HD_BENCH_SAMPLES_MAX, n = -1, next = 2;
	*out = (hd_bench_timing){.calls = calls};
	while (n < most) {
		if (flush)
			HD_TRY(hd_bench_flush_run(flush));
		double start = hd_now_s();
		for (int i = 0; i < calls; i++)
			HD_TRY(call(context, i));
		double queued = hd_now_s();
		HD_TRY(backend->sync(backend, NULL));
		if (n >= 0) {
			times[n] = (hd_now_s() - start) / calls;
			queues[n] = (queued - start) / calls;
		}
		n++;
		bool late = hd_now_s() - began > rule->limit_s && n >= LIMITED_LEAST;
		/* looked at ever more rarely, so that looking costs nothing and does not pick a lucky moment */
		if (n > 0 && (late || n == most || (n >= rule->least && n >= next))) {
			summarise(out, times, n, rule);
			if (late || out->settled)
				break;
			next = n + n / 4 + 1;
		}
	}
	out->queue = hd_median(queues, (size_t)n);
done:
	return st;
}
