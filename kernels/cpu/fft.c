/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/fft.h"

#include <pthread.h>
#include <stdlib.h>

#include "host/common/memory.h"

typedef struct planned {
	int64_t n;
	fftwf_plan plan;
} planned;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static planned *plans;
static size_t plan_count, plan_capacity;

static hd_status make_plan(fftwf_plan *out, int64_t n)
{
	float *in = fftwf_malloc((size_t)n * sizeof(float));
	fftwf_complex *spectrum = fftwf_malloc((size_t)(n / 2 + 1) * sizeof(fftwf_complex));
	*out = in && spectrum ? fftwf_plan_dft_r2c_1d((int)n, in, spectrum, FFTW_ESTIMATE | FFTW_DESTROY_INPUT) : NULL;
	fftwf_free(spectrum);
	fftwf_free(in);
	return *out ? HD_OK : hd_fail(HD_E_FAILED, "FFTW makes no plan of %ld points", (long)n);
}

hd_status hd_fft_plan(fftwf_plan *out, int64_t n)
{
	hd_status st = HD_OK;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < plan_count; i++) {
		if (plans[i].n == n) {
			*out = plans[i].plan;
			goto done;
		}
	}
	HD_TRY(hd_grow(&plans, &plan_capacity, plan_count + 1, sizeof *plans));
	HD_TRY(make_plan(out, n));
	plans[plan_count++] = (planned){n, *out};
done:
	pthread_mutex_unlock(&lock);
	return st;
}
