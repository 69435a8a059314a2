/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU back end: which tier runs, and memory that stands in for device memory. */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/backend.h"
#include "kernels/cpu/scratch.h"

#define ALIGN_BYTES 64

#if defined(__x86_64__)
extern const hd_ops hd_cpu_v2_ops, hd_cpu_v3_ops, hd_cpu_v4_ops;
#else
extern const hd_ops hd_cpu_base_ops;
#endif

typedef struct tier {
	const char *name;
	const hd_ops *ops;
} tier;

static const tier tiers[] = {
#if defined(__x86_64__)
        {"v2", &hd_cpu_v2_ops}, {"v3", &hd_cpu_v3_ops}, {"v4", &hd_cpu_v4_ops}
#else
        {"base", &hd_cpu_base_ops}
#endif
};
#define TIER_COUNT ((int)(sizeof tiers / sizeof *tiers))

#if defined(__x86_64__)
/* Conversions of half precision, which clang's __builtin_cpu_supports does not know. */
static bool has_f16c(void)
{
	unsigned a, b, c, d;
	return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

/* How many of the tiers this processor can run, at least one. */
static int supported_tiers(void)
{
#if defined(__x86_64__)
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2") ||
	        !has_f16c())
		return 1;
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
	        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
	        !__builtin_cpu_supports("avx512cd"))
		return 2;
#endif
	return TIER_COUNT;
}

static hd_status cpu_alloc(hd_backend *self, void **out, size_t bytes)
{
	(void)self;
	if (bytes > SIZE_MAX - ALIGN_BYTES)
		return hd_fail(HD_E_MEMORY, "out of memory: %zu bytes", bytes);
	*out = aligned_alloc(ALIGN_BYTES, (bytes + ALIGN_BYTES) / ALIGN_BYTES * ALIGN_BYTES);
	return *out ? HD_OK : hd_fail(HD_E_MEMORY, "out of memory: %zu bytes", bytes);
}

static void cpu_free(hd_backend *self, void *p)
{
	(void)self;
	free(p);
}

static hd_status cpu_copy(hd_backend *self, void *dst, const void *src, size_t bytes, hd_stream *stream)
{
	(void)self;
	(void)stream;
	if (bytes)
		memcpy(dst, src, bytes);
	return HD_OK;
}

static hd_status cpu_fill(hd_backend *self, void *dst, int byte, size_t bytes, hd_stream *stream)
{
	(void)self;
	(void)stream;
	if (bytes)
		memset(dst, byte, bytes);
	return HD_OK;
}

static hd_status cpu_sync(hd_backend *self, hd_stream *stream)
{
	(void)self;
	(void)stream;
	return HD_OK;
}

/* What Linux would give without swapping; where it does not say, all of it. */
static hd_status cpu_memory(hd_backend *self, size_t *available, size_t *total)
{
	(void)self;
	char line[128];
	unsigned long long kib;
	*total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
	*available = *total;
	FILE *file = fopen("/proc/meminfo", "r");
	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			*available = (size_t)kib << 10;
	if (file)
		fclose(file);
	return HD_OK;
}

/* One stream, on which everything is done on return: there is nothing to open and nothing to wait for. */
static hd_status cpu_open_stream(hd_backend *self, hd_stream **out)
{
	(void)self;
	*out = NULL;
	return HD_OK;
}

static void cpu_close_stream(hd_backend *self, hd_stream *stream)
{
	(void)self;
	(void)stream;
}

static hd_status cpu_open_event(hd_backend *self, hd_event **out)
{
	(void)self;
	*out = NULL;
	return HD_OK;
}

static void cpu_close_event(hd_backend *self, hd_event *event)
{
	(void)self;
	(void)event;
}

static hd_status cpu_record(hd_backend *self, hd_event *event, hd_stream *stream)
{
	(void)self;
	(void)event;
	(void)stream;
	return HD_OK;
}

static hd_status cpu_await(hd_backend *self, hd_stream *stream, hd_event *event)
{
	return cpu_record(self, event, stream);
}

static hd_status cpu_wait(hd_backend *self, hd_event *event)
{
	return cpu_record(self, event, NULL);
}

static void cpu_close(hd_backend *self)
{
	hd_cpu_scratch_let_go();
	free(self);
}

static hd_status open_tier(hd_backend **out, const tier *t, int threads)
{
	const char *own = getenv("HD_CPU_OWN_MEMORY");
	hd_backend *b = calloc(1, sizeof *b);
	if (!b)
		return hd_fail(HD_E_MEMORY, "out of memory for the CPU back end");
	*b = (hd_backend){
	        .name = "cpu",
	        .tier = t->name,
	        .threads = threads > 0 ? threads : omp_get_num_procs(),
	        .own_memory = own && !strcmp(own, "1"),
	        .ops = *t->ops,
	        .alloc = cpu_alloc,
	        .free = cpu_free,
	        .upload = cpu_copy,
	        .download = cpu_copy,
	        .copy = cpu_copy,
	        .fill = cpu_fill,
	        .sync = cpu_sync,
	        .memory = cpu_memory,

	        .alloc_host = cpu_alloc,
	        .free_host = cpu_free,
	        .open_stream = cpu_open_stream,
	        .close_stream = cpu_close_stream,
	        .open_event = cpu_open_event,
	        .close_event = cpu_close_event,
	        .record = cpu_record,
	        .await = cpu_await,
	        .wait = cpu_wait,
	        .close = cpu_close,
	};
	hd_cpu_scratch_hold();
	omp_set_dynamic(0);
	omp_set_num_threads(b->threads);
	*out = b;
	return HD_OK;
}

/* Index of a tier's name in this build, TIER_COUNT where it has none. */
static int find_tier(const char *name)
{
	int i = 0;
	while (i < TIER_COUNT && strcmp(tiers[i].name, name) != 0)
		i++;
	return i;
}

hd_status hd_backend_open_cpu(hd_backend **out, const char *tier_name, int threads)
{
	*out = NULL;
	int supported = supported_tiers(), wanted = supported - 1;
	const char *mask = getenv("HEIMDALL_CPU_TIER");
	if (tier_name) {
		wanted = find_tier(tier_name);
		if (wanted == TIER_COUNT)
			return hd_fail(HD_E_UNSUPPORTED, "no instruction tier '%s' in this build", tier_name);
		if (wanted >= supported)
			return hd_fail(HD_E_UNSUPPORTED, "this processor has no instruction tier %s", tier_name);
	} else if (mask && *mask) {
		int highest = find_tier(mask);
		if (highest == TIER_COUNT)
			return hd_fail(HD_E_USAGE, "HEIMDALL_CPU_TIER: no instruction tier '%s' in this build", mask);
		wanted = highest < wanted ? highest : wanted;
	}
	return open_tier(out, &tiers[wanted], threads);
}
