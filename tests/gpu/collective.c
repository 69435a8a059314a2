/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums over processes by the CUDA back end's table of collectives, a process and a device per rank: emulated (make
 * test-emu) or on as many GPUs (make test-gpu). The processes are made before anything of CUDA starts.
 *
 * collective LIBRARY    ends with 0 where all is as it should be, 1 where not, 77 where there are not three devices
 *                       or no NCCL.
 */
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heimdall/collective.h"
#include "kernels/cuda/plugin.h"
#include "kernels/half.h"

#define MOST_RANKS 3
#define SKIPPED 77
#define HANG_S 90      /* a process that takes longer is ended */
#define PATIENCE_S 3.0 /* of a group */
#define SLACK_S 20.0   /* of a busy machine */
#define GUARD 5        /* elements behind a buffer */

/* What the processes of a group see of each other. */
typedef struct shared {
	_Atomic bool ready; /* the id is there */
	hd_collective_id id;
	uint64_t digest[MOST_RANKS]; /* of the results' bits */
} shared;

typedef struct place {
	hd_backend *b;
	const hd_collective_ops *ops;
	hd_collective *group;
	shared *all;
	int ranks, rank;
} place;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float bf16_of(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	bits &= 0xffff0000u;
	memcpy(&value, &bits, sizeof bits);
	return value;
}

/* Element i of a rank, -1 .. 1 (splitmix64); representable in bfloat16 too. */
static float element(int rank, int64_t i)
{
	uint64_t z = (uint64_t)i * 0x9e3779b97f4a7c15u + (uint64_t)rank * 0xbf58476d1ce4e5b9u + 1;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return bf16_of((float)((double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1));
}

static void store(void *to, hd_dtype dt, int64_t i, float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if (dt == HD_F32)
		((float *)to)[i] = value;
	else
		((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
}

static float load(const void *from, hd_dtype dt, int64_t i)
{
	return dt == HD_F32 ? ((const float *)from)[i] : hd_bf16_to_float(((const uint16_t *)from)[i]);
}

/* One reduction's memory. */
typedef struct reduction {
	hd_dtype dt;
	int64_t n;
	void *host, *src, *dst; /* (n + GUARD) each; dst may be src */
} reduction;

/* src holds the rank's elements, dst NaN; both with NaN behind them. */
static hd_status prepare(reduction *out, place *p, hd_dtype dt, int64_t n, bool in_place)
{
	hd_status st;
	size_t bytes = (size_t)(n + GUARD) * hd_dtype_bytes(dt);
	*out = (reduction){.dt = dt, .n = n, .host = malloc(bytes)};
	if (!out->host)
		return hd_fail(HD_E_MEMORY, "out of memory");
	memset(out->host, 0xff, bytes);
	for (int64_t i = 0; i < n; i++)
		store(out->host, dt, i, element(p->rank, i));
	HD_TRY(p->b->alloc(p->b, &out->src, bytes));
	out->dst = out->src;
	HD_TRY(p->b->upload(p->b, out->src, out->host, bytes, NULL));
	if (in_place)
		goto done;
	HD_TRY(p->b->alloc(p->b, &out->dst, bytes));
	HD_TRY(p->b->fill(p->b, out->dst, 0xff, bytes, NULL));
done:
	return st;
}

static void release(reduction *r, place *p)
{
	if (r->dst != r->src)
		p->b->free(p->b, r->dst);
	p->b->free(p->b, r->src);
	free(r->host);
	*r = (reduction){0};
}

/* ranks - 1 additions, each rounded to the dtype: u sum |terms| for each, to first order, and 1 % for the others. */
static hd_status compare(place *p, const reduction *r, const void *got)
{
	double unit = r->dt == HD_F32 ? 0x1p-24 : 0x1p-8;
	for (int64_t i = 0; i < r->n; i++) {
		double want = 0, size = 0, value = (double)load(got, r->dt, i);
		for (int rank = 0; rank < p->ranks; rank++) {
			want += (double)element(rank, i);
			size += fabs((double)element(rank, i));
		}
		double bound = 1.01 * (p->ranks - 1) * unit * size;
		if (!(fabs(value - want) <= bound))
			return hd_fail(HD_E_FAILED, "%s, n %ld: index %ld got %.9g want %.9g bound %.3g",
			        r->dt == HD_F32 ? "float32" : "bfloat16", (long)r->n, (long)i, value, want, bound);
	}
	for (int64_t i = r->n; i < r->n + GUARD; i++)
		if (!isnan(load(got, r->dt, i)))
			return hd_fail(HD_E_FAILED, "n %ld: written behind its end", (long)r->n);
	return HD_OK;
}

/* The sums, the source where it is apart; bits go into the digest. */
static hd_status inspect(place *p, const reduction *r)
{
	hd_status st;
	size_t bytes = (size_t)(r->n + GUARD) * hd_dtype_bytes(r->dt);
	unsigned char *got = malloc(bytes);
	if (!got)
		return hd_fail(HD_E_MEMORY, "out of memory");
	HD_TRY(p->b->download(p->b, got, r->dst, bytes, NULL));
	HD_TRY(compare(p, r, got));
	/* FNV-1a */
	for (size_t i = 0; i < bytes; i++)
		p->all->digest[p->rank] = (p->all->digest[p->rank] ^ got[i]) * 0x100000001b3u;
	HD_TRY(p->b->download(p->b, got, r->src, bytes, NULL));
	if (r->src != r->dst && memcmp(got, r->host, bytes) != 0)
		st = hd_fail(HD_E_FAILED, "n %ld: the source has changed", (long)r->n);
done:
	free(got);
	return st;
}

static hd_status join(place *p)
{
	return p->ops->open(p->b, &p->group, &p->all->id, p->ranks, p->rank, PATIENCE_S);
}

/* ---- cases, each run by every rank ---- */

static const int64_t sizes[] = {1, 2, 7, 1001, 65536, 200003};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

static hd_status sums(place *p)
{
	hd_status st;
	reduction r = {0};
	HD_TRY(join(p));
	for (int i = 0; i < 4 * SIZES; i++) {
		HD_TRY(prepare(&r, p, i % 2 ? HD_BF16 : HD_F32, sizes[i / 4], i / 2 % 2));
		HD_TRY(p->ops->all_reduce(p->group, r.dst, r.src, r.dt, r.n, NULL));
		HD_TRY(p->ops->wait(p->group, NULL));
		HD_TRY(inspect(p, &r));
		release(&r, p);
	}
	HD_TRY(p->ops->check(p->group));
	if (p->ops->all_reduce(p->group, NULL, NULL, HD_F16, 0, NULL) != HD_E_UNSUPPORTED)
		st = hd_fail(HD_E_FAILED, "half precision was taken");
done:
	release(&r, p);
	return st;
}

/* All sizes as one, on a stream of its own. */
static hd_status group(place *p)
{
	hd_status st;
	hd_stream *stream = NULL;
	reduction r[SIZES] = {{0}};
	HD_TRY(join(p));
	HD_TRY(p->b->open_stream(p->b, &stream));
	for (int i = 0; i < SIZES; i++)
		HD_TRY(prepare(&r[i], p, i % 2 ? HD_BF16 : HD_F32, sizes[i], true));
	HD_TRY(p->b->sync(p->b, NULL));
	HD_TRY(p->ops->begin_group(p->group));
	for (int i = 0; i < SIZES; i++)
		HD_TRY(p->ops->all_reduce(p->group, r[i].dst, r[i].src, r[i].dt, r[i].n, stream));
	HD_TRY(p->ops->end_group(p->group));
	HD_TRY(p->ops->wait(p->group, stream));
	for (int i = 0; i < SIZES; i++)
		HD_TRY(inspect(p, &r[i]));
done:
	for (int i = 0; i < SIZES; i++)
		release(&r[i], p);
	p->b->close_stream(p->b, stream);
	return st;
}

static hd_status expect(const char *what, hd_status got, hd_status want, const char *text)
{
	if (got == want && (got == HD_OK || strstr(hd_error_text(), text)))
		return HD_OK;
	return hd_fail(HD_E_FAILED, "%s: got status %d (%s), want %d (%s)", what, (int)got,
	        got == HD_OK ? "" : hd_error_text(), (int)want, text);
}

/* The last rank ends in the middle: the others get an error in time, and their devices go on. */
static hd_status gone(place *p)
{
	hd_status st;
	reduction r = {0};
	HD_TRY(join(p));
	HD_TRY(prepare(&r, p, HD_F32, 1001, false));
	if (p->rank == p->ranks - 1)
		_exit(0);
	double start = now();
	st = p->ops->all_reduce(p->group, r.dst, r.src, r.dt, r.n, NULL);
	if (st == HD_OK)
		st = p->ops->wait(p->group, NULL);
	double took = now() - start;
	HD_TRY(expect("a rank is gone", st, HD_E_FAILED, "rank"));
	if (took > PATIENCE_S + SLACK_S) {
		st = hd_fail(HD_E_FAILED, "a rank is gone: known after %.1f s only", took);
		goto done;
	}
	HD_TRY(expect(
	        "a lost group", p->ops->all_reduce(p->group, r.dst, r.src, r.dt, r.n, NULL), HD_E_FAILED, "given up"));
	HD_TRY(expect("a lost group", p->ops->check(p->group), HD_E_FAILED, "given up"));
	HD_TRY(p->b->ops.add(r.dst, r.src, r.src, r.n, NULL));
	HD_TRY(p->b->sync(p->b, NULL));
done:
	release(&r, p);
	return st;
}

/* The last rank never joins. */
static hd_status absent(place *p)
{
	if (p->rank == p->ranks - 1)
		return HD_OK;
	double start = now();
	/* by its own limit, or by that of a rank that came before it */
	hd_status st = expect("a rank is absent", join(p), HD_E_FAILED, "joining the group, rank");
	double took = now() - start;
	if (st == HD_OK && !(took >= PATIENCE_S / 2 && took <= PATIENCE_S + SLACK_S))
		st = hd_fail(HD_E_FAILED, "a rank is absent: %.1f s, limit %g s", took, PATIENCE_S);
	return st;
}

/* A stream that is not done in time; the emulation's is slow where work runs late. */
static hd_status slow(place *p)
{
	hd_status st;
	reduction r = {0};
	if (!getenv("HD_EMU_LAZY"))
		return HD_OK;
	HD_TRY(p->ops->open(p->b, &p->group, &p->all->id, p->ranks, p->rank, 1e-9));
	HD_TRY(prepare(&r, p, HD_F32, 1001, false));
	HD_TRY(p->ops->all_reduce(p->group, r.dst, r.src, r.dt, r.n, NULL));
	HD_TRY(expect("a slow stream", p->ops->wait(p->group, NULL), HD_E_FAILED, "have not come within"));
done:
	release(&r, p);
	return st;
}

static hd_status usage(place *p)
{
	hd_status st;
	const hd_collective_id *id = &p->all->id;
	HD_TRY(expect("rank 1 of 1", p->ops->open(p->b, &p->group, id, 1, 1, 1), HD_E_USAGE, "rank 1 of 1"));
	HD_TRY(expect("0 seconds", p->ops->open(p->b, &p->group, id, 1, 0, 0), HD_E_USAGE, "within 0 s"));
done:
	return st;
}

/* No NCCL: errors that say so, and the notes once. */
static hd_status missing(place *p)
{
	hd_status st;
	char notes[256];
	hd_collective_id id;
	p->b->notes(p->b, notes, sizeof notes);
	HD_TRY(expect("without NCCL", p->ops->make_id(p->b, &id), HD_E_UNSUPPORTED, "libnccl.so.2"));
	HD_TRY(expect("without NCCL", join(p), HD_E_UNSUPPORTED, "libnccl.so.2"));
	if (!strstr(p->ops->text(), "no NCCL") || !p->b->notes(p->b, notes, sizeof notes) || !strstr(notes, "no NCCL"))
		return hd_fail(HD_E_FAILED, "without NCCL: the notes do not say so: '%s'", notes);
	if (p->b->notes(p->b, notes, sizeof notes))
		return hd_fail(HD_E_FAILED, "without NCCL: the notes say it twice: '%s'", notes);
done:
	return st;
}

/* ---- running ---- */

typedef struct test {
	const char *name;
	hd_status (*run)(place *p);
	int ranks[3]; /* ends with 0 */
} test;

static const test tests[] = {{"sums", sums, {2, 3}}, {"sums of one", sums, {1}}, {"group", group, {2, 3}},
        {"rank gone", gone, {2, 3}}, {"rank absent", absent, {2, 3}}, {"slow stream", slow, {1}},
        {"usage", usage, {1}}};
static const test without_nccl = {"without NCCL", missing, {1}};

static const hd_cuda_plugin *open_plugin(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const hd_cuda_plugin *(*get)(void) = NULL;
	if (library)
		*(void **)&get = dlsym(library, HD_CUDA_PLUGIN_SYMBOL);
	if (!get)
		fprintf(stderr, "%s\n", dlerror());
	return get ? get() : NULL;
}

/* The id of rank 0 for all. */
static hd_status share_id(place *p)
{
	hd_status st = HD_OK;
	if (p->rank == 0) {
		HD_TRY(p->ops->make_id(p->b, &p->all->id));
		atomic_store(&p->all->ready, true);
	}
	for (double start = now(); !atomic_load(&p->all->ready); usleep(1000))
		if (now() - start > HANG_S / 2)
			return hd_fail(HD_E_FAILED, "rank 0 has made no id");
done:
	return st;
}

/* What a process ends with. */
static int be_rank(const char *path, const test *t, place p)
{
	char why[256];
	alarm(HANG_S);
	const hd_cuda_plugin *plugin = open_plugin(path);
	if (!plugin)
		return 1;
	if (plugin->device_count(why, sizeof why) < p.ranks)
		return SKIPPED;
	hd_status st = plugin->open(&p.b, p.rank, hd_fail);
	if (st == HD_OK) {
		p.ops = p.b->collective;
		if (t != &without_nccl)
			st = share_id(&p);
		if (st == HD_E_UNSUPPORTED) {
			printf("%s\n", hd_error_text());
			return SKIPPED;
		}
		if (st == HD_OK)
			st = t->run(&p);
		p.ops->close(p.group);
		p.b->close(p.b);
	}
	if (st != HD_OK)
		printf("FAIL %s, rank %d of %d: %s\n", t->name, p.rank, p.ranks, hd_error_text());
	return st != HD_OK;
}

/* 0, 1 or SKIPPED. */
static int run(const char *path, const test *t, int ranks)
{
	pid_t child[MOST_RANKS];
	int code = 0;
	shared *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return 1;
	memset(all, 0, sizeof *all);
	fflush(NULL);
	for (int r = 0; r < ranks; r++) {
		child[r] = fork();
		if (child[r] == 0)
			exit(be_rank(path, t, (place){.all = all, .ranks = ranks, .rank = r}));
	}
	for (int r = 0; r < ranks; r++) {
		int status = 1;
		if (child[r] < 0 || waitpid(child[r], &status, 0) != child[r])
			status = 1;
		if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
			code = code ? code : SKIPPED;
		else if (status)
			code = 1;
		if (WIFSIGNALED(status))
			printf("FAIL %s, rank %d of %d: ended by signal %d\n", t->name, r, ranks, WTERMSIG(status));
		if (all->digest[r] != all->digest[0] && t->run != gone) {
			printf("FAIL %s, rank %d of %d: other bits than rank 0\n", t->name, r, ranks);
			code = 1;
		}
	}
	munmap(all, sizeof *all);
	return code;
}

static int tally(const char *path, const test *t, int *ran, int *failed)
{
	for (int i = 0; i < 3 && t->ranks[i]; i++) {
		int code = run(path, t, t->ranks[i]);
		if (code == SKIPPED)
			return SKIPPED;
		++*ran;
		*failed += code != 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int ran = 0, failed = 0, code = 0;
	const char *without = getenv("HD_EMU_WITHOUT");
	if (argc != 2) {
		fprintf(stderr, "usage: collective LIBRARY\n");
		return 2;
	}
	/* of the emulation's NCCL, which a process that waits for others leaves to nothing else */
	setenv("HD_EMU_NCCL_SECONDS", "2", 0);
	if (without && strstr(without, "nccl"))
		code = tally(argv[1], &without_nccl, &ran, &failed);
	else
		for (size_t i = 0; !code && i < sizeof tests / sizeof *tests; i++)
			code = tally(argv[1], &tests[i], &ran, &failed);
	if (code == SKIPPED) {
		printf("collective: skipped, there are fewer devices than ranks, or no NCCL\n");
		return SKIPPED;
	}
	printf("collective: %d runs, %d failed\n", ran, failed);
	return failed || !ran;
}
