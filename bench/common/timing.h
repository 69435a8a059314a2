/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How benchmarks take time: samples by the host's clock around calls and one wait for the device, caches flushed before
 * each, until the median is known well enough. One thread at a time; times in seconds.
 */
#ifndef HD_BENCH_TIMING_H
#define HD_BENCH_TIMING_H

#include <stdbool.h>

#include "heimdall/backend.h"

/*
 * When to stop: with at least `least` samples, as soon as the 95 % interval of the median (order statistics n/2 -+
 * 0.98 sqrt n, Hollander and Wolfe 1999, section 3.6) reaches no farther than half_width of the median to either side;
 * in any case after `most` samples, or after `limit_s` and three of them.
 */
typedef struct hd_bench_rule {
	double half_width;
	int least, most;
	double limit_s;
} hd_bench_rule;

#define HD_BENCH_SAMPLES_MAX 1000
#define HD_BENCH_RULE ((hd_bench_rule){.half_width = 0.01, .least = 10, .most = HD_BENCH_SAMPLES_MAX, .limit_s = 0.5})

typedef struct hd_bench_timing {
	double median, p10, p90; /* of one call */
	double half_width;       /* reached; relative */
	double queue; /* of one call, until the host was let go: where this is the median, the host is the limit */
	int samples;
	int calls;    /* per sample */
	bool settled; /* the rule's half width was reached */
} hd_bench_timing;

/* Memory larger than the caches, written between samples. bytes 0: what the back end's caches want. */
typedef struct hd_bench_flush {
	hd_backend *backend;
	void *memory;
	size_t bytes;
} hd_bench_flush;

hd_status hd_bench_flush_open(hd_bench_flush *out, hd_backend *backend, size_t bytes);
hd_status hd_bench_flush_run(hd_bench_flush *flush); /* on return all is written */
void hd_bench_flush_close(hd_bench_flush *flush);    /* NULL-safe in what it holds */

/* One call, queued; number: which of the sample's calls it is. */
typedef hd_status (*hd_bench_call)(void *context, int number);

/*
 * Times calls: each sample is a flush (flush NULL: none), then `calls` of them, then one sync. The first sample warms
 * up and is not counted.
 */
hd_status hd_bench_time(hd_bench_timing *out, hd_backend *backend, hd_bench_flush *flush, const hd_bench_rule *rule,
        int calls, hd_bench_call call, void *context);

#endif
