/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear layers: products by cuBLASLt in float32 without TF32, or by the own kernel where it is missing or has no
 * algorithm for a shape; the bias is part of the product, its gradient a sum of columns made here. What cuBLASLt needs
 * per shape is kept.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/reduce.cuh"

namespace
{

constexpr int COLUMNS = 32;
constexpr int ROWS = 8;
constexpr int PIECE_ROWS = 64;          /* rows of a piece of the bias gradient, at least */
constexpr int SLOTS = 512;              /* shapes kept, a power of two */
constexpr unsigned MAX_ALIGNMENT = 256; /* beyond that cuBLASLt does not care */

/* What an algorithm depends on. */
struct key {
	int64_t m, n, k;
	size_t workspace_bytes;
	unsigned a_alignment, b_alignment, c_alignment, bias_alignment;
	int a_turned, b_turned, with_bias, used;
};

/* A shape with what cuBLASLt made of it; matrices in its column-major order, so that a and b change places. */
struct entry {
	key shape;
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t left, right, result;
	cublasLtMatmulAlgo_t algorithm;
	bool usable; /* else the own kernel takes it */
};

/* Of all that is kept, bias pointers of the operations included: streams may belong to different threads. */
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

entry *entries; /* SLOTS, open addressing */
int entry_count;
cublasLtHandle_t handle;
bool handle_tried;

/* NULL where the library is missing or does not start. */
const hd_cublaslt *library(void)
{
	const hd_cublaslt *lt = hd_cuda_cublaslt();
	if (lt && !handle_tried && lt->Create(&handle) != CUBLAS_STATUS_SUCCESS) {
		handle = NULL;
		cudaGetLastError(); /* or the next launch finds this error */
	}
	handle_tried = true;
	return handle ? lt : NULL;
}

unsigned alignment(const void *p)
{
	uintptr_t address = reinterpret_cast<uintptr_t>(p) | MAX_ALIGNMENT;
	return (unsigned)(address & -address);
}

key key_of(const hd_product *p, size_t workspace_bytes)
{
	key out;
	memset(&out, 0, sizeof out); /* keys are compared as bytes */
	out.m = p->m;
	out.n = p->n;
	out.k = p->k;
	out.workspace_bytes = workspace_bytes;
	out.a_alignment = alignment(p->a);
	out.b_alignment = alignment(p->b);
	out.c_alignment = alignment(p->c);
	out.bias_alignment = p->bias ? alignment(p->bias) : 0;
	out.a_turned = p->a_turned;
	out.b_turned = p->b_turned;
	out.with_bias = p->bias != NULL;
	out.used = 1;
	return out;
}

/* FNV-1a (Fowler, Noll, Vo) over the key. */
unsigned hash(const key *k)
{
	const unsigned char *bytes = reinterpret_cast<const unsigned char *>(k);
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < sizeof *k; i++)
		h = (h ^ bytes[i]) * 16777619u;
	return h;
}

void forget(const hd_cublaslt *lt, entry *e)
{
	if (e->result)
		lt->MatrixLayoutDestroy(e->result);
	if (e->right)
		lt->MatrixLayoutDestroy(e->right);
	if (e->left)
		lt->MatrixLayoutDestroy(e->left);
	if (e->operation)
		lt->MatmulDescDestroy(e->operation);
	memset(e, 0, sizeof *e);
}

void forget_all(void)
{
	for (int i = 0; i < SLOTS && entries; i++)
		if (entries[i].shape.used)
			forget(hd_cuda_cublaslt(), &entries[i]);
	entry_count = 0;
}

#define LT_TRY(call)                                                                                                   \
	do {                                                                                                           \
		cublasStatus_t result_ = (call);                                                                       \
		if (result_ != CUBLAS_STATUS_SUCCESS)                                                                  \
			return result_;                                                                                \
	} while (0)

/* Row-major (rows,columns) is column-major (columns,rows). */
cublasStatus_t describe(const hd_cublaslt *lt, entry *e, const hd_product *p)
{
	/* op(b)^T (n,k) times op(a)^T (k,m) = c^T (n,m) */
	cublasOperation_t left = p->b_turned ? CUBLAS_OP_T : CUBLAS_OP_N,
	                  right = p->a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
	uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
	LT_TRY(lt->MatmulDescCreate(&e->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	LT_TRY(lt->MatmulDescSetAttribute(e->operation, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left));
	LT_TRY(lt->MatmulDescSetAttribute(e->operation, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right));
	if (p->bias) {
		LT_TRY(lt->MatmulDescSetAttribute(e->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias));
		LT_TRY(lt->MatmulDescSetAttribute(
		        e->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
	}
	uint64_t left_rows = p->b_turned ? k : n, right_rows = p->a_turned ? m : k;
	LT_TRY(lt->MatrixLayoutCreate(&e->left, CUDA_R_32F, left_rows, n * k / left_rows, (int64_t)left_rows));
	LT_TRY(lt->MatrixLayoutCreate(&e->right, CUDA_R_32F, right_rows, m * k / right_rows, (int64_t)right_rows));
	LT_TRY(lt->MatrixLayoutCreate(&e->result, CUDA_R_32F, n, m, (int64_t)n));
	return CUBLAS_STATUS_SUCCESS;
}

/* The algorithm that the library thinks best for the shape, its alignments and the workspace. */
cublasStatus_t choose(const hd_cublaslt *lt, entry *e, cublasLtMatmulPreference_t preference)
{
	const key *k = &e->shape;
	cublasLtMatmulHeuristicResult_t found;
	int count = 0;
	LT_TRY(lt->MatmulPreferenceSetAttribute(
	        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &k->workspace_bytes, sizeof k->workspace_bytes));
	LT_TRY(lt->MatmulPreferenceSetAttribute(
	        preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &k->b_alignment, sizeof k->b_alignment));
	LT_TRY(lt->MatmulPreferenceSetAttribute(
	        preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &k->a_alignment, sizeof k->a_alignment));
	LT_TRY(lt->MatmulPreferenceSetAttribute(
	        preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &k->c_alignment, sizeof k->c_alignment));
	LT_TRY(lt->MatmulPreferenceSetAttribute(
	        preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &k->c_alignment, sizeof k->c_alignment));
	LT_TRY(lt->MatmulAlgoGetHeuristic(
	        handle, e->operation, e->left, e->right, e->result, e->result, preference, 1, &found, &count));
	if (count < 1 || found.state != CUBLAS_STATUS_SUCCESS)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	e->algorithm = found.algo;
	return CUBLAS_STATUS_SUCCESS;
}

/* The entry of a shape, made where it is new. NULL: out of memory. */
entry *find_entry(const hd_cublaslt *lt, const hd_product *p, size_t workspace_bytes)
{
	key shape = key_of(p, workspace_bytes);
	if (!entries)
		entries = static_cast<entry *>(calloc(SLOTS, sizeof *entries));
	if (!entries)
		return NULL;
	if (entry_count > SLOTS / 2)
		forget_all();
	unsigned at = hash(&shape) % SLOTS;
	for (; entries[at].shape.used; at = (at + 1) % SLOTS)
		if (memcmp(&entries[at].shape, &shape, sizeof shape) == 0)
			return &entries[at];
	entry *e = &entries[at];
	cublasLtMatmulPreference_t preference = NULL;
	e->shape = shape;
	entry_count++;
	e->usable = describe(lt, e, p) == CUBLAS_STATUS_SUCCESS &&
	            lt->MatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
	            choose(lt, e, preference) == CUBLAS_STATUS_SUCCESS;
	if (preference)
		lt->MatmulPreferenceDestroy(preference);
	return e;
}

/* By cuBLASLt; *done tells whether it took the product. */
hd_status multiply_by_library(bool *done, const hd_product *p, const hd_stream *on)
{
	const hd_cublaslt *lt = library();
	const float one = 1;
	entry *e = lt ? find_entry(lt, p, on->workspace_bytes) : NULL;
	*done = e && e->usable;
	if (!*done)
		return HD_OK;
	cublasStatus_t result = CUBLAS_STATUS_SUCCESS;
	if (p->bias)
		result = lt->MatmulDescSetAttribute(
		        e->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
	if (result == CUBLAS_STATUS_SUCCESS)
		result = lt->Matmul(handle, e->operation, &one, p->b, e->left, p->a, e->right, &p->beta, p->c,
		        e->result, p->c, e->result, &e->algorithm, on->workspace, on->workspace_bytes, on->cuda);
	if (result != CUBLAS_STATUS_SUCCESS)
		return hd_cuda_fail(HD_E_FAILED, "cublasLtMatmul %ld x %ld x %ld: status %d", (long)p->m, (long)p->n,
		        (long)p->k, (int)result);
	return HD_OK;
}

hd_status multiply(const hd_product *p, hd_stream *stream)
{
	const hd_stream *on = stream ? stream : &hd_cuda_main_stream;
	hd_status st = HD_OK;
	bool done = false;
	if (p->m == 0 || p->n == 0)
		return HD_OK;
	if (p->k > 0) {
		pthread_mutex_lock(&lock);
		st = multiply_by_library(&done, p, on);
		pthread_mutex_unlock(&lock);
	}
	return st == HD_OK && !done ? hd_cuda_gemm(p, on->cuda) : st;
}

/*
 * part  out (pieces,K) float: column sums over the piece's rows
 * dy    in  (rows,K) float
 *
 * Piece b takes rows b*rows/pieces on. A thread adds every ROWS-th row of one column in order, and the block's ROWS
 * sums are added in order: the bits depend on the shape alone. 1 FLOP and 4 bytes per element. Block (COLUMNS, ROWS),
 * grid (pieces, K/COLUMNS), shared memory 1 KB. Goal: 80 % of the copy rate.
 */
__global__ void __launch_bounds__(COLUMNS *ROWS)
        column_sums_kernel(float *__restrict__ part, const float *__restrict__ dy, int64_t rows, int K)
{
	__shared__ float sums[ROWS][COLUMNS];
	int k = (int)(blockIdx.y * COLUMNS + threadIdx.x);
	int64_t from = blockIdx.x * rows / gridDim.x, to = (blockIdx.x + 1) * rows / gridDim.x;
	float sum = 0;
	for (int64_t row = from + threadIdx.y; row < to && k < K; row += ROWS)
		sum += dy[row * K + k];
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	if (threadIdx.y != 0 || k >= K)
		return;
	for (int i = 1; i < ROWS; i++)
		sum += sums[i][threadIdx.x];
	part[(size_t)blockIdx.x * K + k] = sum;
}

int64_t pieces_of(int64_t rows)
{
	int64_t pieces = rows / PIECE_ROWS;
	return pieces < 1 ? 1 : pieces < HD_CUDA_PIECES ? pieces : HD_CUDA_PIECES;
}

hd_status bias_gradient(float *db, const float *dy, float beta, float *part, int64_t rows, int64_t K, hd_stream *stream)
{
	int64_t pieces = pieces_of(rows);
	if (K == 0)
		return HD_OK;
	if (hd_divide_up(K, COLUMNS) > UINT16_MAX)
		return hd_cuda_fail(HD_E_UNSUPPORTED, "linear_bwd_weight: %ld outputs are too many", (long)K);
	dim3 grid((unsigned)pieces, (unsigned)hd_divide_up(K, COLUMNS));
	column_sums_kernel<<<grid, dim3(COLUMNS, ROWS), 0, hd_cuda_stream(stream)>>>(part, dy, rows, (int)K);
	hd_cuda_combine(db, part, beta, pieces, K, stream);
	return HD_CUDA_LAUNCHED(linear_bwd_weight);
}

} /* namespace */

hd_status hd_cuda_linear_fwd(void *y, const void *x, const float *w, const float *b, hd_dtype dt, int64_t rows,
        int64_t C, int64_t K, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(linear_fwd, dt);
	hd_product p = {static_cast<float *>(y), static_cast<const float *>(x), w, b, false, true, rows, K, C, 0};
	return multiply(&p, stream);
}

hd_status hd_cuda_linear_bwd_data(
        void *dx, const void *dy, const float *w, hd_dtype dt, int64_t rows, int64_t C, int64_t K, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(linear_bwd_data, dt);
	hd_product p = {static_cast<float *>(dx), static_cast<const float *>(dy), w, NULL, false, false, rows, C, K, 0};
	return multiply(&p, stream);
}

size_t hd_cuda_linear_bwd_weight_work(int64_t rows, int64_t C, int64_t K)
{
	(void)C;
	return (size_t)(pieces_of(rows) * K) * sizeof(float);
}

hd_status hd_cuda_linear_bwd_weight(float *dw, float *db, const void *dy, const void *x, float beta, void *work,
        hd_dtype dt, int64_t rows, int64_t C, int64_t K, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(linear_bwd_weight, dt);
	const float *g = static_cast<const float *>(dy);
	if (db) {
		hd_status st = bias_gradient(db, g, beta, static_cast<float *>(work), rows, K, stream);
		if (st != HD_OK)
			return st;
	}
	hd_product p = {dw, g, static_cast<const float *>(x), NULL, true, false, K, C, rows, beta};
	return multiply(&p, stream);
}

void hd_cuda_linear_close(void)
{
	pthread_mutex_lock(&lock);
	forget_all();
	free(entries);
	entries = NULL;
	if (handle)
		hd_cuda_cublaslt()->Destroy(handle);
	handle = NULL;
	handle_tried = false;
	pthread_mutex_unlock(&lock);
}
