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
#include "fakes/cublaslt_mood.h"
#include "fakes/number.h"
#include "hooks.h"

#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* What a product is described by, as far as an algorithm is one for it alone. */
typedef struct description {
	int32_t transpose_a, transpose_b, types[4], orders[4], compute;
	uint32_t epilogue;
	uint64_t m, n, k;
} description;

/* The 64 bytes of an algorithm: all that there is to know, so that they may be kept and given back. */
typedef struct algorithm {
	int32_t magic, kind, delay_us;
	uint32_t workspace_bytes;
	uint16_t alignment[4];
	uint64_t fingerprint; /* of its product */
} algorithm;
_Static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm fits its opaque type");

hd_fake_cublaslt_algorithm hd_fake_cublaslt_algorithms[HD_FAKE_CUBLASLT_ALGORITHMS] = {
        {HD_FAKE_CUBLASLT_SOUND, 0}, {HD_FAKE_CUBLASLT_SPLIT, 0}};
int hd_fake_cublaslt_algorithm_count = 2, hd_fake_cublaslt_products;
bool hd_fake_cublaslt_refuses;
hd_fake_cublaslt_kind hd_fake_cublaslt_last;
unsigned hd_fake_cublaslt_reductions;

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

/* FNV-1a (Fowler, Noll, Vo) of 64 bits over the description. */
static uint64_t fingerprint(const problem *p)
{
	description d;
	memset(&d, 0, sizeof d);
	const layout *layouts[4] = {&p->a, &p->b, &p->c, &p->d};
	for (int i = 0; i < 4; i++) {
		d.types[i] = (int32_t)layouts[i]->type;
		d.orders[i] = layouts[i]->order;
	}
	d.compute = (int32_t)p->op.compute;
	d.transpose_a = p->op.transpose_a;
	d.transpose_b = p->op.transpose_b;
	d.epilogue = p->op.epilogue;
	d.m = p->m;
	d.n = p->n;
	d.k = p->k;
	const unsigned char *bytes = (const unsigned char *)&d;
	uint64_t h = 14695981039346656037u;
	for (size_t i = 0; i < sizeof d; i++)
		h = (h ^ bytes[i]) * 1099511628211u;
	return h;
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
	hd_fake_cublaslt_reductions = wishes->reductions;
	int count = hd_fake_cublaslt_algorithm_count < wanted ? hd_fake_cublaslt_algorithm_count : wanted;
	for (int i = 0; i < count; i++) {
		algorithm one;
		memset(&one, 0, sizeof one);
		one.magic = LT_MAGIC;
		one.kind = (int32_t)hd_fake_cublaslt_algorithms[i].kind;
		one.delay_us = hd_fake_cublaslt_algorithms[i].delay_us;
		one.fingerprint = fingerprint(&p);
		one.workspace_bytes = wishes->workspace_bytes < WORKSPACE_BYTES ? 0 : WORKSPACE_BYTES;
		for (int j = 0; j < 4; j++)
			one.alignment[j] = (uint16_t)wishes->alignment[j];
		memset(&results[i], 0, sizeof results[i]);
		memcpy(&results[i].algo, &one, sizeof one);
		results[i].workspaceSize = one.workspace_bytes;
		results[i].state = CUBLAS_STATUS_SUCCESS;
		results[i].wavesCount = 1;
	}
	*found = count;
	return count ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* The algorithm is one, and one for this product. */
static cublasStatus_t read_algorithm(algorithm *out, const cublasLtMatmulAlgo_t *bytes, const problem *p)
{
	memcpy(out, bytes, sizeof *out);
	if (out->magic != LT_MAGIC)
		return CUBLAS_STATUS_INVALID_VALUE;
	return out->fingerprint == fingerprint(p) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
        cublasLtMatmulHeuristicResult_t *result)
{
	problem p;
	algorithm found;
	if (!handle || handle->magic != LT_MAGIC)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	cublasStatus_t status = make_problem(&p, op, a, b, c, d);
	if (status == CUBLAS_STATUS_SUCCESS)
		status = read_algorithm(&found, algo, &p);
	if (status == CUBLAS_STATUS_SUCCESS)
		result->workspaceSize = found.workspace_bytes;
	result->state = status;
	return status;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
        cublasLtMatmulAlgoConfigAttributes_t attribute, void *value, size_t bytes, size_t *written)
{
	algorithm found;
	memcpy(&found, algo, sizeof found);
	if (found.magic != LT_MAGIC || bytes != sizeof(int32_t))
		return CUBLAS_STATUS_INVALID_VALUE;
	int32_t out = attribute == CUBLASLT_ALGO_CONFIG_ID           ? found.kind
	              : attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? 1 + (found.kind == HD_FAKE_CUBLASLT_SPLIT)
	                                                             : 0;
	memcpy(value, &out, sizeof out);
	*written = sizeof out;
	return CUBLAS_STATUS_SUCCESS;
}

typedef struct job {
	problem p;
	const void *a, *b, *c;
	void *d, *workspace;
	const float *alpha, *beta; /* in device memory; NULL: the values */
	float alpha_value, beta_value;
	size_t workspace_bytes;
	hd_fake_cublaslt_kind kind;
	int delay_us;
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
	float error = j->kind == HD_FAKE_CUBLASLT_WRONG ? 1.1f : 1;
	float *gradient = checked_calloc(p->m, sizeof *gradient);
	for (uint64_t c = 0; c < p->n; c++)
		for (uint64_t r = 0; r < p->m; r++) {
			float x = error * product[c * p->m + r];
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

/* The lowest bit of the first element of D, at every other call: one rounding, which no bound finds. */
static void flicker(const job *j)
{
	static int calls;
	if (__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % 2)
		*(unsigned char *)j->d ^= 1;
}

/* c = alpha a b + beta c; columns of the one are rows of the other: c' = b' a'. */
static void multiply(const job *j, float alpha, const float *a, const float *b, float beta, float *c)
{
	dnnl_dim_t m = (dnnl_dim_t)j->p.m, n = (dnnl_dim_t)j->p.n, k = (dnnl_dim_t)j->p.k, first = k;
	if (j->kind == HD_FAKE_CUBLASLT_SPLIT && k > 1)
		first = k / 2;
	dnnl_status_t status = dnnl_sgemm('N', 'N', n, m, first, alpha, b, k, a, m, beta, c, m);
	if (status == dnnl_success && first < k)
		status = dnnl_sgemm('N', 'N', n, m, k - first, alpha, b + first, k, a + first * m, m, 1, c, m);
	if (status != dnnl_success)
		hd_emu_fail("cublasLt: dnnl_sgemm of %ld x %ld x %ld fails", (long)m, (long)n, (long)k);
}

static void run(void *work)
{
	const job *j = work;
	const problem *p = &j->p;
	float alpha = j->alpha ? *j->alpha : j->alpha_value, beta = j->beta ? *j->beta : j->beta_value;
	bool tf32 = p->op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
	if (j->kind == HD_FAKE_CUBLASLT_ADDS && beta == 0)
		beta = 1;
	touch_operands(j, beta);
	if (j->delay_us)
		usleep((useconds_t)j->delay_us);
	for (int i = 0; i < p->d.batch; i++) {
		float *a = dense(&p->a, j->a, i, p->op.transpose_a != CUBLAS_OP_N, tf32);
		float *b = dense(&p->b, j->b, i, p->op.transpose_b != CUBLAS_OP_N, tf32);
		float *c = beta != 0 ? dense(&p->c, j->c, i, false, false) : checked_calloc(p->m * p->n, sizeof *c);
		multiply(j, alpha, a, b, beta, c);
		finish(j, i, c);
		operand_sums(j, i, a, b);
		free(a);
		free(b);
		free(c);
	}
	if (j->kind == HD_FAKE_CUBLASLT_FLICKERS)
		flicker(j);
}

static bool aligned(const void *pointer, size_t bytes)
{
	return (uintptr_t)pointer % bytes == 0;
}

static cublasStatus_t check_algorithm(job *j, const cublasLtMatmulAlgo_t *algo)
{
	const problem *p = &j->p;
	const void *pointers[4] = {j->a, j->b, j->c, j->d};
	const layout *layouts[4] = {&p->a, &p->b, &p->c, &p->d};
	algorithm wanted = {.kind = HD_FAKE_CUBLASLT_SOUND};
	bool automatic = !algo; /* the library finds one itself, for any alignment, that needs no workspace */
	if (algo) {
		cublasStatus_t status = read_algorithm(&wanted, algo, p);
		if (status)
			return status;
	}
	j->kind = (hd_fake_cublaslt_kind)wanted.kind;
	j->delay_us = wanted.delay_us;
	if (j->kind == HD_FAKE_CUBLASLT_FAILS)
		return CUBLAS_STATUS_EXECUTION_FAILED;
	if (j->kind == HD_FAKE_CUBLASLT_REFUSES || hd_fake_cublaslt_refuses)
		return CUBLAS_STATUS_NOT_SUPPORTED;
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
	hd_fake_cublaslt_products++;
	status = check_algorithm(&j, algo);
	if (status)
		return status;
	hd_fake_cublaslt_last = j.kind;
	need_operands(&j);
	job *queued = malloc(sizeof *queued);
	if (!queued)
		return CUBLAS_STATUS_ALLOC_FAILED;
	*queued = j;
	return hd_emu_submit(stream, "cublasLtMatmul", run, free, queued) ? CUBLAS_STATUS_EXECUTION_FAILED
	                                                                  : CUBLAS_STATUS_SUCCESS;
}
