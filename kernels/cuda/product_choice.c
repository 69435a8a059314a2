/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/product_choice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/product_trial.h"
#include "kernels/cuda/tune.h"
#include "kernels/cuda/tune_record.h"

#define CANDIDATES 16
#define OWN "own" /* in the file: no algorithm of the library was sound */
#define WAY_BYTES 320
#define WORDS (sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t))

typedef cublasLtMatmulHeuristicResult_t candidate;

#define LT_TRY(call)                                                                                                   \
	do {                                                                                                           \
		if ((call) != CUBLAS_STATUS_SUCCESS)                                                                   \
			return false;                                                                                  \
	} while (0)

/*
 * Partial sums of a split k are float: a result of 16 bits would be rounded once for every part else. Sums into a float
 * result may be in its place: the library keeps their order (CUBLASLT_REDUCTION_SCHEME_INPLACE).
 */
static bool prefer(const hd_cublaslt *lt, cublasLtMatmulPreference_t preference, const hd_product_key *key)
{
	uint32_t reductions = key->dt == HD_F32 || key->a_turned ? CUBLASLT_REDUCTION_SCHEME_MASK
	                                                         : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	const struct {
		cublasLtMatmulPreferenceAttributes_t attribute;
		const void *value;
		size_t bytes;
	} wishes[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &key->workspace_bytes, sizeof key->workspace_bytes},
	        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &key->b_alignment, sizeof key->b_alignment},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &key->a_alignment, sizeof key->a_alignment},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &key->c_alignment, sizeof key->c_alignment},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &key->c_alignment, sizeof key->c_alignment}};
	for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
		LT_TRY(lt->MatmulPreferenceSetAttribute(
		        preference, wishes[i].attribute, wishes[i].value, wishes[i].bytes));
	return true;
}

/* The library's algorithms for the shape, its alignments and the workspace, those that it thinks fastest first. */
static int ask(candidate *out, int wanted, const hd_product_plan *plan)
{
	const hd_cublaslt *lt = hd_cuda_cublaslt();
	cublasLtMatmulPreference_t preference;
	int count = 0, kept = 0;
	if (lt->MatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
		return 0;
	if (!prefer(lt, preference, &plan->key) ||
	        lt->MatmulAlgoGetHeuristic(plan->handle, plan->operation, plan->left, plan->right, plan->result,
	                plan->result, preference, wanted, out, &count) != CUBLAS_STATUS_SUCCESS)
		count = 0;
	lt->MatmulPreferenceDestroy(preference);
	for (int i = 0; i < count; i++)
		if (out[i].state == CUBLAS_STATUS_SUCCESS && out[i].workspaceSize <= plan->key.workspace_bytes)
			out[kept++] = out[i];
	return kept;
}

static bool take_first(hd_product_plan *plan)
{
	candidate first;
	if (ask(&first, 1, plan) == 0)
		return false;
	plan->algorithm = first.algo;
	return true;
}

/* ---- in the file ---- */

typedef struct subject {
	char sizes[256];
	hd_tune_subject is;
} subject;

static const char *type_name(const hd_product_key *key)
{
	switch (key->dt) {
	case HD_BF16:
		return key->a_turned ? "bf16-f32" : "bf16";
	case HD_F16:
		return key->a_turned ? "f16-f32" : "f16";
	default:
		return key->tf32 ? "tf32" : "f32";
	}
}

static const hd_tune_subject *subject_of(subject *s, const hd_product_key *key)
{
	snprintf(s->sizes, sizeof s->sizes,
	        "m=%" PRId64 " n=%" PRId64 " k=%" PRId64 " turned=%s bias=%s align=%u,%u,%u,%u workspace=%zu", key->m,
	        key->n, key->k,
	        key->a_turned   ? "a"
	        : key->b_turned ? "b"
	                        : "none",
	        key->bias_alignment ? "yes" : "no", key->a_alignment, key->b_alignment, key->c_alignment,
	        key->bias_alignment, key->workspace_bytes);
	s->is = (hd_tune_subject){"product", type_name(key), s->sizes};
	return &s->is;
}

/* Of the words, against lines that somebody or something changed. */
static uint64_t checksum(const cublasLtMatmulAlgo_t *algorithm)
{
	return hd_cuda_hash(algorithm, sizeof *algorithm);
}

static int32_t attribute(const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulAlgoConfigAttributes_t which)
{
	int32_t value = -1;
	size_t written;
	if (hd_cuda_cublaslt()->MatmulAlgoConfigGetAttribute(algorithm, which, &value, sizeof value, &written) !=
	        CUBLAS_STATUS_SUCCESS)
		return -1;
	return value;
}

/* Words and checksum in hexadecimal, then what people want to know. */
static void spell(char *out, size_t bytes, const cublasLtMatmulAlgo_t *algorithm)
{
	size_t at = 0;
	for (size_t i = 0; i < WORDS; i++)
		at += (size_t)snprintf(out + at, bytes - at, "%016" PRIx64 " ", algorithm->data[i]);
	snprintf(out + at, bytes - at, "%016" PRIx64 " id=%d tile=%d splitk=%d", checksum(algorithm),
	        attribute(algorithm, CUBLASLT_ALGO_CONFIG_ID), attribute(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID),
	        attribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM));
}

static bool read_back(cublasLtMatmulAlgo_t *out, const char *way)
{
	uint64_t words[WORDS + 1];
	for (size_t i = 0; i <= WORDS; i++) {
		int length = 0;
		if (sscanf(way, "%16" SCNx64 "%n", &words[i], &length) != 1 || length != 16 || way[length] != ' ')
			return false;
		way += length + 1;
	}
	memcpy(out->data, words, sizeof out->data);
	return checksum(out) == words[WORDS];
}

/* The library takes it for this shape. */
static bool holds(const hd_product_plan *plan, const cublasLtMatmulAlgo_t *algorithm)
{
	candidate result;
	memset(&result, 0, sizeof result);
	cublasStatus_t status = hd_cuda_cublaslt()->MatmulAlgoCheck(
	        plan->handle, plan->operation, plan->left, plan->right, plan->result, plan->result, algorithm, &result);
	return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= plan->key.workspace_bytes;
}

/* From the file; *usable: an algorithm of the library's. Lines that are broken are left alone, and said. */
static bool recall(bool *usable, hd_product_plan *plan, const hd_tune_subject *s)
{
	char way[WAY_BYTES];
	for (int nth = 0; hd_cuda_tune_record_find(s, nth, way, sizeof way); nth++) {
		cublasLtMatmulAlgo_t algorithm;
		*usable = strcmp(way, OWN) != 0;
		if (!*usable)
			return true;
		if (read_back(&algorithm, way) && holds(plan, &algorithm)) {
			plan->algorithm = algorithm;
			return true;
		}
		hd_cuda_tune_record_note(
		        "tuning: product %s %s: a line of the file does not hold an algorithm for it and is ignored\n",
		        s->dtype, s->sizes);
	}
	return false;
}

/* ---- timing ---- */

typedef struct attempt {
	const hd_product_plan *plan;
	const hd_stream *on;
	const cublasLtMatmulAlgo_t *algorithm;
} attempt;

static bool queue(const void *state, const hd_product *p, char *why)
{
	const attempt *a = state;
	cublasStatus_t status = hd_cuda_product_queue(a->plan, a->algorithm, p, a->on);
	if (status != CUBLAS_STATUS_SUCCESS)
		snprintf(why, HD_TUNE_WHY, "cublasLtMatmul fails with status %d", (int)status);
	return status == CUBLAS_STATUS_SUCCESS;
}

typedef struct verdict {
	int best; /* -1: none is sound */
	double first_ms, best_ms;
	int left_out;
	char why[HD_TUNE_WHY]; /* of the last one left out */
} verdict;

/* The first stays where no other is faster by the margin. */
static void compare(verdict *v, attempt *a, hd_product_trial *trial, const candidate *candidates, int count)
{
	const hd_product_way way = {queue, a};
	for (int i = 0; i < count; i++) {
		a->algorithm = &candidates[i].algo;
		double ms = hd_cuda_product_trial_agrees(trial, &way, v->why)
		                    ? hd_cuda_product_trial_time(trial, &way, v->why)
		                    : -1;
		if (ms < 0) {
			v->left_out++;
			continue;
		}
		if (i == 0)
			v->first_ms = ms;
		double limit = v->best < 0 ? ms + 1 : v->best == 0 ? HD_TUNE_MARGIN * v->first_ms : v->best_ms;
		if (ms < limit) {
			v->best = i;
			v->best_ms = ms;
		}
	}
}

static bool untimed(hd_product_plan *plan, const hd_tune_subject *s, const char *why)
{
	char way[WAY_BYTES];
	if (!take_first(plan))
		return false;
	hd_cuda_tune_record_note(
	        "tuning: product %s %s: not timed, cuBLASLt's first algorithm is taken: %s\n", s->dtype, s->sizes, why);
	spell(way, sizeof way, &plan->algorithm);
	hd_cuda_tune_record_add(s, way, -1, -1);
	return true;
}

static bool measure(hd_product_plan *plan, const hd_tune_subject *s, const hd_product *p, const hd_stream *on)
{
	const hd_product_key *key = &plan->key;
	const unsigned alignment[4] = {key->a_alignment, key->b_alignment, key->c_alignment, key->bias_alignment};
	candidate candidates[CANDIDATES];
	char way[WAY_BYTES] = OWN, why[HD_TUNE_WHY] = "";
	verdict v = {.best = -1, .first_ms = -1, .best_ms = -1};
	int count = ask(candidates, CANDIDATES, plan);
	if (count == 0)
		return false;
	hd_product_trial *trial = hd_cuda_product_trial_begin(p, alignment, key->tf32, on->cuda, why);
	if (!trial)
		return untimed(plan, s, why);
	attempt a = {.plan = plan, .on = on};
	compare(&v, &a, trial, candidates, count);
	hd_cuda_product_trial_end(trial);
	if (v.first_ms < 0)
		v.first_ms = v.best_ms;
	if (v.best >= 0) {
		plan->algorithm = candidates[v.best].algo;
		spell(way, sizeof way, &plan->algorithm);
		hd_cuda_tune_record_product(v.best != 0, v.first_ms, v.best_ms, v.left_out, v.why);
	} else {
		hd_cuda_tune_record_note("tuning: product %s %s: all %d algorithms of cuBLASLt are left out, the own "
		                         "kernel is taken: %s\n",
		        s->dtype, s->sizes, count, v.why);
	}
	hd_cuda_tune_record_add(s, way, v.first_ms, v.best_ms);
	return v.best >= 0;
}

bool hd_cuda_product_choose(hd_product_plan *plan, const hd_product *p, const hd_stream *on)
{
	subject memory = {.sizes = ""};
	bool usable = false;
	if (!hd_cuda_tune_record_on())
		return take_first(plan);
	const hd_tune_subject *s = subject_of(&memory, &plan->key);
	if (recall(&usable, plan, s))
		return usable;
	if (!hd_cuda_tune_record_may_measure(on->cuda))
		return untimed(plan, s, "first called while a graph is captured");
	hd_cuda_tune_record_lock();
	if (!recall(&usable, plan, s)) /* what another process chose in the meantime */
		usable = measure(plan, s, p, on);
	hd_cuda_tune_record_unlock();
	return usable;
}
