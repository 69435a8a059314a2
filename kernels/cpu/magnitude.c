/* SPDX-License-Identifier: Apache-2.0 */
/* |I+jQ| of interleaved pairs of any component type. */
#include <math.h>

#include "kernels/cpu/cpu.h"

#define DEFINE_MAGNITUDE(type, offset)                                                                                 \
	static void magnitude_##type(float *restrict out, const type *restrict iq, float scale, int64_t n)             \
	{                                                                                                              \
		_Pragma("omp parallel for simd schedule(static) if (parallel : n > HD_PARALLEL_MIN)") for (int64_t i = \
		                                                                                                   0;  \
		                                                                                           i < n; i++) \
		{                                                                                                      \
			float re = (float)iq[2 * i] - (offset), im = (float)iq[2 * i + 1] - (offset);                  \
			out[i] = scale * sqrtf(re * re + im * im);                                                     \
		}                                                                                                      \
	}
DEFINE_MAGNITUDE(int8_t, 0.0f)
DEFINE_MAGNITUDE(uint8_t, 127.5f)
DEFINE_MAGNITUDE(int16_t, 0.0f)
DEFINE_MAGNITUDE(float, 0.0f)
DEFINE_MAGNITUDE(double, 0.0f)

hd_status HD_CPU(magnitude)(float *out, const void *iq, hd_dtype dt, float scale, int64_t n, hd_stream *stream)
{
	(void)stream;
	switch (dt) {
	case HD_I8:
		magnitude_int8_t(out, iq, scale, n);
		return HD_OK;
	case HD_U8:
		magnitude_uint8_t(out, iq, scale, n);
		return HD_OK;
	case HD_I16:
		magnitude_int16_t(out, iq, scale, n);
		return HD_OK;
	case HD_F32:
		magnitude_float(out, iq, scale, n);
		return HD_OK;
	case HD_F64:
		magnitude_double(out, iq, scale, n);
		return HD_OK;
	default:
		return hd_fail(HD_E_UNSUPPORTED, "magnitude: no IQ of this dtype");
	}
}
