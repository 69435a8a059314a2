/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/product.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/product_choice.h"
#include "kernels/cuda/tune_record.h"

#define SLOTS 2048        /* shapes kept, a power of two */
#define MAX_ALIGNMENT 256 /* beyond that cuBLASLt does not care */

/* Of all that is kept, bias pointers of the operations included: streams may belong to different threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static hd_product_plan *plans; /* SLOTS, open addressing; one whose key has no m is free */
static int plan_count;
static cublasLtHandle_t handle;
static bool handle_tried;
static atomic_bool tf32;

void hd_cuda_linear_allow_tf32(bool allow)
{
	tf32 = allow;
}

bool hd_cuda_linear_tf32(void)
{
	return tf32;
}

/* NULL where the library is missing or does not start. */
static const hd_cublaslt *library(void)
{
	const hd_cublaslt *lt = hd_cuda_cublaslt();
	if (lt && !handle_tried && lt->Create(&handle) != CUBLAS_STATUS_SUCCESS) {
		handle = NULL;
		cudaGetLastError(); /* or the next launch finds this error */
	}
	handle_tried = true;
	return handle ? lt : NULL;
}

static unsigned alignment(const void *p)
{
	uintptr_t address = (uintptr_t)p | MAX_ALIGNMENT;
	return (unsigned)(address & -address);
}

static void key_of(hd_product_key *out, const hd_product *p, size_t workspace_bytes)
{
	memset(out, 0, sizeof *out); /* keys are compared as bytes */
	out->m = p->m;
	out->n = p->n;
	out->k = p->k;
	out->workspace_bytes = workspace_bytes;
	out->a_alignment = alignment(p->a);
	out->b_alignment = alignment(p->b);
	out->c_alignment = alignment(p->c);
	out->bias_alignment = p->bias ? alignment(p->bias) : 0;
	out->dt = p->dt;
	out->a_turned = p->a_turned;
	out->b_turned = p->b_turned;
	out->tf32 = p->dt == HD_F32 && tf32;
}

static void forget(const hd_cublaslt *lt, hd_product_plan *plan)
{
	if (plan->result)
		lt->MatrixLayoutDestroy(plan->result);
	if (plan->right)
		lt->MatrixLayoutDestroy(plan->right);
	if (plan->left)
		lt->MatrixLayoutDestroy(plan->left);
	if (plan->operation)
		lt->MatmulDescDestroy(plan->operation);
	memset(plan, 0, sizeof *plan);
}

static void forget_all(void)
{
	for (int i = 0; i < SLOTS && plans; i++)
		if (plans[i].key.m)
			forget(hd_cuda_cublaslt(), &plans[i]);
	plan_count = 0;
}

static cudaDataType_t type_of(hd_dtype dt)
{
	return dt == HD_BF16 ? CUDA_R_16BF : dt == HD_F16 ? CUDA_R_16F : CUDA_R_32F;
}

#define LT_TRY(call)                                                                                                   \
	do {                                                                                                           \
		cublasStatus_t result_ = (call);                                                                       \
		if (result_ != CUBLAS_STATUS_SUCCESS)                                                                  \
			return result_;                                                                                \
	} while (0)

/* Row-major (rows,columns) is column-major (columns,rows). The bias has the type of the result unless one says so. */
static cublasStatus_t describe(const hd_cublaslt *lt, hd_product_plan *plan, const hd_product *p)
{
	/* op(b)^T (n,k) times op(a)^T (k,m) = c^T (n,m) */
	cublasOperation_t left = p->b_turned ? CUBLAS_OP_T : CUBLAS_OP_N,
	                  right = p->a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasComputeType_t sums = plan->key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
	cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
	cudaDataType_t in = type_of(p->dt), out = type_of(hd_product_result(p));
	uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
	LT_TRY(lt->MatmulDescCreate(&plan->operation, sums, CUDA_R_32F));
	LT_TRY(lt->MatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left));
	LT_TRY(lt->MatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right));
	if (p->bias) {
		LT_TRY(lt->MatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias));
		LT_TRY(lt->MatmulDescSetAttribute(
		        plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
	}
	uint64_t left_rows = p->b_turned ? k : n, right_rows = p->a_turned ? m : k;
	LT_TRY(lt->MatrixLayoutCreate(&plan->left, in, left_rows, n * k / left_rows, (int64_t)left_rows));
	LT_TRY(lt->MatrixLayoutCreate(&plan->right, in, right_rows, m * k / right_rows, (int64_t)right_rows));
	LT_TRY(lt->MatrixLayoutCreate(&plan->result, out, n, m, (int64_t)n));
	return CUBLAS_STATUS_SUCCESS;
}

/* The plan of a shape, made where it is new. NULL: out of memory. */
static hd_product_plan *find_plan(const hd_cublaslt *lt, const hd_product *p, const hd_stream *on)
{
	hd_product_key key;
	key_of(&key, p, on->workspace_bytes);
	if (!plans)
		plans = calloc(SLOTS, sizeof *plans);
	if (!plans)
		return NULL;
	if (plan_count > SLOTS / 2)
		forget_all();
	unsigned at = (unsigned)(hd_cuda_hash(&key, sizeof key) % SLOTS);
	for (; plans[at].key.m; at = (at + 1) % SLOTS)
		if (memcmp(&plans[at].key, &key, sizeof key) == 0)
			return &plans[at];
	hd_product_plan *plan = &plans[at];
	plan->key = key;
	plan->handle = handle;
	plan_count++;
	plan->usable = describe(lt, plan, p) == CUBLAS_STATUS_SUCCESS && hd_cuda_product_choose(plan, p, on);
	return plan;
}

cublasStatus_t hd_cuda_product_queue(
        const hd_product_plan *plan, const cublasLtMatmulAlgo_t *algorithm, const hd_product *p, const hd_stream *on)
{
	const hd_cublaslt *lt = hd_cuda_cublaslt();
	const float one = 1;
	if (p->bias)
		LT_TRY(lt->MatmulDescSetAttribute(
		        plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
	return lt->Matmul(plan->handle, plan->operation, &one, p->b, plan->left, p->a, plan->right, &p->beta, p->c,
	        plan->result, p->c, plan->result, algorithm, on->workspace, on->workspace_bytes, on->cuda);
}

/* By cuBLASLt; *done tells whether it took the product. */
static hd_status multiply_by_library(bool *done, const hd_product *p, const hd_stream *on)
{
	const hd_cublaslt *lt = library();
	hd_product_plan *plan = lt ? find_plan(lt, p, on) : NULL;
	*done = plan && plan->usable;
	if (!*done)
		return HD_OK;
	cublasStatus_t result = hd_cuda_product_queue(plan, &plan->algorithm, p, on);
	if (result == CUBLAS_STATUS_SUCCESS)
		return HD_OK;
	if (result != CUBLAS_STATUS_NOT_SUPPORTED && result != CUBLAS_STATUS_INVALID_VALUE)
		return hd_cuda_fail(HD_E_FAILED, "cublasLtMatmul %ld x %ld x %ld: status %d", (long)p->m, (long)p->n,
		        (long)p->k, (int)result);
	/* refused before anything was queued, which what it had checked does not rule out */
	hd_cuda_tune_record_note("product %ld x %ld x %ld: cuBLASLt refuses its own algorithm with status %d; the own "
	                         "kernel takes its place\n",
	        (long)p->m, (long)p->n, (long)p->k, (int)result);
	cudaGetLastError(); /* or the next launch finds this error */
	plan->usable = *done = false;
	return HD_OK;
}

hd_status hd_cuda_multiply(const hd_product *p, hd_stream *stream)
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

void hd_cuda_linear_close(void)
{
	pthread_mutex_lock(&lock);
	forget_all();
	free(plans);
	plans = NULL;
	if (handle)
		hd_cuda_cublaslt()->Destroy(handle);
	handle = NULL;
	handle_tried = false;
	tf32 = false;
	pthread_mutex_unlock(&lock);
}
