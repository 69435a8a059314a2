/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for cublasLt against naive loops, and what it refuses. */
#include "fakes/number.h"
#include "self.h"

#include <cublasLt.h>

enum { M = 24, N = 10, K = 35, BATCH = 2, LD_EXTRA = 3, WORKSPACE = 1 << 20 };

#define LT_OK(call) CHECK_LT(call, CUBLAS_STATUS_SUCCESS)
#define CHECK_LT(call, wanted)                                                                                         \
	do {                                                                                                           \
		cublasStatus_t got_ = (call);                                                                          \
		CHECK(got_ == (wanted), "got %s, wanted %s", cublasLtGetStatusName(got_), #wanted);                    \
	} while (0)

typedef struct matrix {
	cudaDataType_t type;
	uint64_t rows, cols, ld, stride;
	bool row_order;
	int batch;
	size_t numbers;
	void *host, *device;
	cublasLtMatrixLayout_t layout;
} matrix;

static size_t place(const matrix *m, int batch, uint64_t row, uint64_t col)
{
	return (size_t)batch * m->stride + (m->row_order ? row * m->ld + col : col * m->ld + row);
}

static double at(const matrix *m, int batch, uint64_t row, uint64_t col)
{
	return load_number(m->host, place(m, batch, row, col), m->type);
}

static matrix new_matrix(cudaDataType_t type, uint64_t rows, uint64_t cols, bool row_order, int batch)
{
	int32_t order = row_order ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL, count = batch;
	matrix m = {.type = type, .rows = rows, .cols = cols, .row_order = row_order, .batch = batch};
	m.ld = (row_order ? cols : rows) + LD_EXTRA;
	m.stride = m.ld * (row_order ? rows : cols) + 5;
	m.numbers = m.stride * (size_t)batch;
	m.host = malloc(m.numbers * number_bytes(type));
	for (size_t i = 0; i < m.numbers; i++)
		store_number(m.host, i, type, random_float());
	m.device = to_device(m.host, m.numbers * number_bytes(type));
	int64_t stride = (int64_t)m.stride;
	LT_OK(cublasLtMatrixLayoutCreate(&m.layout, type, rows, cols, (int64_t)m.ld));
	LT_OK(cublasLtMatrixLayoutSetAttribute(m.layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
	LT_OK(cublasLtMatrixLayoutSetAttribute(m.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
	LT_OK(cublasLtMatrixLayoutSetAttribute(
	        m.layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
	return m;
}

static void free_matrix(matrix *m)
{
	free(m->host);
	CUDA_OK(cudaFree(m->device));
	LT_OK(cublasLtMatrixLayoutDestroy(m->layout));
}

typedef struct product {
	const char *name;
	cudaDataType_t type, out_type;
	bool ta, tb, row_order;
	int batch;
	cublasLtEpilogue_t epilogue;
	float alpha, beta;
	double tolerance;
} product;

typedef struct setup {
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t op;
	cublasLtMatmulPreference_t preference;
	matrix a, b, d;
	float bias[M > N ? M : N], aux[N * M];
	float *device_bias, *device_aux;
	char *workspace;
	cublasLtMatmulHeuristicResult_t found;
	cudaStream_t stream;
} setup;

static void set(cublasLtMatmulDesc_t op, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes)
{
	LT_OK(cublasLtMatmulDescSetAttribute(op, attribute, value, bytes));
}

static void make(setup *s, const product *p)
{
	cublasOperation_t ta = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
	size_t workspace = WORKSPACE;
	int64_t aux_ld = M;
	uint32_t alignment = 16;
	memset(s, 0, sizeof *s);
	s->stream = new_stream();
	LT_OK(cublasLtCreate(&s->handle));
	LT_OK(cublasLtMatmulDescCreate(&s->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	LT_OK(cublasLtMatmulPreferenceCreate(&s->preference));
	LT_OK(cublasLtMatmulPreferenceSetAttribute(
	        s->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
	LT_OK(cublasLtMatmulPreferenceSetAttribute(
	        s->preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment));
	s->a = new_matrix(p->type, p->ta ? K : M, p->ta ? M : K, p->row_order, p->batch);
	s->b = new_matrix(p->type, p->tb ? N : K, p->tb ? K : N, p->row_order, p->batch);
	s->d = new_matrix(p->out_type, M, N, p->row_order, p->batch);
	for (size_t i = 0; i < sizeof s->bias / sizeof *s->bias; i++)
		s->bias[i] = random_float();
	for (size_t i = 0; i < M * N; i++)
		s->aux[i] = random_float();
	s->device_bias = to_device(s->bias, sizeof s->bias);
	s->device_aux = to_device(s->aux, sizeof s->aux);
	s->workspace = to_device(NULL, WORKSPACE);
	cudaDataType_t f32 = CUDA_R_32F;
	set(s->op, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta);
	set(s->op, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb);
	set(s->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue, sizeof p->epilogue);
	set(s->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &s->device_bias, sizeof s->device_bias);
	set(s->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &f32, sizeof f32);
	set(s->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &s->device_aux, sizeof s->device_aux);
	set(s->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &aux_ld, sizeof aux_ld);
	set(s->op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &f32, sizeof f32);
	int found = 0;
	LT_OK(cublasLtMatmulAlgoGetHeuristic(s->handle, s->op, s->a.layout, s->b.layout, s->d.layout, s->d.layout,
	        s->preference, 1, &s->found, &found));
	CHECK(found == 1 && s->found.workspaceSize <= WORKSPACE, "%d algorithms found", found);
}

static void destroy(setup *s)
{
	free_matrix(&s->a);
	free_matrix(&s->b);
	free_matrix(&s->d);
	CUDA_OK(cudaFree(s->device_bias));
	CUDA_OK(cudaFree(s->device_aux));
	CUDA_OK(cudaFree(s->workspace));
	LT_OK(cublasLtMatmulDescDestroy(s->op));
	LT_OK(cublasLtMatmulPreferenceDestroy(s->preference));
	LT_OK(cublasLtDestroy(s->handle));
	CUDA_OK(cudaStreamDestroy(s->stream));
}

static double gelu(double x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* By the difference quotient, so that the test shares no formula with what it tests. */
static double gelu_slope(double x)
{
	return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
}

static double plain_product(const setup *s, const product *p, int batch, uint64_t r, uint64_t c)
{
	double sum = 0;
	for (uint64_t k = 0; k < K; k++)
		sum += (p->ta ? at(&s->a, batch, k, r) : at(&s->a, batch, r, k)) *
		       (p->tb ? at(&s->b, batch, c, k) : at(&s->b, batch, k, c));
	return p->alpha * sum + (p->beta != 0 ? p->beta * at(&s->d, batch, r, c) : 0);
}

static void check_product(const product *p)
{
	setup s;
	make(&s, p);
	uint32_t e = (uint32_t)p->epilogue;
	LT_OK(cublasLtMatmul(s.handle, s.op, &p->alpha, s.a.device, s.a.layout, s.b.device, s.b.layout, &p->beta,
	        s.d.device, s.d.layout, s.d.device, s.d.layout, &s.found.algo, s.workspace, WORKSPACE, s.stream));
	CUDA_OK(cudaStreamSynchronize(s.stream));
	void *got = malloc(s.d.numbers * number_bytes(p->out_type));
	float bias[sizeof s.bias / sizeof *s.bias], aux[M * N];
	double gradient[M] = {0};
	from_device(got, s.d.device, s.d.numbers * number_bytes(p->out_type));
	from_device(bias, s.device_bias, sizeof bias);
	from_device(aux, s.device_aux, sizeof aux);
	for (int i = 0; i < p->batch; i++)
		for (uint64_t r = 0; r < M; r++)
			for (uint64_t c = 0; c < N; c++) {
				double x = plain_product(&s, p, i, r, c);
				if (e & 4)
					x += s.bias[r];
				if ((e & 128) && (e & 32))
					CHECK(fabs(aux[c * M + r] - x) <= p->tolerance, "%s, auxiliary matrix",
					        p->name);
				if (e & 32)
					x = gelu(x);
				if (e & 2)
					x = fmax(x, 0);
				if (e & 64)
					x *= gelu_slope(s.aux[c * M + r]);
				gradient[r] += x;
				double y = load_number(got, place(&s.d, i, r, c), p->out_type);
				CHECK(fabs(y - x) <= p->tolerance, "%s, batch %d, (%d,%d): got %g, wanted %g", p->name,
				        i, (int)r, (int)c, y, x);
			}
	for (uint64_t i = 0; i < M && (e & (16 | 256)); i++) {
		double wanted = gradient[i];
		if (e & 256) {
			wanted = 0;
			for (uint64_t k = 0; k < K; k++)
				wanted += p->ta ? at(&s.a, 0, k, i) : at(&s.a, 0, i, k);
		}
		CHECK(fabs(bias[i] - wanted) <= 1e-4, "%s, bias gradient %d: got %g, wanted %g", p->name, (int)i,
		        (double)bias[i], wanted);
	}
	for (uint64_t i = 0; i < N && (e & 512); i++) {
		double wanted = 0;
		for (uint64_t k = 0; k < K; k++)
			wanted += p->tb ? at(&s.b, 0, i, k) : at(&s.b, 0, k, i);
		CHECK(fabs(bias[i] - wanted) <= 1e-4, "%s, bias gradient %d", p->name, (int)i);
	}
	free(got);
	destroy(&s);
}

static const product products[] = {
        {"NN", CUDA_R_32F, CUDA_R_32F, false, false, false, 1, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 1e-5},
        {"TN, alpha, beta", CUDA_R_32F, CUDA_R_32F, true, false, false, 1, CUBLASLT_EPILOGUE_DEFAULT, 0.5f, 2, 1e-5},
        {"NT, rows, batches", CUDA_R_32F, CUDA_R_32F, false, true, true, BATCH, CUBLASLT_EPILOGUE_DEFAULT, 1, 1, 1e-5},
        {"TT, batches", CUDA_R_32F, CUDA_R_32F, true, true, false, BATCH, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 1e-5},
        {"bf16", CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0.06},
        {"bf16 into f32", CUDA_R_16BF, CUDA_R_32F, true, false, false, 1, CUBLASLT_EPILOGUE_BIAS, 1, 0, 1e-5},
        {"f16", CUDA_R_16F, CUDA_R_16F, false, false, true, BATCH, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0.008},
        {"bias", CUDA_R_32F, CUDA_R_32F, true, false, false, BATCH, CUBLASLT_EPILOGUE_BIAS, 1, 0, 1e-5},
        {"relu, bias", CUDA_R_32F, CUDA_R_32F, true, false, false, 1, CUBLASLT_EPILOGUE_RELU_BIAS, 1, 0, 1e-5},
        {"gelu", CUDA_R_32F, CUDA_R_32F, false, false, false, 1, CUBLASLT_EPILOGUE_GELU, 1, 0, 1e-5},
        {"gelu, bias, aux", CUDA_R_32F, CUDA_R_32F, true, false, false, 1, CUBLASLT_EPILOGUE_GELU_AUX_BIAS, 1, 0, 1e-5},
        {"dgelu", CUDA_R_32F, CUDA_R_32F, false, true, false, 1, CUBLASLT_EPILOGUE_DGELU, 1, 0, 1e-5},
        {"dgelu, bgrad", CUDA_R_32F, CUDA_R_32F, false, true, false, 1, CUBLASLT_EPILOGUE_DGELU_BGRAD, 1, 0, 1e-5},
        {"bgrada", CUDA_R_32F, CUDA_R_32F, false, true, false, 1, CUBLASLT_EPILOGUE_BGRADA, 1, 0, 1e-5},
        {"bgradb", CUDA_R_32F, CUDA_R_32F, true, true, false, 1, CUBLASLT_EPILOGUE_BGRADB, 1, 0, 1e-5},
};

static void all_products(void)
{
	for (size_t i = 0; i < sizeof products / sizeof *products; i++)
		check_product(&products[i]);
}

static cublasStatus_t multiply(setup *s, const cublasLtMatmulAlgo_t *algo, void *a, void *workspace, size_t bytes)
{
	float one = 1, zero = 0;
	return cublasLtMatmul(s->handle, s->op, &one, a, s->a.layout, s->b.device, s->b.layout, &zero, s->d.device,
	        s->d.layout, s->d.device, s->d.layout, algo, workspace, bytes, s->stream);
}

static void refusals(void)
{
	setup s, other;
	cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS, aux = CUBLASLT_EPILOGUE_GELU_AUX;
	void *null = NULL;
	int64_t ld = M - 1, odd_ld = M + 1;
	int found;
	make(&s, &products[0]);
	make(&other, &products[1]);
	LT_OK(multiply(&s, &s.found.algo, s.a.device, s.workspace, WORKSPACE));
	LT_OK(multiply(&s, NULL, s.a.device, NULL, 0));
	CHECK_LT(multiply(&s, &s.found.algo, s.a.device, NULL, 0), CUBLAS_STATUS_INVALID_VALUE);
	CHECK_LT(multiply(&s, &s.found.algo, s.a.device, s.workspace, 100), CUBLAS_STATUS_INVALID_VALUE);
	CHECK_LT(multiply(&s, &s.found.algo, s.a.device, s.workspace + 4, WORKSPACE - 4), CUBLAS_STATUS_INVALID_VALUE);
	CHECK_LT(multiply(&s, &s.found.algo, (char *)s.a.device + 4, s.workspace, WORKSPACE),
	        CUBLAS_STATUS_INVALID_VALUE);
	CHECK_LT(multiply(&s, &other.found.algo, s.a.device, s.workspace, WORKSPACE), CUBLAS_STATUS_NOT_SUPPORTED);
	CHECK_LT(cublasLtMatmulDescSetAttribute(s.op, CUBLASLT_MATMUL_DESC_TRANSA, &ld, sizeof ld),
	        CUBLAS_STATUS_INVALID_VALUE);
	set(s.op, CUBLASLT_MATMUL_DESC_EPILOGUE, &aux, sizeof aux);
	set(s.op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &odd_ld, sizeof odd_ld);
	CHECK_LT(cublasLtMatmulAlgoGetHeuristic(s.handle, s.op, s.a.layout, s.b.layout, s.d.layout, s.d.layout,
	                 s.preference, 1, &s.found, &found),
	        CUBLAS_STATUS_NOT_SUPPORTED);
	set(s.op, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias);
	set(s.op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &null, sizeof null);
	CHECK_LT(multiply(&s, NULL, s.a.device, NULL, 0), CUBLAS_STATUS_INVALID_VALUE);
	LT_OK(cublasLtMatrixLayoutSetAttribute(s.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld));
	CHECK_LT(multiply(&s, NULL, s.a.device, NULL, 0), CUBLAS_STATUS_INVALID_VALUE);
	CUDA_OK(cudaDeviceSynchronize());
	destroy(&s);
	destroy(&other);
}

static void host_operand(void)
{
	setup s;
	make(&s, &products[0]);
	multiply(&s, NULL, s.a.host, NULL, 0);
}

static void too_small(void)
{
	setup s;
	make(&s, &products[0]);
	CUDA_OK(cudaFree(s.a.device));
	s.a.device = to_device(NULL, (s.a.numbers - 9) * sizeof(float));
	multiply(&s, NULL, s.a.device, NULL, 0);
}

/* Two streams, one workspace: nothing orders the two products. */
static void shared_workspace(void)
{
	setup s;
	make(&s, &products[0]);
	matrix other = new_matrix(CUDA_R_32F, M, N, false, 1);
	LT_OK(multiply(&s, &s.found.algo, s.a.device, s.workspace, WORKSPACE));
	s.stream = new_stream();
	s.d = other;
	LT_OK(multiply(&s, &s.found.algo, s.a.device, s.workspace, WORKSPACE));
}

const test_case blas_cases[] = {
        {"products", NULL, all_products, EVERY(PASSES)},
        {"products_lazy", "HD_EMU_LAZY=1 HD_EMU_LEAKS=1 HD_EMU_DEFAULT_STREAM=forbid", all_products, EVERY(PASSES)},
        {"products_poisoned", "HD_EMU_POISON=1", all_products, {NOT_RUN, PASSES, NOT_RUN}},
        {"product_refusals", NULL, refusals, EVERY(PASSES)},
        {"product_of_host_memory", NULL, host_operand, EVERY("cublasLtMatmul, A: ")},
        {"product_too_small", NULL, too_small, EVERY("cublasLtMatmul, A: ")},
        {"product_shared_workspace", NULL, shared_workspace, {NOT_RUN, NOT_RUN, "ThreadSanitizer: data race"}},
        {NULL, NULL, NULL, EVERY(PASSES)},
};
