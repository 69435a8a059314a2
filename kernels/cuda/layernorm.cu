/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LayerNorm over the last axis (Ba, Kiros, Hinton 2016). A team of threads, one warp or one block, has a row in
 * registers, so that the two passes over it read memory once. Rows that no team fits go through memory thrice.
 */
#include "kernels/cuda/reduce.cuh"

#define WIDTH 4         /* floats of a pack */
#define BLOCK_TEAM 128  /* threads of a team that is a block */
#define ANY_THREADS 256 /* threads a row of the kernels for any C */

/* Sums over a team; part is shared memory for the sums of the warps and is not used by a team of one warp. */
template <int TEAM, int VALUES> __device__ static inline void team_sums(float (&value)[VALUES], float *part)
{
	if (TEAM == HD_WARP) {
#pragma unroll
		for (int i = 0; i < VALUES; i++)
			value[i] = hd_warp_sum<float>(value[i]);
	} else {
		hd_block_sums<VALUES, float>(value, part);
	}
}

template <int TEAM> __device__ static inline float team_sum(float value, float *part)
{
	float values[1] = {value};
	team_sums<TEAM, 1>(values, part);
	return values[0];
}

/*
 * y (rows,C), mean, rstd (rows) out; x (rows,C), gamma, bias (C) in; float, 16-byte aligned, C % 4 == 0,
 * C <= TEAM * 4 * PACKS.
 * The variance is the mean square of x - mean. Deterministic: a thread adds its columns in order, then xor shuffles,
 * then the warps in order.
 * FLOPs 8*rows*C; bytes 4*(2*rows*C + 2*rows + 2*C). Launch: block TEAM*TEAMS threads, one row a team, grid
 * rows/TEAMS rounded up; shared 4 bytes a warp of a team. Rows up to 2^31.
 * Goal: 85 % of the measured copy rate from 8192 x 192 on.
 */
template <int TEAM, int PACKS, int TEAMS>
static __global__ void __launch_bounds__(TEAM *TEAMS)
        forward(float *__restrict__ y, float *__restrict__ mean, float *__restrict__ rstd, const float *__restrict__ x,
                const float *__restrict__ gamma, const float *__restrict__ bias, float eps, int64_t rows, int C)
{
	__shared__ float part[TEAM / HD_WARP];
	int lane = (int)threadIdx.x % TEAM, packs = C / WIDTH;
	int64_t r = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM;
	/* a team that is a block always has a row, so none of its threads leaves before the barriers */
	if (r >= rows)
		return;
	hd_pack<WIDTH> row[PACKS];
	float sum = 0, squares = 0;
#pragma unroll
	for (int i = 0; i < PACKS; i++) {
		int at = i * TEAM + lane;
		if (at < packs) {
			row[i] = hd_load<WIDTH>(x + r * C, at);
#pragma unroll
			for (int k = 0; k < WIDTH; k++)
				sum += row[i].v[k];
		}
	}
	float mu = team_sum<TEAM>(sum, part) / (float)C;
#pragma unroll
	for (int i = 0; i < PACKS; i++) {
		if (i * TEAM + lane < packs) {
#pragma unroll
			for (int k = 0; k < WIDTH; k++) {
				row[i].v[k] -= mu;
				squares += row[i].v[k] * row[i].v[k];
			}
		}
	}
	float scale = 1.0f / sqrtf(team_sum<TEAM>(squares, part) / (float)C + eps);
#pragma unroll
	for (int i = 0; i < PACKS; i++) {
		int at = i * TEAM + lane;
		if (at < packs) {
			hd_pack<WIDTH> g = hd_load<WIDTH>(gamma, at), b = hd_load<WIDTH>(bias, at);
#pragma unroll
			for (int k = 0; k < WIDTH; k++)
				row[i].v[k] = row[i].v[k] * scale * g.v[k] + b.v[k];
			hd_store<WIDTH>(y + r * C, at, row[i]);
		}
	}
	if (lane == 0) {
		mean[r] = mu;
		rstd[r] = scale;
	}
}

/*
 * The same for any C and alignment. Bytes: x is read three times, twice of them from cache where a row fits.
 * Launch: block 256 threads, grid rows; shared 32 bytes. Goal: none, shapes of the networks go the other way.
 */
static __global__ void __launch_bounds__(ANY_THREADS) forward_any(float *__restrict__ y, float *__restrict__ mean,
        float *__restrict__ rstd, const float *__restrict__ x, const float *__restrict__ gamma,
        const float *__restrict__ bias, float eps, int64_t C)
{
	__shared__ float part[ANY_THREADS / HD_WARP];
	int64_t r = blockIdx.x;
	const float *in = x + r * C;
	float sum = 0, squares = 0;
	for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS)
		sum += in[c];
	float mu = hd_block_sum<float>(sum, part) / (float)C;
	for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS)
		squares += (in[c] - mu) * (in[c] - mu);
	float scale = 1.0f / sqrtf(hd_block_sum<float>(squares, part) / (float)C + eps);
	for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS)
		y[r * C + c] = (in[c] - mu) * scale * gamma[c] + bias[c];
	if (threadIdx.x == 0) {
		mean[r] = mu;
		rstd[r] = scale;
	}
}

/*
 * dx (rows,C) out; part_gamma, part_bias (gridDim.x,C) out; dy, x (rows,C), mean, rstd (rows), gamma (C) in; float,
 * 16-byte aligned, C % 4 == 0, C <= TEAM * 4 * PACKS.
 *   g = gamma*dy; xhat = (x-mean)*rstd; dx = rstd * (g - mean_c(g) - xhat * mean_c(g*xhat))
 *   part_gamma = sum dy*xhat, part_bias = sum dy over the rows of the block's piece
 * Deterministic: a team adds every TEAMS-th row of the piece in order in registers, then the teams are added in order
 * through shared memory; hd_cuda_combine adds the pieces.
 * FLOPs 14*rows*C; bytes 4*(3*rows*C + 2*rows + C + 2*pieces*C). Launch: grid min(128, rows/TEAMS rounded up), block
 * TEAM*TEAMS; shared 8*C bytes (dynamic, teams of a warp), 8 bytes a warp of a team.
 * Goal: 75 % of the measured copy rate from 8192 x 192 on.
 */
template <int TEAM, int PACKS, int TEAMS>
static __global__ void __launch_bounds__(TEAM *TEAMS, 1)
        backward(float *__restrict__ dx, float *__restrict__ part_gamma, float *__restrict__ part_bias,
                const float *__restrict__ dy, const float *__restrict__ x, const float *__restrict__ mean,
                const float *__restrict__ rstd, const float *__restrict__ gamma, int64_t rows, int C)
{
	__shared__ float part[2 * TEAM / HD_WARP];
	extern __shared__ float shared_sums[];
	int lane = (int)threadIdx.x % TEAM, team = (int)threadIdx.x / TEAM, packs = C / WIDTH;
	int64_t first = (int64_t)blockIdx.x * rows / gridDim.x, end = ((int64_t)blockIdx.x + 1) * rows / gridDim.x;
	hd_pack<WIDTH> dgamma[PACKS], dbias[PACKS];
#pragma unroll
	for (int i = 0; i < PACKS; i++) {
#pragma unroll
		for (int k = 0; k < WIDTH; k++)
			dgamma[i].v[k] = dbias[i].v[k] = 0;
	}
	for (int64_t r = first + team; r < end; r += TEAMS) {
		hd_pack<WIDTH> xhat[PACKS], grad[PACKS];
		float sums[2] = {0, 0}, mu = mean[r], scale = rstd[r];
#pragma unroll
		for (int i = 0; i < PACKS; i++) {
			int at = i * TEAM + lane;
			if (at < packs) {
				hd_pack<WIDTH> g = hd_load<WIDTH>(gamma, at);
				xhat[i] = hd_load<WIDTH>(x + r * C, at);
				grad[i] = hd_load<WIDTH>(dy + r * C, at);
#pragma unroll
				for (int k = 0; k < WIDTH; k++) {
					xhat[i].v[k] = (xhat[i].v[k] - mu) * scale;
					dgamma[i].v[k] += grad[i].v[k] * xhat[i].v[k];
					dbias[i].v[k] += grad[i].v[k];
					grad[i].v[k] *= g.v[k];
					sums[0] += grad[i].v[k];
					sums[1] += grad[i].v[k] * xhat[i].v[k];
				}
			}
		}
		team_sums<TEAM, 2>(sums, part);
		float sum = sums[0] / (float)C, dot = sums[1] / (float)C;
#pragma unroll
		for (int i = 0; i < PACKS; i++) {
			int at = i * TEAM + lane;
			if (at < packs) {
#pragma unroll
				for (int k = 0; k < WIDTH; k++)
					grad[i].v[k] = scale * (grad[i].v[k] - sum - xhat[i].v[k] * dot);
				hd_store<WIDTH>(dx + r * C, at, grad[i]);
			}
		}
	}
	/* teams in turn add theirs to the shared sums; the last one writes the piece */
	for (int turn = 0; turn < TEAMS; turn++) {
		if (turn == team) {
#pragma unroll
			for (int i = 0; i < PACKS; i++) {
				int at = i * TEAM + lane;
				if (at < packs) {
					if (turn > 0) {
						hd_pack<WIDTH> g = hd_load<WIDTH>(shared_sums, at);
						hd_pack<WIDTH> b = hd_load<WIDTH>(shared_sums, packs + at);
#pragma unroll
						for (int k = 0; k < WIDTH; k++) {
							dgamma[i].v[k] += g.v[k];
							dbias[i].v[k] += b.v[k];
						}
					}
					bool last = turn == TEAMS - 1;
					hd_store<WIDTH>(last ? part_gamma + blockIdx.x * (int64_t)C : shared_sums, at,
					        dgamma[i]);
					hd_store<WIDTH>(last ? part_bias + blockIdx.x * (int64_t)C : shared_sums,
					        last ? at : packs + at, dbias[i]);
				}
			}
		}
		__syncthreads();
	}
}

/*
 * The same for any C and alignment: the sums of a piece grow in part_gamma and part_bias, each column by one thread.
 * Launch: grid min(128, rows), block 256; shared 64 bytes. Goal: none, shapes of the networks go the other way.
 */
static __global__ void __launch_bounds__(ANY_THREADS) backward_any(float *__restrict__ dx, float *part_gamma,
        float *part_bias, const float *__restrict__ dy, const float *__restrict__ x, const float *__restrict__ mean,
        const float *__restrict__ rstd, const float *__restrict__ gamma, int64_t rows, int64_t C)
{
	__shared__ float part[2 * ANY_THREADS / HD_WARP];
	int64_t first = (int64_t)blockIdx.x * rows / gridDim.x, end = ((int64_t)blockIdx.x + 1) * rows / gridDim.x;
	float *dgamma = part_gamma + blockIdx.x * C, *dbias = part_bias + blockIdx.x * C;
	for (int64_t r = first; r < end; r++) {
		const float *in = x + r * C, *grad = dy + r * C;
		float sums[2] = {0, 0}, mu = mean[r], scale = rstd[r];
		for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS) {
			float xhat = (in[c] - mu) * scale, g = gamma[c] * grad[c];
			sums[0] += g;
			sums[1] += g * xhat;
			dgamma[c] = (r == first ? 0.0f : dgamma[c]) + grad[c] * xhat;
			dbias[c] = (r == first ? 0.0f : dbias[c]) + grad[c];
		}
		hd_block_sums<2, float>(sums, part);
		float sum = sums[0] / (float)C, dot = sums[1] / (float)C;
		for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS)
			dx[r * C + c] = scale * (gamma[c] * grad[c] - sum - (in[c] - mu) * scale * dot);
	}
}

/* What both directions launch with. */
typedef struct arguments {
	float *y, *mean, *rstd;             /* forward's outputs */
	float *dx, *part_gamma, *part_bias; /* backward's outputs */
	const float *x, *gamma, *bias, *dy, *saved_mean, *saved_rstd;
	float eps;
	int64_t rows, C;
	cudaStream_t stream;
} arguments;

static unsigned pieces(int64_t rows, int teams)
{
	return hd_cuda_blocks(rows, teams, HD_CUDA_PIECES);
}

template <int TEAM, int PACKS, int TEAMS> static void launch_forward(const arguments &a)
{
	forward<TEAM, PACKS, TEAMS><<<(unsigned)hd_divide_up(a.rows, TEAMS), TEAM * TEAMS, 0, a.stream>>>(
	        a.y, a.mean, a.rstd, a.x, a.gamma, a.bias, a.eps, a.rows, (int)a.C);
}

template <int TEAM, int PACKS, int TEAMS> static unsigned launch_backward(const arguments &a)
{
	unsigned grid = pieces(a.rows, TEAMS);
	size_t shared_bytes = TEAMS > 1 ? 2 * (size_t)a.C * sizeof(float) : 2 * WIDTH * sizeof(float);
	backward<TEAM, PACKS, TEAMS><<<grid, TEAM * TEAMS, shared_bytes, a.stream>>>(
	        a.dx, a.part_gamma, a.part_bias, a.dy, a.x, a.saved_mean, a.saved_rstd, a.gamma, a.rows, (int)a.C);
	return grid;
}

/* Columns that a team with that many packs a thread can hold. */
#define HOLDS(team, packs) (WIDTH * (team) * (packs))

extern "C" hd_status hd_cuda_layernorm_fwd(void *y, float *mean, float *rstd, const void *x, const float *gamma,
        const float *bias, float eps, hd_dtype dt, int64_t rows, int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(layernorm_fwd, dt);
	arguments a = {};
	a.y = (float *)y;
	a.mean = mean;
	a.rstd = rstd;
	a.x = (const float *)x;
	a.gamma = gamma;
	a.bias = bias;
	a.eps = eps;
	a.rows = rows;
	a.C = C;
	a.stream = hd_cuda_stream(stream);
	bool wide = C % WIDTH == 0 && hd_cuda_aligned16(y) && hd_cuda_aligned16(x) && hd_cuda_aligned16(gamma) &&
	            hd_cuda_aligned16(bias);
	if (rows == 0)
		return HD_OK;
	if (!wide || C > HOLDS(BLOCK_TEAM, 8))
		forward_any<<<(unsigned)rows, ANY_THREADS, 0, a.stream>>>(
		        a.y, a.mean, a.rstd, a.x, a.gamma, a.bias, a.eps, C);
	else if (C <= HOLDS(HD_WARP, 1))
		launch_forward<HD_WARP, 1, 8>(a);
	else if (C <= HOLDS(HD_WARP, 2))
		launch_forward<HD_WARP, 2, 8>(a);
	else if (C <= HOLDS(HD_WARP, 3))
		launch_forward<HD_WARP, 3, 8>(a);
	else if (C <= HOLDS(HD_WARP, 6))
		launch_forward<HD_WARP, 6, 4>(a);
	else if (C <= HOLDS(BLOCK_TEAM, 3))
		launch_forward<BLOCK_TEAM, 3, 1>(a);
	else
		launch_forward<BLOCK_TEAM, 8, 1>(a);
	return HD_CUDA_LAUNCHED(layernorm_fwd);
}

extern "C" size_t hd_cuda_layernorm_bwd_work(int64_t rows, int64_t C)
{
	return 2 * (size_t)pieces(rows, 1) * (size_t)C * sizeof(float);
}

/* Launches the first stage; how many pieces it made. */
static unsigned backward_pieces(const arguments &a, bool wide)
{
	if (!wide || a.C > HOLDS(BLOCK_TEAM, 8)) {
		unsigned grid = pieces(a.rows, 1);
		backward_any<<<grid, ANY_THREADS, 0, a.stream>>>(
		        a.dx, a.part_gamma, a.part_bias, a.dy, a.x, a.saved_mean, a.saved_rstd, a.gamma, a.rows, a.C);
		return grid;
	}
	if (a.C <= HOLDS(HD_WARP, 1))
		return launch_backward<HD_WARP, 1, 16>(a);
	if (a.C <= HOLDS(HD_WARP, 2))
		return launch_backward<HD_WARP, 2, 16>(a);
	if (a.C <= HOLDS(HD_WARP, 3))
		return launch_backward<HD_WARP, 3, 8>(a);
	if (a.C <= HOLDS(HD_WARP, 6))
		return launch_backward<HD_WARP, 6, 8>(a);
	if (a.C <= HOLDS(BLOCK_TEAM, 3))
		return launch_backward<BLOCK_TEAM, 3, 1>(a);
	return launch_backward<BLOCK_TEAM, 8, 1>(a);
}

extern "C" hd_status hd_cuda_layernorm_bwd(void *dx, float *dgamma, float *dbias, const void *dy, const void *x,
        const float *mean, const float *rstd, const float *gamma, float beta, void *work, hd_dtype dt, int64_t rows,
        int64_t C, hd_stream *stream)
{
	HD_CUDA_ONLY_F32(layernorm_bwd, dt);
	arguments a = {};
	a.dx = (float *)dx;
	a.part_gamma = (float *)work;
	a.part_bias = a.part_gamma + (int64_t)pieces(rows, 1) * C;
	a.dy = (const float *)dy;
	a.x = (const float *)x;
	a.saved_mean = mean;
	a.saved_rstd = rstd;
	a.gamma = gamma;
	a.rows = rows;
	a.C = C;
	a.stream = hd_cuda_stream(stream);
	bool wide = C % WIDTH == 0 && hd_cuda_aligned16(dx) && hd_cuda_aligned16(dy) && hd_cuda_aligned16(x) &&
	            hd_cuda_aligned16(gamma) && hd_cuda_aligned16(work);
	unsigned made = rows > 0 ? backward_pieces(a, wide) : 0;
	hd_cuda_combine(dgamma, a.part_gamma, beta, made, C, stream);
	hd_cuda_combine(dbias, a.part_bias, beta, made, C, stream);
	return HD_CUDA_LAUNCHED(layernorm_bwd);
}
