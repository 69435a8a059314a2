/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the power spectrogram: what its two ways, own transform and cuFFT, share. */
#ifndef HD_KERNELS_CUDA_STFT_H
#define HD_KERNELS_CUDA_STFT_H

#include "kernels/cuda/cuda.h"

/* Arguments of stft_power (power set, db NULL) or of stft_mel_db (db set, power NULL), as in kernels.def. */
typedef struct hd_stft {
	float *power, *db;
	const float *x, *window;
	const int32_t *first, *offset;
	const float *w;
	float scale, floor;
	int64_t R, n, T, n_fft, hop, M;
} hd_stft;

/* cuFFT is there and has a plan for the job. */
bool hd_cuda_stft_cufft_ready(const hd_stft *job);

/* By cuFFT, with frames and spectra in device memory, for any even n_fft that it is ready for. */
hd_status hd_cuda_stft_cufft(const hd_stft *job, cudaStream_t stream);
void hd_cuda_stft_cufft_close(void);

#endif
