/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real FFT plans of FFTW, made once per length and kept for the process. Thread-safe; a plan may run in
 * many threads at once, each on its own buffers of HD_FFT_ALIGN bytes alignment.
 */
#ifndef HD_KERNELS_CPU_FFT_H
#define HD_KERNELS_CPU_FFT_H

#include <fftw3.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_FFT_ALIGN 64

/* Plan of n real points to n/2+1 complex ones, out of place. Estimated, never timed: the same bits in every run. */
hd_status hd_fft_plan(fftwf_plan *out, int64_t n);

#endif
