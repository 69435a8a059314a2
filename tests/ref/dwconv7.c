/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "tests/ref/ref.h"

static bool inside(int64_t at, int64_t size)
{
	return at >= 0 && at < size;
}

void ref_dwconv7_fwd(double *y, double *m, const double *x, const double *k, const double *b, int64_t N, int64_t H,
        int64_t W, int64_t C)
{
	for (int64_t at = 0; at < N * H * W * C; at++) {
		int64_t c = at % C, w = at / C % W, h = at / C / W % H, n = at / C / W / H;
		double sum = b[c], size = fabs(b[c]);
		for (int64_t i = 0; i < 7; i++) {
			for (int64_t j = 0; j < 7; j++) {
				int64_t hi = h + i - 3, wj = w + j - 3;
				if (!inside(hi, H) || !inside(wj, W))
					continue;
				double term = k[(i * 7 + j) * C + c] * x[((n * H + hi) * W + wj) * C + c];
				sum += term;
				size += fabs(term);
			}
		}
		y[at] = sum;
		if (m)
			m[at] = size;
	}
}

void ref_dwconv7_layernorm_fwd(double *y, double *conv, double *m, double *mean, double *rstd, const double *x,
        const double *k, const double *b, const double *gamma, const double *bias, double eps, int64_t N, int64_t H,
        int64_t W, int64_t C)
{
	ref_dwconv7_fwd(conv, m, x, k, b, N, H, W, C);
	ref_layernorm_fwd(y, mean, rstd, conv, gamma, bias, eps, N * H * W, C);
}

/* By scattering: what forward reads at (h+i-3, w+j-3) gets k[i,j] dy(h,w). */
void ref_dwconv7_bwd_data(double *dx, double *m, const double *dy, const double *k, const double *residual, int64_t N,
        int64_t H, int64_t W, int64_t C)
{
	for (int64_t at = 0; at < N * H * W * C; at++) {
		dx[at] = residual ? residual[at] : 0;
		m[at] = fabs(dx[at]);
	}
	for (int64_t at = 0; at < N * H * W * C; at++) {
		int64_t c = at % C, w = at / C % W, h = at / C / W % H, n = at / C / W / H;
		for (int64_t i = 0; i < 7; i++) {
			for (int64_t j = 0; j < 7; j++) {
				int64_t hi = h + i - 3, wj = w + j - 3;
				if (!inside(hi, H) || !inside(wj, W))
					continue;
				double term = k[(i * 7 + j) * C + c] * dy[at];
				dx[((n * H + hi) * W + wj) * C + c] += term;
				m[((n * H + hi) * W + wj) * C + c] += fabs(term);
			}
		}
	}
}

void ref_dwconv7_bwd_weight(double *dk, double *mk, double *db, double *mb, const double *old_dk, const double *old_db,
        const double *dy, const double *x, double beta, int64_t N, int64_t H, int64_t W, int64_t C)
{
	for (int64_t i = 0; i < 49 * C; i++) {
		dk[i] = beta == 0 ? 0 : beta * old_dk[i];
		mk[i] = fabs(dk[i]);
	}
	for (int64_t c = 0; c < C; c++) {
		db[c] = beta == 0 ? 0 : beta * old_db[c];
		mb[c] = fabs(db[c]);
	}
	for (int64_t at = 0; at < N * H * W * C; at++) {
		int64_t c = at % C, w = at / C % W, h = at / C / W % H, n = at / C / W / H;
		db[c] += dy[at];
		mb[c] += fabs(dy[at]);
		for (int64_t i = 0; i < 7; i++) {
			for (int64_t j = 0; j < 7; j++) {
				int64_t hi = h + i - 3, wj = w + j - 3;
				if (!inside(hi, H) || !inside(wj, W))
					continue;
				double term = dy[at] * x[((n * H + hi) * W + wj) * C + c];
				dk[(i * 7 + j) * C + c] += term;
				mk[(i * 7 + j) * C + c] += fabs(term);
			}
		}
	}
}
