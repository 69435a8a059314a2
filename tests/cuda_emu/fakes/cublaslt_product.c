/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublasLt over oneDNN's sgemm, compiled against NVIDIA's cublasLt.h: matrix products of f32, bf16 and f16 with f32
 * sums, row and column order, strided batches, the epilogues of linear layers. Half-precision operands are converted;
 * with CUBLAS_COMPUTE_32F_FAST_TF32 float operands are rounded to TF32, as the hardware does.
 *
 * What the library asks for is checked: an algorithm belongs to the operation that it was found for, pointers have the
 * alignment that the heuristic was told, the workspace is there; it is overwritten, so that nobody keeps data in it.
 */
#include "fakes/cublaslt.h"
#include "fakes/number.h"
#include "hooks.h"

#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	EPILOGUE_RELU = 2,
	EPILOGUE_BIAS = 4,
	EPILOGUE_BIAS_GRADIENT = 16,
	EPILOGUE_GELU = 32,
	EPILOGUE_DGELU = 64,
	EPILOGUE_AUX = 128,
	EPILOGUE_BIAS_GRADIENT_A = 256,
	EPILOGUE_BIAS_GRADIENT_B = 512,
	USES_BIAS = EPILOGUE_BIAS | EPILOGUE_BIAS_GRADIENT | EPILOGUE_BIAS_GRADIENT_A | EPILOGUE_BIAS_GRADIENT_B,
	WORKSPACE_BYTES = 32 << 10, /* of the algorithms found here, where the caller allows as much */
	WORKSPACE_ALIGNMENT = 16,
	AUX_ALIGNMENT = 8, /* elements: of the leading dimension of the epilogue's auxiliary matrix */
};

/* What an algorithm remembers. */
typedef struct algorithm {
	int32_t magic;
	int32_t transpose_a, transpose_b, types[4], orders[4];
	uint32_t epilogue, alignment[4];
	uint64_t m, n, k, workspace_bytes;
} algorithm;

/* An algorithm has 64 bytes: a number of the record that it stands for. */
typedef struct algorithm_number {
	int32_t magic, number;
} algorithm_number;
_Static_assert(sizeof(algorithm_number) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm's number fits its opaque type");

enum { MAX_ALGORITHMS = 4096 };
static algorithm algorithms[MAX_ALGORITHMS];
static int algorithm_count;
static pthread_mutex_t algorithms_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct problem {
	operation op;
	layout a, b, c, d;
	uint64_t m, n, k;
} problem;

static bool row_order(const layout *l)
{
	return l->order == CUBLASLT_ORDER_ROW;
}

static bool valid_layout(const layout *l, int32_t batch)
{
	if (l->magic != LT_MAGIC || !number_bytes(l->type) || !l->rows || !l->cols || l->batch != batch)
		return false;
	if (l->order != CUBLASLT_ORDER_COL && l->order != CUBLASLT_ORDER_ROW)
		return false;
	return l->ld >= (int64_t)(row_order(l) ? l->cols : l->rows);
}

static cudaDataType_t bias_type(const problem *p)
{
	return p->op.bias_type < 0 ? p->d.type : (cudaDataType_t)p->op.bias_type;
}

static cudaDataType_t aux_type(const problem *p)
{
	return p->op.aux_type < 0 ? p->d.type : (cudaDataType_t)p->op.aux_type;
}

static cublasStatus_t check_epilogue(const problem *p)
{
	static const uint32_t known[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_BIAS,
	        CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_AUX,
	        CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
	        CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB};
	bool found = false;
	for (size_t i = 0; i < COUNT(known); i++)
		found = found || known[i] == p->op.epilogue;
	if (!found || !number_bytes(bias_type(p)) || !number_bytes(aux_type(p)))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (!(p->op.epilogue & EPILOGUE_AUX))
		return CUBLAS_STATUS_SUCCESS;
	bool fits = p->op.aux && p->op.aux_ld % AUX_ALIGNMENT == 0 && p->op.aux_ld >= (int64_t)p->d.rows;
	return fits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t make_problem(problem *p, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
	if (!op || !a || !b || !c || !d)
		return CUBLAS_STATUS_INVALID_VALUE;
	*p = (problem){
	        .op = *(operation *)op, .a = *(layout *)a, .b = *(layout *)b, .c = *(layout *)c, .d = *(layout *)d};
	int32_t batch = p->d.batch;
	if (p->op.magic != LT_MAGIC || !valid_layout(&p->a, batch) || !valid_layout(&p->b, batch) ||
	        !valid_layout(&p->c, batch) || !valid_layout(&p->d, batch))
		return CUBLAS_STATUS_INVALID_VALUE;
	bool ta = p->op.transpose_a != CUBLAS_OP_N, tb = p->op.transpose_b != CUBLAS_OP_N;
	p->m = ta ? p->a.cols : p->a.rows;
	p->k = ta ? p->a.rows : p->a.cols;
	p->n = tb ? p->b.rows : p->b.cols;
	if (p->k != (tb ? p->b.cols : p->b.rows) || p->d.rows != p->m || p->d.cols != p->n || p->c.rows != p->m ||
	        p->c.cols != p->n)
		return CUBLAS_STATUS_INVALID_VALUE;
	bool f32_sums = p->op.compute == CUBLAS_COMPUTE_32F || p->op.compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
	                p->op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
	if (!f32_sums || p->op.scale_type != CUDA_R_32F || p->a.type != p->b.type || p->c.type != p->d.type)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (p->op.pointer_mode != CUBLASLT_POINTER_MODE_HOST && p->op.pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return check_epilogue(p);
}

static algorithm describe(const problem *p)
{
	algorithm a;
	memset(&a, 0, sizeof a);
	const layout *layouts[4] = {&p->a, &p->b, &p->c, &p->d};
	for (int i = 0; i < 4; i++) {
		a.types[i] = (int32_t)layouts[i]->type;
		a.orders[i] = layouts[i]->order;
	}
	a.magic = LT_MAGIC;
	a.transpose_a = p->op.transpose_a;
	a.transpose_b = p->op.transpose_b;
	a.epilogue = p->op.epilogue;
	a.m = p->m;
	a.n = p->n;
	a.k = p->k;
	return a;
}

static int remember_algorithm(const algorithm *a)
{
	int number = 0;
	pthread_mutex_lock(&algorithms_lock);
	while (number < algorithm_count && memcmp(&algorithms[number], a, sizeof *a) != 0)
		number++;
	if (number == MAX_ALGORITHMS)
		hd_emu_fail("cublasLt: more than %d different products are not emulated", MAX_ALGORITHMS);
	if (number == algorithm_count)
		algorithms[algorithm_count++] = *a;
	pthread_mutex_unlock(&algorithms_lock);
	return number;
}

/* False: nobody has found this algorithm. */
static bool recall_algorithm(int number, algorithm *a)
{
	pthread_mutex_lock(&algorithms_lock);
	bool known = number >= 0 && number < algorithm_count;
	if (known)
		*a = algorithms[number];
	pthread_mutex_unlock(&algorithms_lock);
	return known;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
        cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
        cublasLtMatmulPreference_t pref, int wanted, cublasLtMatmulHeuristicResult_t *results, int *found)
{
	*found = 0;
	if (!handle || handle->magic != LT_MAGIC)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	const preference *wishes = (const preference *)pref;
	if (!wishes || wishes->magic != LT_MAGIC || wanted < 1)
		return CUBLAS_STATUS_INVALID_VALUE;
	problem p;
	cublasStatus_t status = make_problem(&p, op, a, b, c, d);
	if (status)
		return status;
	algorithm description = describe(&p);
	memcpy(description.alignment, wishes->alignment, sizeof description.alignment);
	description.workspace_bytes = wishes->workspace_bytes < WORKSPACE_BYTES ? 0 : WORKSPACE_BYTES;
	algorithm_number kept = {LT_MAGIC, remember_algorithm(&description)};
	memset(results, 0, sizeof *results);
	memcpy(&results->algo, &kept, sizeof kept);
	results->workspaceSize = description.workspace_bytes;
	results->state = CUBLAS_STATUS_SUCCESS;
	results->wavesCount = 1;
	*found = 1;
	return CUBLAS_STATUS_SUCCESS;
}

typedef struct job {
	problem p;
	const void *a, *b, *c;
	void *d, *workspace;
	const float *alpha, *beta; /* in device memory; NULL: the values */
	float alpha_value, beta_value;
	size_t workspace_bytes;
} job;

static size_t position(const layout *l, uint64_t row, uint64_t col)
{
	return row_order(l) ? row * (size_t)l->ld + col : col * (size_t)l->ld + row;
}

static size_t span_bytes(const layout *l)
{
	size_t last = (size_t)l->stride * (size_t)(l->batch - 1) + position(l, l->rows - 1, l->cols - 1);
	return (last + 1) * number_bytes(l->type);
}

static size_t bias_bytes(const problem *p)
{
	uint64_t length = p->op.epilogue & EPILOGUE_BIAS_GRADIENT_B ? p->n : p->m;
	return ((size_t)p->op.bias_stride * (size_t)(p->d.batch - 1) + length) * number_bytes(bias_type(p));
}

static size_t aux_bytes(const problem *p)
{
	size_t one = (size_t)p->op.aux_ld * (p->n - 1) + p->m;
	return ((size_t)p->op.aux_stride * (size_t)(p->d.batch - 1) + one) * number_bytes(aux_type(p));
}

static void *checked_calloc(size_t count, size_t bytes)
{
	void *memory = calloc(count ? count : 1, bytes);
	if (!memory)
		hd_emu_fail("cublasLt: out of memory");
	return memory;
}

static float to_tf32(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if ((bits & 0x7f800000u) != 0x7f800000u)
		bits = (bits + 0x1000u) & 0xffffe000u;
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* Matrix of one batch as floats, column by column, transposed where asked. */
static float *dense(const layout *l, const void *data, int batch, bool transpose, bool tf32)
{
	float *out = checked_calloc(l->rows * l->cols, sizeof *out);
	size_t first = (size_t)batch * (size_t)l->stride;
	for (uint64_t r = 0; r < l->rows; r++)
		for (uint64_t c = 0; c < l->cols; c++) {
			float value = load_number(data, first + position(l, r, c), l->type);
			out[transpose ? r * l->cols + c : c * l->rows + r] = tf32 ? to_tf32(value) : value;
		}
	return out;
}

/* The tanh form, which cublasLt has: Hendrycks and Gimpel 2016, section 2. */
static float gelu(float x)
{
	return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

static float gelu_slope(float x)
{
	float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
	return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}

static void finish(const job *j, int batch, float *product)
{
	const problem *p = &j->p;
	uint32_t epilogue = p->op.epilogue;
	size_t bias_first = (size_t)batch * (size_t)p->op.bias_stride;
	size_t aux_first = (size_t)batch * (size_t)p->op.aux_stride;
	float *gradient = checked_calloc(p->m, sizeof *gradient);
	for (uint64_t c = 0; c < p->n; c++)
		for (uint64_t r = 0; r < p->m; r++) {
			float x = product[c * p->m + r];
			size_t aux_index = aux_first + c * (size_t)p->op.aux_ld + r;
			if (epilogue & EPILOGUE_BIAS)
				x += load_number(p->op.bias, bias_first + r, bias_type(p));
			if ((epilogue & EPILOGUE_AUX) && (epilogue & EPILOGUE_GELU))
				store_number(p->op.aux, aux_index, aux_type(p), x);
			if (epilogue & EPILOGUE_GELU)
				x = gelu(x);
			if (epilogue & EPILOGUE_RELU)
				x = x > 0 ? x : 0;
			if (epilogue & EPILOGUE_DGELU)
				x *= gelu_slope(load_number(p->op.aux, aux_index, aux_type(p)));
			gradient[r] += x;
			store_number(j->d, (size_t)batch * (size_t)p->d.stride + position(&p->d, r, c), p->d.type, x);
		}
	if (epilogue & EPILOGUE_BIAS_GRADIENT)
		for (uint64_t r = 0; r < p->m; r++)
			store_number(p->op.bias, bias_first + r, bias_type(p), gradient[r]);
	free(gradient);
}

/* Sums of an operand over k: of A for every row of D, of B for every column. */
static void operand_sums(const job *j, int batch, const float *a, const float *b)
{
	const problem *p = &j->p;
	bool of_a = p->op.epilogue & EPILOGUE_BIAS_GRADIENT_A;
	if (!of_a && !(p->op.epilogue & EPILOGUE_BIAS_GRADIENT_B))
		return;
	size_t first = (size_t)batch * (size_t)p->op.bias_stride;
	for (uint64_t i = 0; i < (of_a ? p->m : p->n); i++) {
		double sum = 0;
		for (uint64_t k = 0; k < p->k; k++)
			sum += of_a ? a[k * p->m + i] : b[i * p->k + k];
		store_number(p->op.bias, first + i, bias_type(p), (float)sum);
	}
}

static void touch_operands(const job *j, float beta)
{
	const problem *p = &j->p;
	hd_emu_reads(j->a, span_bytes(&p->a));
	hd_emu_reads(j->b, span_bytes(&p->b));
	if (beta != 0)
		hd_emu_reads(j->c, span_bytes(&p->c));
	hd_emu_writes(j->d, span_bytes(&p->d));
	if (p->op.epilogue & EPILOGUE_BIAS)
		hd_emu_reads(p->op.bias, bias_bytes(p));
	else if (p->op.epilogue & USES_BIAS)
		hd_emu_writes(p->op.bias, bias_bytes(p));
	if (p->op.epilogue & EPILOGUE_DGELU)
		hd_emu_reads(p->op.aux, aux_bytes(p));
	else if (p->op.epilogue & EPILOGUE_AUX)
		hd_emu_writes(p->op.aux, aux_bytes(p));
	if (j->workspace_bytes) {
		hd_emu_writes(j->workspace, j->workspace_bytes);
		memset(j->workspace, 0xff, j->workspace_bytes);
	}
}

static void run(void *work)
{
	const job *j = work;
	const problem *p = &j->p;
	float alpha = j->alpha ? *j->alpha : j->alpha_value, beta = j->beta ? *j->beta : j->beta_value;
	bool tf32 = p->op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
	dnnl_dim_t m = (dnnl_dim_t)p->m, n = (dnnl_dim_t)p->n, k = (dnnl_dim_t)p->k;
	touch_operands(j, beta);
	for (int i = 0; i < p->d.batch; i++) {
		float *a = dense(&p->a, j->a, i, p->op.transpose_a != CUBLAS_OP_N, tf32);
		float *b = dense(&p->b, j->b, i, p->op.transpose_b != CUBLAS_OP_N, tf32);
		float *c = beta != 0 ? dense(&p->c, j->c, i, false, false) : checked_calloc(p->m * p->n, sizeof *c);
		/* columns of the one are rows of the other: D' = B' A' */
		if (dnnl_sgemm('N', 'N', n, m, k, alpha, b, k, a, m, beta, c, m) != dnnl_success)
			hd_emu_fail("cublasLt: dnnl_sgemm of %ld x %ld x %ld fails", (long)m, (long)n, (long)k);
		finish(j, i, c);
		operand_sums(j, i, a, b);
		free(a);
		free(b);
		free(c);
	}
}

static bool aligned(const void *pointer, size_t bytes)
{
	return (uintptr_t)pointer % bytes == 0;
}

static cublasStatus_t check_algorithm(const job *j, const cublasLtMatmulAlgo_t *algo)
{
	const problem *p = &j->p;
	const void *pointers[4] = {j->a, j->b, j->c, j->d};
	const layout *layouts[4] = {&p->a, &p->b, &p->c, &p->d};
	algorithm wanted = describe(p), found;
	bool automatic = !algo; /* the library finds one itself, for any alignment, that needs no workspace */
	if (algo) {
		algorithm_number kept;
		memcpy(&kept, algo, sizeof kept);
		if (kept.magic != LT_MAGIC || !recall_algorithm(kept.number, &found))
			return CUBLAS_STATUS_INVALID_VALUE;
		memcpy(wanted.alignment, found.alignment, sizeof wanted.alignment);
		wanted.workspace_bytes = found.workspace_bytes;
		if (memcmp(&found, &wanted, sizeof wanted) != 0)
			return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	for (int i = 0; i < 4; i++) {
		size_t alignment = automatic ? number_bytes(layouts[i]->type) : wanted.alignment[i];
		if (alignment && !aligned(pointers[i], alignment))
			return CUBLAS_STATUS_INVALID_VALUE;
	}
	if (wanted.workspace_bytes && (!j->workspace || j->workspace_bytes < wanted.workspace_bytes))
		return CUBLAS_STATUS_INVALID_VALUE;
	return aligned(j->workspace, WORKSPACE_ALIGNMENT) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static void need_operands(const job *j)
{
	const problem *p = &j->p;
	hd_emu_need(j->a, span_bytes(&p->a), "cublasLtMatmul, A");
	hd_emu_need(j->b, span_bytes(&p->b), "cublasLtMatmul, B");
	hd_emu_need(j->d, span_bytes(&p->d), "cublasLtMatmul, D");
	if (j->beta || j->beta_value != 0)
		hd_emu_need(j->c, span_bytes(&p->c), "cublasLtMatmul, C");
	if (p->op.epilogue & USES_BIAS)
		hd_emu_need(p->op.bias, bias_bytes(p), "cublasLtMatmul, bias");
	if (p->op.epilogue & EPILOGUE_AUX)
		hd_emu_need(p->op.aux, aux_bytes(p), "cublasLtMatmul, auxiliary matrix of the epilogue");
	if (j->workspace_bytes)
		hd_emu_need(j->workspace, j->workspace_bytes, "cublasLtMatmul, workspace");
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, const void *alpha, const void *a,
        cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b, const void *beta,
        const void *c, cublasLtMatrixLayout_t layout_c, void *d, cublasLtMatrixLayout_t layout_d,
        const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
	if (!handle || handle->magic != LT_MAGIC)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!alpha || !beta || !a || !b || !d)
		return CUBLAS_STATUS_INVALID_VALUE;
	job j = {.a = a,
	        .b = b,
	        .c = c,
	        .d = d,
	        .workspace = workspace,
	        .workspace_bytes = workspace ? workspace_bytes : 0};
	cublasStatus_t status = make_problem(&j.p, op, layout_a, layout_b, layout_c, layout_d);
	if (status)
		return status;
	if ((j.p.op.epilogue & USES_BIAS) && !j.p.op.bias)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (j.p.op.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE) {
		hd_emu_need(alpha, sizeof(float), "cublasLtMatmul, alpha");
		hd_emu_need(beta, sizeof(float), "cublasLtMatmul, beta");
		j.alpha = alpha;
		j.beta = beta;
	} else {
		j.alpha_value = *(const float *)alpha;
		j.beta_value = *(const float *)beta;
	}
	status = check_algorithm(&j, algo);
	if (status)
		return status;
	need_operands(&j);
	job *queued = malloc(sizeof *queued);
	if (!queued)
		return CUBLAS_STATUS_ALLOC_FAILED;
	*queued = j;
	return hd_emu_submit(stream, "cublasLtMatmul", run, free, queued) ? CUBLAS_STATUS_EXECUTION_FAILED
	                                                                  : CUBLAS_STATUS_SUCCESS;
}
