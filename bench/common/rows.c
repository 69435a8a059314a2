/* SPDX-License-Identifier: Apache-2.0 */
/* What is printed of a timed operation. */
#include "bench/common/rows.h"

#include <math.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "host/common/json.h"
#include "host/common/version.h"

#define HOST_BOUND 0.9 /* of the time was spent handing calls over */

typedef struct rates {
	double bytes, gbs, gflops, share;
	bool host_bound;
} rates;

static rates rates_of(const hd_bench_row *r)
{
	bool narrow = r->dtype != HD_F32 && r->op->narrow_bytes;
	double flops = r->op->flops(&r->shape),
	       bytes = narrow ? r->op->narrow_bytes(&r->shape) : r->op->bytes(&r->shape),
	       s = r->graph_s > 0 ? r->graph_s : r->time.median;
	double by_memory = 1e-9 * bytes / hd_bench_memory_gbs(r->top),
	       by_products = 1e-9 * flops / hd_bench_product_gflops(r->top, r->dtype);
	return (rates){.bytes = bytes,
	        .gbs = 1e-9 * bytes / s,
	        .gflops = 1e-9 * flops / s,
	        .share = 100 * fmax(by_memory, by_products) / s,
	        .host_bound = !(r->graph_s > 0) && r->backend->own_memory && r->time.queue > HOST_BOUND * s};
}

void hd_bench_row_heading(FILE *to)
{
	fprintf(to, "%-21s %-32s %9s %5s %9s %9s %9s %9s %7s %7s %6s\n", "op", "shape", "us", "+-%", "p10", "p90",
	        "alone us", "graph us", "GB/s", "GFLOPs", "%top");
}

void hd_bench_row_print(const hd_bench_row *r, FILE *to)
{
	rates x = rates_of(r);
	char share[16], graph[16] = "-";
	if (r->graph_s > 0)
		snprintf(graph, sizeof graph, "%.1f", 1e6 * r->graph_s);
	snprintf(share, sizeof share, x.host_bound ? "(%.0f)" : "%.0f", x.share);
	fprintf(to, "%-21.21s %-32.32s %9.1f %5.1f %9.1f %9.1f %9.1f %9s %7.1f %7.1f %6s\n", r->op->name, r->text,
	        1e6 * r->time.median, 100 * r->time.half_width, 1e6 * r->time.p10, 1e6 * r->time.p90,
	        1e6 * r->alone.median, graph, x.gbs, x.gflops, share);
}

void hd_bench_row_csv_heading(FILE *to)
{
	fprintf(to,
	        "commit,backend,device,op,shape,dtype,median_us,interval_percent,p10_us,p90_us,samples,calls,alone_us,"
	        "queue_us,graph_us,gb_per_s,gflop_per_s,percent_of_ceiling\n");
}

void hd_bench_row_csv(const hd_bench_row *r, FILE *to)
{
	rates x = rates_of(r);
	fprintf(to, "%s,%s,\"%s\",%s,%s,%s,%.3f,%.2f,%.3f,%.3f,%d,%d,%.3f,%.3f,%.3f,%.3f,%.3f,%.2f\n", hd_commit,
	        r->backend->name, r->backend->tier, r->op->name, r->text, hd_bench_dtype_name(r->dtype),
	        1e6 * r->time.median, 100 * r->time.half_width, 1e6 * r->time.p10, 1e6 * r->time.p90, r->time.samples,
	        r->time.calls, 1e6 * r->alone.median, 1e6 * r->time.queue, 1e6 * r->graph_s, x.gbs, x.gflops, x.share);
}

json_t *hd_bench_row_json(const hd_bench_row *r)
{
	rates x = rates_of(r);
	json_t *sizes = json_array();
	for (const char *name = r->op->dims; *name; name += strcspn(name, " ") + (name[strcspn(name, " ")] == ' '))
		json_array_append_new(sizes, json_integer((json_int_t)r->shape.d[json_array_size(sizes)]));
	return json_pack(
	        "{s:s, s:s, s:s, s:o, s:s, s:f, s:f, s:b, s:f, s:f, s:i, s:i, s:f, s:f, s:o, s:f, s:f, s:f, s:b}", "op",
	        r->op->name, "shape", r->text, "dims", r->op->dims, "sizes", sizes, "dtype",
	        hd_bench_dtype_name(r->dtype), "median_us", 1e6 * r->time.median, "interval_percent",
	        100 * r->time.half_width, "settled", r->time.settled, "p10_us", 1e6 * r->time.p10, "p90_us",
	        1e6 * r->time.p90, "samples", r->time.samples, "calls", r->time.calls, "alone_us",
	        1e6 * r->alone.median, "queue_us", 1e6 * r->time.queue, "graph_us",
	        hd_json_number(r->graph_s > 0 ? 1e6 * r->graph_s : NAN), "gb_per_s", x.gbs, "gflop_per_s", x.gflops,
	        "percent_of_ceiling", x.share, "host_bound", x.host_bound);
}
