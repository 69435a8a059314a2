/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recordings of the CUDA back end (begin_capture to close_graph) on a GPU or, with the library that the emulation
 * makes, without one: a small training step, part of it on a second stream, recorded once and run with inputs that
 * change gives the bits of the same step queued operation by operation; what cannot be recorded is refused, and leaves
 * the streams usable. The last device is taken, so that more than one are told apart.
 *
 * graphs LIBRARY    ends with 0 where all is as it should be, 1 where not, 77 where there is no device.
 */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/plugin.h"

#define NO_DEVICE 77
#define STEPS 3

#define ROWS 24
#define C 32
#define K 48
#define FLAT ((int64_t)2 * HD_CHUNK) /* of the parameters, the first K*C of which are the weights */
#define HYPER ((int64_t)(sizeof(hd_adamw_hyper) / sizeof(float)))

/* Device memory of the step, in elements. What is kept from step to step comes first, then inputs, then the rest. */
#define BUFFERS(X)                                                                                                     \
	X(p, FLAT)                                                                                                     \
	X(m, FLAT)                                                                                                     \
	X(v, FLAT)                                                                                                     \
	X(ema, FLAT)                                                                                                   \
	X(skipped, 1)                                                                                                  \
	X(x, ROWS *C)                                                                                                  \
	X(hyper, HYPER)                                                                                                \
	X(gamma, K)                                                                                                    \
	X(bias, K)                                                                                                     \
	X(chunk, 2)                                                                                                    \
	X(y, ROWS *K)                                                                                                  \
	X(mean, ROWS)                                                                                                  \
	X(rstd, ROWS)                                                                                                  \
	X(normed, ROWS *K)                                                                                             \
	X(active, ROWS *K)                                                                                             \
	X(dx, ROWS *C)                                                                                                 \
	X(sum, ROWS *C)                                                                                                \
	X(g, FLAT)                                                                                                     \
	X(db, K)                                                                                                       \
	X(norm2, 1)

typedef struct buffers {
#define X(name, count) float *name;
	BUFFERS(X)
#undef X
} buffers;

typedef struct place {
	hd_backend *b;
	hd_stream *side;
	hd_event *forked, *joined;
	buffers d;
	void *work, *side_work;
} place;

/* What a step leaves behind, bit by bit. */
typedef struct outcome {
	float p[FLAT], m[FLAT], v[FLAT], ema[FLAT], sum[ROWS * C], norm2;
} outcome;

/* Values -1 .. 1 (splitmix64). */
static float value(uint64_t seed, int64_t i)
{
	uint64_t z = seed * 0x9e3779b97f4a7c15u + (uint64_t)i * 0xbf58476d1ce4e5b9u + 1;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (float)((double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1);
}

static hd_status put_values(place *a, float *to, uint64_t seed, int64_t n)
{
	float host[FLAT];
	for (int64_t i = 0; i < n; i++)
		host[i] = value(seed, i);
	return a->b->upload(a->b, to, host, (size_t)n * sizeof *host, NULL);
}

/* State, parameters and NaN in all that the step writes. */
static hd_status reset(place *a)
{
	hd_status st;
	buffers *d = &a->d;
	float ones[2] = {1, 1};
#define X(name, count) HD_TRY(a->b->fill(a->b, d->name, 0xff, (size_t)(count) * sizeof(float), NULL));
	BUFFERS(X)
#undef X
	float *zero[] = {d->m, d->v, d->g};
	for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
		HD_TRY(a->b->fill(a->b, zero[i], 0, FLAT * sizeof(float), NULL));
	HD_TRY(a->b->fill(a->b, d->skipped, 0, sizeof(float), NULL));
	HD_TRY(put_values(a, d->p, 1, FLAT));
	HD_TRY(put_values(a, d->ema, 2, FLAT));
	HD_TRY(put_values(a, d->gamma, 3, K));
	HD_TRY(put_values(a, d->bias, 4, K));
	HD_TRY(a->b->upload(a->b, d->chunk, ones, sizeof ones, NULL));
done:
	return st;
}

/* What changes from step to step. */
static hd_status feed(place *a, int step)
{
	hd_adamw_hyper hyper = {.lr = 1e-2f / (float)(step + 1),
	        .beta1 = 0.9f,
	        .beta2 = 0.999f,
	        .eps = 1e-8f,
	        .weight_decay = 1e-2f,
	        .max_norm = 1,
	        .correction1 = 1 - powf(0.9f, (float)step + 1),
	        .correction2 = 1 - powf(0.999f, (float)step + 1),
	        .ema_decay = 0.9f};
	hd_status st = put_values(a, a->d.x, 100 + (uint64_t)step, ROWS * C);
	return st == HD_OK ? a->b->upload(a->b, a->d.hyper, &hyper, sizeof hyper, NULL) : st;
}

static hd_status update(place *a)
{
	buffers *d = &a->d;
	return a->b->ops.adamw(d->p, d->m, d->v, d->ema, NULL, HD_F32, (int32_t *)(void *)d->skipped, d->g, d->norm2,
	        NULL, (hd_adamw_hyper *)(void *)d->hyper, d->chunk, d->chunk, FLAT, NULL);
}

/* Forward, both gradients of the product side by side, update. */
static hd_status queue_step(place *a)
{
	hd_status st;
	hd_backend *b = a->b;
	buffers *d = &a->d;
	HD_TRY(b->ops.linear_fwd(d->y, d->x, d->p, NULL, HD_F32, ROWS, C, K, NULL));
	HD_TRY(b->ops.layernorm_fwd(
	        d->normed, d->mean, d->rstd, d->y, d->gamma, d->bias, 1e-6f, HD_F32, ROWS, K, NULL));
	HD_TRY(b->ops.gelu_fwd(d->active, d->normed, HD_GELU_ERF, HD_F32, (int64_t)ROWS * K, NULL));
	HD_TRY(b->record(b, a->forked, NULL));
	HD_TRY(b->await(b, a->side, a->forked));
	HD_TRY(b->ops.linear_bwd_weight(d->g, d->db, d->active, d->x, 0, a->side_work, HD_F32, ROWS, C, K, a->side));
	HD_TRY(b->record(b, a->joined, a->side));
	HD_TRY(b->ops.linear_bwd_data(d->dx, d->active, d->p, HD_F32, ROWS, C, K, NULL));
	HD_TRY(b->ops.add(d->sum, d->dx, d->x, (int64_t)ROWS * C, NULL));
	HD_TRY(b->await(b, NULL, a->joined));
	HD_TRY(b->ops.sum_squares(d->norm2, d->g, a->work, FLAT, NULL));
	HD_TRY(update(a));
done:
	return st;
}

static hd_status take(place *a, outcome *out)
{
	hd_status st;
	HD_TRY(a->b->download(a->b, out->p, a->d.p, sizeof out->p, NULL));
	HD_TRY(a->b->download(a->b, out->m, a->d.m, sizeof out->m, NULL));
	HD_TRY(a->b->download(a->b, out->v, a->d.v, sizeof out->v, NULL));
	HD_TRY(a->b->download(a->b, out->ema, a->d.ema, sizeof out->ema, NULL));
	HD_TRY(a->b->download(a->b, out->sum, a->d.sum, sizeof out->sum, NULL));
	HD_TRY(a->b->download(a->b, &out->norm2, a->d.norm2, sizeof out->norm2, NULL));
done:
	return st;
}

/* All values of an outcome lie one behind the other. */
static hd_status same(const outcome *got, const outcome *want, int step)
{
	const float *g = (const float *)(const void *)got, *w = (const float *)(const void *)want;
	for (size_t i = 0; i < sizeof *got / sizeof *g; i++)
		if (memcmp(&g[i], &w[i], sizeof *g) != 0 || isnan(g[i]))
			return hd_fail(HD_E_FAILED, "step %d: value %zu got %.9g want %.9g", step, i, (double)g[i],
			        (double)w[i]);
	return HD_OK;
}

static outcome eager[STEPS];
static outcome got;

/* The steps from the start, queued one by one, have the outcome that they had before. */
static hd_status check_eager(place *a)
{
	hd_status st;
	HD_TRY(reset(a));
	for (int i = 0; i < STEPS; i++) {
		HD_TRY(feed(a, i));
		HD_TRY(queue_step(a));
		HD_TRY(take(a, &got));
		HD_TRY(same(&got, &eager[i], i));
	}
done:
	return st;
}

static hd_status check_graph(place *a, hd_graph *graph)
{
	hd_status st;
	HD_TRY(reset(a));
	for (int i = 0; i < STEPS; i++) {
		HD_TRY(feed(a, i));
		HD_TRY(a->b->run_graph(a->b, graph));
		HD_TRY(take(a, &got));
		HD_TRY(same(&got, &eager[i], i));
		/* other work, which leaves nothing of the step's values between its first and its last operation */
		HD_TRY(a->b->fill(a->b, a->d.y, 0x7f, (size_t)ROWS * K * sizeof(float), NULL));
		HD_TRY(a->b->ops.linear_fwd(a->d.active, a->d.x, a->d.p, NULL, HD_F32, ROWS, C, K, NULL));
		HD_TRY(a->b->fill(a->b, a->d.g, 0xff, (size_t)K * C * sizeof(float), NULL));
	}
done:
	return st;
}

/* ---- tests ---- */

static hd_status replays(place *a)
{
	hd_status st;
	hd_graph *graph = NULL;
	static float before[FLAT], after[FLAT];
	HD_TRY(reset(a));
	HD_TRY(feed(a, 0));
	HD_TRY(a->b->download(a->b, before, a->d.p, sizeof before, NULL));
	HD_TRY(a->b->begin_capture(a->b));
	HD_TRY(queue_step(a));
	HD_TRY(a->b->end_capture(a->b, &graph));
	HD_TRY(a->b->download(a->b, after, a->d.p, sizeof after, NULL));
	if (memcmp(before, after, sizeof before) != 0) {
		st = hd_fail(HD_E_FAILED, "what was recorded has run");
		goto done;
	}
	HD_TRY(check_graph(a, graph));
	HD_TRY(check_eager(a));
	HD_TRY(check_graph(a, graph));
	/* several runs in a row, none of which the host waits for */
	HD_TRY(reset(a));
	HD_TRY(feed(a, 0));
	for (int i = 0; i < 2; i++)
		HD_TRY(a->b->run_graph(a->b, graph));
	HD_TRY(take(a, &got));
	HD_TRY(reset(a));
	HD_TRY(feed(a, 0));
	for (int i = 0; i < 2; i++)
		HD_TRY(queue_step(a));
	outcome *twice = &eager[STEPS - 1], kept = *twice;
	st = take(a, twice);
	if (st == HD_OK)
		st = same(&got, twice, 2);
	*twice = kept;
done:
	a->b->close_graph(a->b, graph);
	return st;
}

/* An error with this status and text. */
static hd_status refused(hd_status got_status, const char *text)
{
	if (got_status == HD_OK)
		return hd_fail(HD_E_FAILED, "'%s' was to be refused", text);
	if (!strstr(hd_error_text(), text)) {
		char other[512];
		snprintf(other, sizeof other, "%s", hd_error_text());
		return hd_fail(HD_E_FAILED, "refused with '%s', without '%s'", other, text);
	}
	return HD_OK;
}

static hd_status nested(place *a)
{
	hd_status st;
	hd_graph *graph = NULL;
	HD_TRY(refused(a->b->end_capture(a->b, &graph), "nothing is being recorded"));
	HD_TRY(a->b->begin_capture(a->b));
	HD_TRY(refused(a->b->begin_capture(a->b), "a recording is under way"));
	HD_TRY(queue_step(a));
	HD_TRY(a->b->end_capture(a->b, &graph));
	HD_TRY(check_graph(a, graph));
done:
	a->b->close_graph(a->b, graph);
	return st;
}

/* What cannot be recorded; `call` names which. */
static hd_status forbidden(place *a, const char *call)
{
	hd_backend *b = a->b;
	float host[4] = {0};
	void *memory = NULL;
	hd_stream *stream = NULL;
	hd_graph *graph = NULL;
	if (!strcmp(call, "upload"))
		return b->upload(b, a->d.x, host, sizeof host, NULL);
	if (!strcmp(call, "download"))
		return b->download(b, host, a->d.x, sizeof host, a->side);
	if (!strcmp(call, "sync"))
		return b->sync(b, NULL);
	if (!strcmp(call, "wait"))
		return b->wait(b, a->forked);
	if (!strcmp(call, "alloc"))
		return b->alloc(b, &memory, 64);
	if (!strcmp(call, "alloc_host"))
		return b->alloc_host(b, &memory, 64);
	if (!strcmp(call, "open_stream"))
		return b->open_stream(b, &stream);
	if (!strcmp(call, "await"))
		return b->await(b, NULL, a->joined);
	return b->run_graph(b, graph);
}

static hd_status refuse(place *a, const char *call)
{
	hd_status st;
	hd_graph *graph = NULL;
	char text[32];
	snprintf(text, sizeof text, "%s: ", call);
	/* of before the recording */
	HD_TRY(a->b->record(a->b, a->joined, a->side));
	HD_TRY(a->b->begin_capture(a->b));
	HD_TRY(a->b->ops.add(a->d.sum, a->d.dx, a->d.x, (int64_t)ROWS * C, NULL));
	HD_TRY(refused(forbidden(a, call), text));
	/* the stream is usable, also where nobody has ended the recording yet */
	HD_TRY(a->b->sync(a->b, NULL));
	HD_TRY(refused(a->b->begin_capture(a->b), "a recording is under way"));
	HD_TRY(refused(a->b->end_capture(a->b, &graph), text));
	if (graph)
		return hd_fail(HD_E_FAILED, "%s: a graph came of it", call);
	HD_TRY(check_eager(a));
done:
	return st;
}

static hd_status refusals(place *a)
{
	static const char *const calls[] = {
	        "upload", "download", "sync", "wait", "alloc", "alloc_host", "open_stream", "await", "run_graph"};
	hd_status st = HD_OK;
	for (size_t i = 0; i < sizeof calls / sizeof *calls && st == HD_OK; i++)
		st = refuse(a, calls[i]);
	return st;
}

/* What a way out after an error does: memory and streams are let go inside of a recording. */
static hd_status clean_up(place *a)
{
	hd_status st;
	void *memory = NULL;
	hd_stream *stream = NULL;
	hd_graph *graph = NULL;
	HD_TRY(a->b->alloc(a->b, &memory, 64));
	HD_TRY(a->b->open_stream(a->b, &stream));
	HD_TRY(a->b->begin_capture(a->b));
	HD_TRY(a->b->record(a->b, a->forked, NULL));
	HD_TRY(a->b->await(a->b, stream, a->forked));
	HD_TRY(a->b->fill(a->b, memory, 0, 64, stream));
	a->b->close_stream(a->b, stream);
	a->b->free(a->b, memory);
	HD_TRY(refused(a->b->end_capture(a->b, &graph), "close_stream: "));
	HD_TRY(check_eager(a));
done:
	return st;
}

static hd_status unjoined(place *a)
{
	hd_status st;
	hd_graph *graph = NULL;
	HD_TRY(a->b->begin_capture(a->b));
	HD_TRY(a->b->record(a->b, a->forked, NULL));
	HD_TRY(a->b->await(a->b, a->side, a->forked));
	HD_TRY(a->b->fill(a->b, a->d.y, 0, 64, a->side));
	HD_TRY(refused(a->b->end_capture(a->b, &graph), "the main one does not await it"));
	HD_TRY(check_eager(a));
done:
	return st;
}

/* ---- other threads ---- */

typedef struct other {
	place *a;
	hd_status on_its_own, on_the_main;
	char text[512];
} other;

/* What a writer does meanwhile: memory, a stream, copies, events, an operation. */
static hd_status work_beside(place *a)
{
	hd_status st;
	hd_backend *b = a->b;
	hd_stream *stream = NULL;
	hd_event *event = NULL;
	float *memory = NULL, host[64], *pinned = NULL;
	for (int i = 0; i < 64; i++)
		host[i] = (float)i;
	HD_TRY(b->open_stream(b, &stream));
	HD_TRY(b->open_event(b, &event));
	HD_TRY(b->alloc(b, (void **)&memory, sizeof host));
	HD_TRY(b->alloc_host(b, (void **)&pinned, sizeof host));
	HD_TRY(b->upload(b, memory, host, sizeof host, stream));
	HD_TRY(b->ops.gelu_fwd(memory, memory, HD_GELU_ERF, HD_F32, 0, stream));
	HD_TRY(b->copy(b, pinned, memory, sizeof host, stream));
	HD_TRY(b->record(b, event, stream));
	HD_TRY(b->wait(b, event));
	if (memcmp(pinned, host, sizeof host) != 0)
		st = hd_fail(HD_E_FAILED, "another thread's copy came back wrong");
done:
	b->free_host(b, pinned);
	b->free(b, memory);
	b->close_event(b, event);
	b->close_stream(b, stream);
	return st;
}

static void *run_other(void *argument)
{
	other *o = argument;
	o->on_its_own = work_beside(o->a);
	snprintf(o->text, sizeof o->text, "%s", o->on_its_own != HD_OK ? hd_error_text() : "");
	return NULL;
}

static void *run_on_main(void *argument)
{
	other *o = argument;
	float zero = 0;
	o->on_the_main = o->a->b->upload(o->a->b, o->a->d.x, &zero, sizeof zero, NULL);
	return NULL;
}

static hd_status threads(place *a)
{
	hd_status st;
	hd_graph *graph = NULL;
	pthread_t thread;
	other o = {.a = a};
	HD_TRY(a->b->begin_capture(a->b));
	if (pthread_create(&thread, NULL, run_other, &o) == 0)
		pthread_join(thread, NULL);
	HD_TRY(queue_step(a));
	HD_TRY(a->b->end_capture(a->b, &graph));
	if (o.on_its_own != HD_OK) {
		st = hd_fail(HD_E_FAILED, "beside a recording: %s", o.text);
		goto done;
	}
	HD_TRY(check_graph(a, graph));
	a->b->close_graph(a->b, graph);
	HD_TRY(a->b->begin_capture(a->b));
	if (pthread_create(&thread, NULL, run_on_main, &o) == 0)
		pthread_join(thread, NULL);
	HD_TRY(refused(a->b->end_capture(a->b, &graph), "upload: "));
	if (o.on_the_main == HD_OK)
		st = hd_fail(HD_E_FAILED, "another thread's upload went into the recording");
	HD_TRY(check_eager(a));
done:
	a->b->close_graph(a->b, graph);
	return st;
}

/* ---- */

static const struct {
	const char *name;
	hd_status (*run)(place *a);
} tests[] = {{"replays", replays}, {"nested", nested}, {"refusals", refusals}, {"clean-up", clean_up},
        {"unjoined", unjoined}, {"threads", threads}};

static void close_place(place *a)
{
	hd_backend *b = a->b;
#define X(name, count) b->free(b, a->d.name);
	BUFFERS(X)
#undef X
	b->free(b, a->side_work);
	b->free(b, a->work);
	b->close_event(b, a->joined);
	b->close_event(b, a->forked);
	b->close_stream(b, a->side);
}

static hd_status open_place(place *out, hd_backend *b)
{
	hd_status st;
	*out = (place){.b = b};
	HD_TRY(b->open_stream(b, &out->side));
	HD_TRY(b->open_event(b, &out->forked));
	HD_TRY(b->open_event(b, &out->joined));
	HD_TRY(b->alloc(b, &out->work, b->ops.sum_squares_work(FLAT)));
	HD_TRY(b->alloc(b, &out->side_work, b->ops.linear_bwd_weight_work(ROWS, C, K)));
#define X(name, count) HD_TRY(b->alloc(b, (void **)&out->d.name, (size_t)(count) * sizeof(float)));
	BUFFERS(X)
#undef X
	HD_TRY(reset(out));
	for (int i = 0; i < STEPS; i++) {
		HD_TRY(feed(out, i));
		HD_TRY(queue_step(out));
		HD_TRY(take(out, &eager[i]));
	}
done:
	return st;
}

static int run_tests(hd_backend *b)
{
	int failed = 0;
	place a;
	hd_status st = open_place(&a, b);
	if (st != HD_OK)
		printf("FAIL without a recording: %s\n", hd_error_text());
	for (size_t i = 0; st == HD_OK && i < sizeof tests / sizeof *tests; i++) {
		if (tests[i].run(&a) == HD_OK)
			continue;
		printf("FAIL %s: %s\n", tests[i].name, hd_error_text());
		failed++;
		/* the next one finds nothing recorded */
		hd_graph *graph;
		if (b->end_capture(b, &graph) == HD_OK)
			b->close_graph(b, graph);
	}
	close_place(&a);
	return failed + (st != HD_OK);
}

int main(int argc, char **argv)
{
	char why[512];
	hd_backend *b;
	if (argc != 2) {
		fprintf(stderr, "usage: graphs LIBRARY\n");
		return 2;
	}
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	const hd_cuda_plugin *(*get)(void) = NULL;
	if (library)
		*(void **)&get = dlsym(library, HD_CUDA_PLUGIN_SYMBOL);
	if (!get) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	int count = get()->device_count(why, sizeof why), failed = 0;
	if (count < 1) {
		printf("no device: %s\n", why);
		return NO_DEVICE;
	}
	/* the second time with a recording left open at the end */
	for (int i = 0; i < 2 && !failed; i++) {
		if (get()->open(&b, count - 1, hd_fail) != HD_OK) {
			fprintf(stderr, "%s\n", hd_error_text());
			return 1;
		}
		failed += run_tests(b);
		if (b->begin_capture(b) != HD_OK)
			failed++;
		b->close(b);
	}
	printf("graphs: %zu tests, %d failed\n", sizeof tests / sizeof *tests, failed);
	return failed != 0;
}
