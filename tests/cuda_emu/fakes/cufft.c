/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuFFT over FFTW3f, compiled against NVIDIA's cufft.h: single precision R2C, C2R and C2C of up to three dimensions,
 * batched, with strides. Transforms are not scaled, as cuFFT's are not. C2R overwrites its input, so that nobody relies
 * on it.
 */
#include "hooks.h"

#include <cufft.h>
#include <fftw3.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLANS = 256, MAX_RANK = 3 };

/* One side of a transform; elements are of the side's type. */
typedef struct side {
	int embed[MAX_RANK], stride, distance;
	size_t bytes;
} side;

typedef struct plan {
	bool used, made, automatic; /* automatic: the library allocates the work area */
	int rank, n[MAX_RANK], batch;
	cufftType type;
	side in, out;
	cudaStream_t stream;
	void *work_area;
	size_t work_bytes;
} plan;

static plan plans[MAX_PLANS]; /* plan 0 is not handed out */
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

static plan *find(cufftHandle handle)
{
	return handle > 0 && handle < MAX_PLANS && plans[handle].used ? &plans[handle] : NULL;
}

cufftResult cufftCreate(cufftHandle *handle)
{
	for (int i = 1; i < MAX_PLANS; i++) {
		if (plans[i].used)
			continue;
		plans[i] = (plan){.used = true, .automatic = true};
		*handle = i;
		return CUFFT_SUCCESS;
	}
	return CUFFT_ALLOC_FAILED;
}

cufftResult cufftDestroy(cufftHandle handle)
{
	plan *p = find(handle);
	if (!p)
		return CUFFT_INVALID_PLAN;
	p->used = false;
	return CUFFT_SUCCESS;
}

cufftResult cufftSetStream(cufftHandle handle, cudaStream_t stream)
{
	plan *p = find(handle);
	if (!p)
		return CUFFT_INVALID_PLAN;
	p->stream = stream;
	return CUFFT_SUCCESS;
}

cufftResult cufftSetAutoAllocation(cufftHandle handle, int automatic)
{
	plan *p = find(handle);
	if (!p)
		return CUFFT_INVALID_PLAN;
	p->automatic = automatic != 0;
	return CUFFT_SUCCESS;
}

cufftResult cufftSetWorkArea(cufftHandle handle, void *area)
{
	plan *p = find(handle);
	if (!p)
		return CUFFT_INVALID_PLAN;
	p->work_area = area;
	return CUFFT_SUCCESS;
}

cufftResult cufftGetSize(cufftHandle handle, size_t *bytes)
{
	plan *p = find(handle);
	if (!p || !p->made)
		return CUFFT_INVALID_PLAN;
	*bytes = p->work_bytes;
	return CUFFT_SUCCESS;
}

cufftResult cufftGetVersion(int *version)
{
	*version = CUFFT_VERSION;
	return CUFFT_SUCCESS;
}

/* Elements from the first to the last of a batch, the last of n elements per dimension included. */
static size_t reach(const plan *p, const side *s, const int *n)
{
	size_t last = 0;
	for (int i = 0; i < p->rank; i++)
		last = last * (size_t)s->embed[i] + (size_t)(n[i] - 1);
	return (size_t)s->distance * (size_t)(p->batch - 1) + last * (size_t)s->stride + 1;
}

/* NULL embed: contiguous, whatever stride and distance say. */
static void lay_out(plan *p, side *s, const int *embed, int stride, int distance, bool halved, size_t element_bytes)
{
	int n[MAX_RANK], total = 1;
	for (int i = 0; i < p->rank; i++) {
		n[i] = halved && i == p->rank - 1 ? p->n[i] / 2 + 1 : p->n[i];
		s->embed[i] = embed ? embed[i] : n[i];
		total *= n[i];
	}
	s->stride = embed ? stride : 1;
	s->distance = embed ? distance : total;
	s->bytes = reach(p, s, n) * element_bytes;
}

cufftResult cufftMakePlanMany(cufftHandle handle, int rank, int *n, int *inembed, int istride, int idist, int *onembed,
        int ostride, int odist, cufftType type, int batch, size_t *work_bytes)
{
	plan *p = find(handle);
	if (!p)
		return CUFFT_INVALID_PLAN;
	if (rank < 1 || rank > MAX_RANK || batch < 1 || !n)
		return CUFFT_INVALID_SIZE;
	if (type != CUFFT_R2C && type != CUFFT_C2R && type != CUFFT_C2C)
		return CUFFT_INVALID_TYPE;
	for (int i = 0; i < rank; i++) {
		if (n[i] < 1)
			return CUFFT_INVALID_SIZE;
		p->n[i] = n[i];
	}
	/* cuFFT takes the advanced layout from both or from none */
	bool advanced = inembed && onembed;
	p->rank = rank;
	p->batch = batch;
	p->type = type;
	lay_out(p, &p->in, advanced ? inembed : NULL, istride, idist, type == CUFFT_C2R,
	        type == CUFFT_R2C ? sizeof(cufftReal) : sizeof(cufftComplex));
	lay_out(p, &p->out, advanced ? onembed : NULL, ostride, odist, type == CUFFT_R2C,
	        type == CUFFT_C2R ? sizeof(cufftReal) : sizeof(cufftComplex));
	p->work_bytes = p->out.bytes > p->in.bytes ? p->out.bytes : p->in.bytes;
	p->made = true;
	if (work_bytes)
		*work_bytes = p->work_bytes;
	return CUFFT_SUCCESS;
}

cufftResult cufftPlanMany(cufftHandle *handle, int rank, int *n, int *inembed, int istride, int idist, int *onembed,
        int ostride, int odist, cufftType type, int batch)
{
	cufftResult result = cufftCreate(handle);
	if (result)
		return result;
	result = cufftMakePlanMany(
	        *handle, rank, n, inembed, istride, idist, onembed, ostride, odist, type, batch, NULL);
	if (result)
		cufftDestroy(*handle);
	return result;
}

cufftResult cufftPlan1d(cufftHandle *handle, int n, cufftType type, int batch)
{
	return cufftPlanMany(handle, 1, &n, NULL, 1, 0, NULL, 1, 0, type, batch);
}

cufftResult cufftPlan2d(cufftHandle *handle, int rows, int columns, cufftType type)
{
	int n[2] = {rows, columns};
	return cufftPlanMany(handle, 2, n, NULL, 1, 0, NULL, 1, 0, type, 1);
}

typedef struct job {
	plan p;
	void *in, *out;
	int direction;
} job;

static fftwf_plan make_fftw_plan(const job *j)
{
	const plan *p = &j->p;
	const side *i = &p->in, *o = &p->out;
	unsigned flags = FFTW_ESTIMATE | FFTW_UNALIGNED;
	if (p->type == CUFFT_R2C)
		return fftwf_plan_many_dft_r2c(p->rank, p->n, p->batch, j->in, i->embed, i->stride, i->distance, j->out,
		        o->embed, o->stride, o->distance, flags);
	if (p->type == CUFFT_C2R)
		return fftwf_plan_many_dft_c2r(p->rank, p->n, p->batch, j->in, i->embed, i->stride, i->distance, j->out,
		        o->embed, o->stride, o->distance, flags);
	return fftwf_plan_many_dft(p->rank, p->n, p->batch, j->in, i->embed, i->stride, i->distance, j->out, o->embed,
	        o->stride, o->distance, j->direction, flags);
}

static void run(void *work)
{
	const job *j = work;
	bool overwrites = j->p.type == CUFFT_C2R && j->in != j->out;
	hd_emu_reads(j->in, j->p.in.bytes);
	hd_emu_writes(j->out, j->p.out.bytes);
	if (overwrites)
		hd_emu_writes(j->in, j->p.in.bytes);
	if (j->p.work_area)
		hd_emu_writes(j->p.work_area, j->p.work_bytes);
	pthread_mutex_lock(&planner);
	fftwf_plan fftw = make_fftw_plan(j);
	pthread_mutex_unlock(&planner);
	if (!fftw)
		hd_emu_fail("cufft: FFTW makes no plan of this transform");
	fftwf_execute(fftw);
	pthread_mutex_lock(&planner);
	fftwf_destroy_plan(fftw);
	pthread_mutex_unlock(&planner);
	if (overwrites)
		memset(j->in, 0xff, j->p.in.bytes);
	if (j->p.work_area)
		memset(j->p.work_area, 0xff, j->p.work_bytes);
}

static cufftResult execute(cufftHandle handle, cufftType type, void *in, void *out, int direction)
{
	plan *p = find(handle);
	if (!p || !p->made)
		return CUFFT_INVALID_PLAN;
	if (p->type != type)
		return CUFFT_INVALID_TYPE;
	if (!in || !out || (uintptr_t)in % sizeof(cufftComplex) || (uintptr_t)out % sizeof(cufftComplex))
		return CUFFT_INVALID_VALUE;
	if (!p->automatic && !p->work_area)
		return CUFFT_NO_WORKSPACE;
	hd_emu_need(in, p->in.bytes, "cufftExec, input");
	hd_emu_need(out, p->out.bytes, "cufftExec, output");
	if (p->work_area)
		hd_emu_need(p->work_area, p->work_bytes, "cufftExec, work area");
	job *j = malloc(sizeof *j);
	if (!j)
		return CUFFT_ALLOC_FAILED;
	*j = (job){*p, in, out, direction};
	return hd_emu_submit(p->stream, "cufftExec", run, free, j) ? CUFFT_EXEC_FAILED : CUFFT_SUCCESS;
}

cufftResult cufftExecR2C(cufftHandle handle, cufftReal *in, cufftComplex *out)
{
	return execute(handle, CUFFT_R2C, in, out, CUFFT_FORWARD);
}

cufftResult cufftExecC2R(cufftHandle handle, cufftComplex *in, cufftReal *out)
{
	return execute(handle, CUFFT_C2R, in, out, CUFFT_INVERSE);
}

cufftResult cufftExecC2C(cufftHandle handle, cufftComplex *in, cufftComplex *out, int direction)
{
	if (direction != CUFFT_FORWARD && direction != CUFFT_INVERSE)
		return CUFFT_INVALID_VALUE;
	return execute(handle, CUFFT_C2C, in, out, direction);
}
