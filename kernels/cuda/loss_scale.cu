/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic loss scaling (Micikevicius et al. 2018), all of it on the device: the host never waits for the norm. */
#include "kernels/cuda/reduce.cuh"

#define SCALE_MAX 0x1p24f
#define SCALE_MIN 1.0f

/*
 * state (1), norm2 (1) float in and out. The factor on norm2 goes in as two products, as the square of inverse alone
 * may leave the range of float. A scale that is a power of two makes all of it exact.
 * Deterministic. FLOPs 5; bytes 32. Launch: one thread. Goal: latency of one launch.
 */
static __global__ void update(hd_loss_scale *state, float *norm2, int32_t growth_interval)
{
	hd_loss_scale s = *state;
	float norm = norm2[0];
	s.inverse = 1.0f / s.scale;
	norm2[0] = norm * s.inverse * s.inverse;
	if (!isfinite(norm)) {
		s.scale = fmaxf(s.scale / 2, SCALE_MIN);
		s.good = 0;
	} else if (++s.good == growth_interval) {
		s.scale = fminf(2 * s.scale, SCALE_MAX);
		s.good = 0;
	}
	*state = s;
}

extern "C" hd_status hd_cuda_loss_scale_update(
        hd_loss_scale *state, float *norm2, int32_t growth_interval, hd_stream *stream)
{
	update<<<1, 1, 0, hd_cuda_stream(stream)>>>(state, norm2, growth_interval);
	return HD_CUDA_LAUNCHED(loss_scale_update);
}
