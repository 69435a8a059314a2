/* SPDX-License-Identifier: Apache-2.0 */
/* Half-precision numbers in memory, for the stand-ins of vendor libraries. */
#ifndef HD_EMU_NUMBER_H
#define HD_EMU_NUMBER_H

#include "kernels/half.h"

#include <library_types.h>
#include <math.h>
#include <stddef.h>

/* To the nearest, ties to even. */
static inline uint16_t float_to_bf16(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if (isnan(value))
		return 0x7fff;
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* 0: a type that the stand-ins do not know. */
static inline size_t number_bytes(cudaDataType_t type)
{
	return type == CUDA_R_32F ? 4 : type == CUDA_R_16F || type == CUDA_R_16BF ? 2 : 0;
}

static inline float load_number(const void *array, size_t index, cudaDataType_t type)
{
	if (type == CUDA_R_32F)
		return ((const float *)array)[index];
	uint16_t bits = ((const uint16_t *)array)[index];
	return type == CUDA_R_16F ? hd_half_to_float(bits) : hd_bf16_to_float(bits);
}

static inline void store_number(void *array, size_t index, cudaDataType_t type, float value)
{
	if (type == CUDA_R_32F)
		((float *)array)[index] = value;
	else
		((uint16_t *)array)[index] = type == CUDA_R_16F ? hd_float_to_half(value) : float_to_bf16(value);
}

#endif
