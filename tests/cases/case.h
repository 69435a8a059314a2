/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases: for one operation its shapes, inputs, reference, error bounds and costs. Tests and bench use the
 * same objects, hd_case_NAME, one per line of kernels.def. A run owns its buffers; one thread per run.
 */
#ifndef HD_TESTS_CASE_H
#define HD_TESTS_CASE_H

#include "heimdall/backend.h"

#define HD_CASE_DIMS 8
#define HD_CASE_BUFFERS 16
#define HD_WANTS_NAN (-1.0)
#define HD_EPS 0x1p-23 /* spacing of floats at 1, twice the rounding error */

typedef struct hd_shape {
	int64_t d[HD_CASE_DIMS];
} hd_shape;

typedef enum hd_role { HD_INPUT, HD_OUTPUT, HD_SCRATCH } hd_role;

typedef struct hd_buffer {
	const char *name;
	hd_role role;
	hd_dtype dtype;
	size_t count;
	void *image;       /* contents before the call; outputs: NaN unless they are read too */
	double *value;     /* image as doubles */
	double *want;      /* outputs: the reference */
	double *magnitude; /* outputs: sum |terms| of each element */
	double *bound;     /* outputs: largest error allowed; INFINITY: not compared; HD_WANTS_NAN: has to be NaN */
	void *base;        /* device memory with its guards */
	void *device;      /* what the operation gets */
} hd_buffer;

typedef struct hd_case hd_case;

typedef struct hd_case_run {
	const hd_case *op;
	const hd_shape *shape;
	int variant;
	double beta;
	hd_dtype dtype; /* of the activations: HD_F32, and HD_BF16 and HD_F16 of cases that are `narrow` */
	uint64_t seed;
	uint64_t random;
	hd_buffer buffer[HD_CASE_BUFFERS];
	int buffers;
} hd_case_run;

struct hd_case {
	const char *name;
	const char *dims; /* names of the shape's numbers, separated by spaces */
	const hd_shape *shapes;
	int shape_count;
	const hd_shape *bench;
	int bench_count;
	int variants; /* every shape runs with variant 0 .. variants-1; 0 counts as 1 */
	bool betas;   /* every shape runs with beta 0, 1 and 0.5 */
	void (*make)(hd_case_run *run, const hd_ops *ops);
	hd_status (*call)(const hd_ops *ops, const hd_case_run *run);
	void (*reference)(hd_case_run *run);     /* fills want, magnitude and bound of every output */
	hd_status (*gradient)(hd_case_run *run); /* checks the backward reference by differences; NULL: no backward */
	double (*flops)(const hd_shape *shape);
	double (*bytes)(const hd_shape *shape);        /* compulsory traffic with HD_F32: every tensor once */
	bool narrow;                                   /* activations come in 16 bits too: made with run->dtype */
	double (*narrow_bytes)(const hd_shape *shape); /* compulsory traffic then */
};

#define HD_COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* ---- making buffers; memory failure ends the program, for there is nothing to test without ---- */

/* Uniform in [low, high), rounded to the type; integers for integer types. */
hd_buffer *hd_input(hd_case_run *run, const char *name, hd_dtype dtype, int64_t count, double low, double high);
/* NaN (integers: -1) before the call. */
hd_buffer *hd_output(hd_case_run *run, const char *name, hd_dtype dtype, int64_t count);
/* A parameter gradient: NaN before the call with beta 0, else random. */
hd_buffer *hd_gradient_output(hd_case_run *run, const char *name, int64_t count);
hd_buffer *hd_scratch(hd_case_run *run, size_t bytes);
/* Sets one element of the contents before the call. */
void hd_set(hd_buffer *buffer, int64_t i, double value);
double hd_random(hd_case_run *run, double low, double high);

/* ---- looking buffers up by name: device pointer (NULL where there is none), contents, reference ---- */
void *hd_dev(const hd_case_run *run, const char *name);
double *hd_val(const hd_case_run *run, const char *name);
double *hd_want(const hd_case_run *run, const char *name);
double *hd_mag(const hd_case_run *run, const char *name);
hd_buffer *hd_find(const hd_case_run *run, const char *name);
bool hd_has(const hd_case_run *run, const char *name);

/* ---- bounds ---- */

/* bound = c * eps * magnitude + eps * |want| for all elements, and the buffer's rounding (hd_add_rounding). */
void hd_bound(hd_case_run *run, const char *name, double c);
/* Widens the bounds by what storing in 16 bits rounds off, at most; nothing for other types. */
void hd_add_rounding(hd_case_run *run, const char *name);
/* No rounding allowed. */
void hd_exact(hd_case_run *run, const char *name);

/*
 * c of a float sum of n products in any order: the worst case n roundings of eps/2 (Higham 2002, section 4.2), or
 * 6 sqrt(n), exceeded by random signs with a probability of about 1e-7 (Higham and Mary 2019, theorem 2.4),
 * plus one eps for the products themselves.
 */
double hd_sum_c(int64_t n);

/*
 * Compares <g, (f(x+hd) - f(x-hd))/2h> with <gradient, d> for a random d, in double, to 1e-6 of the sum of
 * magnitudes. f: y (ny) from x (nx).
 */
typedef void (*hd_function)(double *y, const double *x, const hd_case_run *run);
hd_status hd_check_gradient(hd_case_run *run, const char *with_respect_to, hd_function f, const double *x, int64_t nx,
        const double *gradient, const double *g, int64_t ny);

/* ---- running ---- */

/* "N=2 H=32 W=8 C=40 variant 1 beta 0.5 bf16" */
void hd_describe(char *out, size_t bytes, const hd_case_run *run);

/* The types that a case runs with: count of them, HD_F32 first. */
const hd_dtype *hd_case_dtypes(const hd_case *op, int *count);

/* Inputs and device memory of a run; `run` holds nothing before. Free with hd_case_run_free also after failure. */
hd_status hd_case_run_make(hd_case_run *run, const hd_case *op, const hd_shape *shape, int variant, double beta,
        hd_dtype dtype, uint64_t seed, hd_backend *backend);
void hd_case_run_free(hd_case_run *run, hd_backend *backend);

/*
 * Runs the operation twice and checks everything that the contract says: results within their bounds, guards
 * whole, inputs unchanged, both runs the same bits; HD_E_FAILED with the first violation in the error text.
 */
hd_status hd_case_run_check(hd_case_run *run, hd_backend *backend);

/* The case of an operation, NULL where there is none. */
const hd_case *hd_case_find(const char *name);
/* The slot of an operation is there. */
bool hd_case_present(const hd_ops *ops, const char *name);

#endif
