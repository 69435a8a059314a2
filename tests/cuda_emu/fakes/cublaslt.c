/* SPDX-License-Identifier: Apache-2.0 */
/* cublasLt, compiled against NVIDIA's cublasLt.h: handles, descriptions and their attributes. */
#include "fakes/cublaslt.h"
#include "fakes/cublaslt_mood.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_ALIGNMENT = 256 };

/* ---- objects ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
	*handle = calloc(1, sizeof **handle);
	if (!*handle)
		return CUBLAS_STATUS_ALLOC_FAILED;
	(*handle)->magic = LT_MAGIC;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
	free(handle);
	return CUBLAS_STATUS_SUCCESS;
}

size_t hd_fake_cublaslt_version = 130100;

size_t cublasLtGetVersion(void)
{
	return hd_fake_cublaslt_version;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_SUCCESS:
		return "CUBLAS_STATUS_SUCCESS";
	case CUBLAS_STATUS_NOT_INITIALIZED:
		return "CUBLAS_STATUS_NOT_INITIALIZED";
	case CUBLAS_STATUS_ALLOC_FAILED:
		return "CUBLAS_STATUS_ALLOC_FAILED";
	case CUBLAS_STATUS_INVALID_VALUE:
		return "CUBLAS_STATUS_INVALID_VALUE";
	case CUBLAS_STATUS_NOT_SUPPORTED:
		return "CUBLAS_STATUS_NOT_SUPPORTED";
	case CUBLAS_STATUS_EXECUTION_FAILED:
		return "CUBLAS_STATUS_EXECUTION_FAILED";
	default:
		return "CUBLAS_STATUS_INTERNAL_ERROR";
	}
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
	return cublasLtGetStatusName(status);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(
        cublasLtMatrixLayout_t object, size_t size, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
	layout *l = (layout *)object;
	if (size < sizeof *l)
		return CUBLAS_STATUS_ALLOC_FAILED;
	*l = (layout){LT_MAGIC, type, rows, cols, ld, 0, CUBLASLT_ORDER_COL, 1};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(
        cublasLtMatrixLayout_t *object, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
	*object = calloc(1, sizeof **object);
	if (!*object)
		return CUBLAS_STATUS_ALLOC_FAILED;
	return cublasLtMatrixLayoutInit_internal(*object, sizeof **object, type, rows, cols, ld);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t object)
{
	free(object);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(
        cublasLtMatmulDesc_t object, size_t size, cublasComputeType_t compute, cudaDataType_t scale_type)
{
	operation *o = (operation *)object;
	if (size < sizeof *o)
		return CUBLAS_STATUS_ALLOC_FAILED;
	*o = (operation){.magic = LT_MAGIC,
	        .compute = compute,
	        .scale_type = scale_type,
	        .pointer_mode = CUBLASLT_POINTER_MODE_HOST,
	        .transpose_a = CUBLAS_OP_N,
	        .transpose_b = CUBLAS_OP_N,
	        .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
	        .bias_type = -1,
	        .aux_type = -1};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(
        cublasLtMatmulDesc_t *object, cublasComputeType_t compute, cudaDataType_t scale_type)
{
	*object = calloc(1, sizeof **object);
	if (!*object)
		return CUBLAS_STATUS_ALLOC_FAILED;
	return cublasLtMatmulDescInit_internal(*object, sizeof **object, compute, scale_type);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t object)
{
	free(object);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t object, size_t size)
{
	preference *p = (preference *)object;
	if (size < sizeof *p)
		return CUBLAS_STATUS_ALLOC_FAILED;
	*p = (preference){LT_MAGIC, {DEFAULT_ALIGNMENT, DEFAULT_ALIGNMENT, DEFAULT_ALIGNMENT, DEFAULT_ALIGNMENT}, 0,
	        CUBLASLT_REDUCTION_SCHEME_MASK};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *object)
{
	*object = calloc(1, sizeof **object);
	if (!*object)
		return CUBLAS_STATUS_ALLOC_FAILED;
	return cublasLtMatmulPreferenceInit_internal(*object, sizeof **object);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t object)
{
	free(object);
	return CUBLAS_STATUS_SUCCESS;
}

/* ---- attributes: a field with the size that the library documents ---- */

typedef struct field {
	int attribute;
	size_t offset, bytes;
} field;
#define FIELD(attribute, type, name)                                                                                   \
	{                                                                                                              \
		(int)(attribute), offsetof(type, name), sizeof(((type *)0)->name)                                      \
	}

static const field layout_fields[] = {
        FIELD(CUBLASLT_MATRIX_LAYOUT_TYPE, layout, type),
        FIELD(CUBLASLT_MATRIX_LAYOUT_ORDER, layout, order),
        FIELD(CUBLASLT_MATRIX_LAYOUT_ROWS, layout, rows),
        FIELD(CUBLASLT_MATRIX_LAYOUT_COLS, layout, cols),
        FIELD(CUBLASLT_MATRIX_LAYOUT_LD, layout, ld),
        FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, layout, batch),
        FIELD(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, layout, stride),
};

static const field operation_fields[] = {
        FIELD(CUBLASLT_MATMUL_DESC_POINTER_MODE, operation, pointer_mode),
        FIELD(CUBLASLT_MATMUL_DESC_TRANSA, operation, transpose_a),
        FIELD(CUBLASLT_MATMUL_DESC_TRANSB, operation, transpose_b),
        FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE, operation, epilogue),
        FIELD(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operation, bias),
        FIELD(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, operation, bias_stride),
        FIELD(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, operation, bias_type),
        FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, operation, aux),
        FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, operation, aux_ld),
        FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, operation, aux_stride),
        FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, operation, aux_type),
};

static const field preference_fields[] = {
        FIELD(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, preference, workspace_bytes),
        FIELD(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, preference, reductions),
        FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, preference, alignment[0]),
        FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, preference, alignment[1]),
        FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, preference, alignment[2]),
        FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, preference, alignment[3]),
};

static cublasStatus_t set_field(
        const field *fields, size_t count, void *object, int attribute, const void *value, size_t bytes)
{
	if (!object || *(int32_t *)object != LT_MAGIC || !value)
		return CUBLAS_STATUS_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		if (fields[i].attribute != attribute)
			continue;
		if (fields[i].bytes != bytes)
			return CUBLAS_STATUS_INVALID_VALUE;
		memcpy((char *)object + fields[i].offset, value, bytes);
		return CUBLAS_STATUS_SUCCESS;
	}
	return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(
        cublasLtMatrixLayout_t object, cublasLtMatrixLayoutAttribute_t attribute, const void *value, size_t bytes)
{
	return set_field(layout_fields, COUNT(layout_fields), object, (int)attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(
        cublasLtMatmulDesc_t object, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes)
{
	return set_field(operation_fields, COUNT(operation_fields), object, (int)attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t object,
        cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t bytes)
{
	return set_field(preference_fields, COUNT(preference_fields), object, (int)attribute, value, bytes);
}
