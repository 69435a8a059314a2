/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Naive references of every operation in double precision: plain loops that follow the formulas of
 * kernels.def. `m`, where there is one, takes sum |terms| of each element of the output before it; both it and
 * optional gradients may be NULL. beta 0 does not read the old gradient.
 */
#ifndef HD_TESTS_REF_H
#define HD_TESTS_REF_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/backend.h"

/* IEEE half precision; to_half rounds to nearest even, found by bisection over all halves. */
double ref_half(uint16_t half);
uint16_t ref_to_half(double value);
/* bfloat16, the same. */
double ref_bf16(uint16_t bits);
uint16_t ref_to_bf16(double value);

/* Salmon et al. 2011: Philox-4x32-10. */
void ref_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

void ref_magnitude(double *out, const double *iq, double offset, double scale, int64_t n);
/* l1 (R,T): sum |window * x| of each frame; naive DFT. */
void ref_stft_power(double *power, double *l1, const double *x, const double *window, double scale, int64_t R,
        int64_t n, int64_t T, int64_t n_fft, int64_t hop);
/* sums (R,M,T): the filter's sum plus floor, before the logarithm. */
void ref_mel_db(double *db, double *sums, const double *power, const double *first, const double *offset,
        const double *w, double floor, int64_t R, int64_t T, int64_t F, int64_t M);
void ref_mfcc(double *out, double *m, const double *db, const double *dct, int64_t R, int64_t M, int64_t K, int64_t H,
        int64_t T);
/* offset, silence, mean: NULL where the operation gets none. random: one per row and per (row, channel), per value. */
typedef struct ref_augment {
	double *factor; /* (N) */
	double *level;  /* (N,C) added, offset included */
	double *silent; /* (N,C) 1: taken away */
	double *kept;   /* (N,M,W,C) 0: dropped */
} ref_augment;

/* The draws of one call, from Philox as written in kernels.def. Arrays of the sizes above, filled. */
void ref_draw_augment(ref_augment *out, const hd_augment *augment, const double *offset, const uint32_t seed[2],
        uint32_t epoch, const double *sample, int64_t N, int64_t C, int64_t M, int64_t W);
void ref_assemble_batch(double *out, double *m, const double *db, const double *index, const double *start,
        const double *mean, const double *rstd, const double *silence, const ref_augment *augment, int64_t N, int64_t C,
        int64_t M, int64_t T, int64_t W);

void ref_drop_path_scale(double *scale, const double *p, const uint32_t seed[2], uint32_t epoch, const double *sample,
        int64_t B, int64_t N);
void ref_patch_gather(double *cols, const double *x, int64_t N, int64_t H, int64_t W, int64_t C, int64_t p);
void ref_patch_scatter(double *dx, const double *dcols, int64_t N, int64_t H, int64_t W, int64_t C, int64_t p);
void ref_linear_fwd(
        double *y, double *m, const double *x, const double *w, const double *b, int64_t rows, int64_t C, int64_t K);
void ref_linear_bwd_data(double *dx, double *m, const double *dy, const double *w, int64_t rows, int64_t C, int64_t K);
void ref_linear_bwd_weight(double *dw, double *mw, double *db, double *mb, const double *old_dw, const double *old_db,
        const double *dy, const double *x, double beta, int64_t rows, int64_t C, int64_t K);
void ref_patch_conv_fwd(double *y, double *m, const double *x, const double *w, const double *b, int64_t N, int64_t H,
        int64_t W, int64_t C, int64_t K, int64_t p);
void ref_patch_conv_bwd_data(double *dx, double *m, const double *dy, const double *w, int64_t N, int64_t H, int64_t W,
        int64_t C, int64_t K, int64_t p);
void ref_patch_conv_bwd_weight(double *dw, double *mw, double *db, double *mb, const double *old_dw,
        const double *old_db, const double *dy, const double *x, double beta, int64_t N, int64_t H, int64_t W,
        int64_t C, int64_t K, int64_t p);
void ref_dwconv7_fwd(double *y, double *m, const double *x, const double *k, const double *b, int64_t N, int64_t H,
        int64_t W, int64_t C);
void ref_dwconv7_bwd_data(double *dx, double *m, const double *dy, const double *k, const double *residual, int64_t N,
        int64_t H, int64_t W, int64_t C);
void ref_dwconv7_bwd_weight(double *dk, double *mk, double *db, double *mb, const double *old_dk, const double *old_db,
        const double *dy, const double *x, double beta, int64_t N, int64_t H, int64_t W, int64_t C);
void ref_layernorm_fwd(double *y, double *mean, double *rstd, const double *x, const double *gamma, const double *bias,
        double eps, int64_t rows, int64_t C);
/* m: of conv. */
void ref_dwconv7_layernorm_fwd(double *y, double *conv, double *m, double *mean, double *rstd, const double *x,
        const double *k, const double *b, const double *gamma, const double *bias, double eps, int64_t N, int64_t H,
        int64_t W, int64_t C);
void ref_layernorm_bwd(double *dx, double *mx, double *dgamma, double *mg, double *dbias, double *mb,
        const double *old_dgamma, const double *old_dbias, const double *dy, const double *x, const double *mean,
        const double *rstd, const double *gamma, double beta, int64_t rows, int64_t C);
/* Their limits at infinite x. */
void ref_gelu_fwd(double *y, const double *x, hd_gelu_form form, int64_t n);
void ref_gelu_bwd(double *dx, const double *dy, const double *x, hd_gelu_form form, int64_t n);
/* db (C) = beta*old + the sums of the columns of x (rows,C). */
void ref_column_sums(
        double *db, double *mb, const double *old_db, const double *x, double beta, int64_t rows, int64_t C);
void ref_scale_residual_fwd(double *y, double *m, const double *x, const double *residual, const double *gamma,
        const double *row_scale, int64_t N, int64_t P, int64_t C);
void ref_scale_residual_bwd(double *dx, double *dgamma, double *mg, const double *old_dgamma, const double *dy,
        const double *x, const double *gamma, const double *row_scale, double beta, int64_t N, int64_t P, int64_t C);
void ref_pool_fwd(double *y, double *m, const double *x, int64_t N, int64_t P, int64_t C);
void ref_pool_bwd(double *dx, const double *dy, int64_t N, int64_t P, int64_t C);
void ref_relu_dropout_fwd(double *y, const double *x, const uint32_t seed[2], uint32_t epoch, const double *sample,
        uint32_t layer, double p, int64_t N, int64_t C);
void ref_relu_dropout_bwd(double *dx, const double *dy, const double *y, double p, int64_t n);
void ref_add(double *dst, const double *a, const double *b, int64_t n);
/* running_mean, running_var (C): old values in, new ones out. */
void ref_batchnorm_fwd(double *y, double *mean, double *rstd, double *running_mean, double *running_var,
        const double *x, const double *gamma, const double *bias, const double *weight, double momentum, double eps,
        int64_t N, int64_t C);
void ref_batchnorm_bwd(double *dx, double *mx, double *dgamma, double *mg, double *dbias, double *mb,
        const double *old_dgamma, const double *old_dbias, const double *dy, const double *x, const double *mean,
        const double *rstd, const double *gamma, const double *weight, double beta, int64_t N, int64_t C);
void ref_batchnorm_apply(double *y, double *m, const double *x, const double *running_mean, const double *running_var,
        const double *gamma, const double *bias, double eps, int64_t N, int64_t C);
void ref_gaussian_nll(double sums[4], double *sigma, double *dmu, double *du, const double *mu, const double *u,
        const double *target, const double *weight, const double *label_sigma, const hd_loss *loss, double scale,
        int64_t N);

double ref_sum_squares(const double *g, int64_t n);
/* scale, good, norm2: old values in, new ones out. */
void ref_loss_scale_update(double *scale, double *inverse, double *good, double *norm2, double growth_interval);
/* One element of AdamW; h: hd_adamw_hyper in its order; ema may be NULL. */
void ref_adamw(double *p, double *m, double *v, double *ema, double g, double norm2, const double h[9], double chunk_lr,
        double chunk_decay);

#endif
