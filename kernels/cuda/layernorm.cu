/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LayerNorm over the last axis (Ba, Kiros, Hinton 2016). A team of threads, one warp or one block, has a row in
 * registers, so that the two passes over it read memory once. Rows that no team fits go through memory thrice.
 *
 * Activations are of type T, in packs of WIDTH values: 16 bytes, in 16 bits less where a row would leave most lanes of
 * a warp without any. Teams and packs are chosen for the widths of ConvNeXt: with 16 bits 40 to 1024 columns are a
 * warp's, 1536 and 2048 a block's.
 */
#include "kernels/cuda/reduce.cuh"

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
 * y (rows,C) out of T, mean, rstd (rows) out, float; x (rows,C) in of T, gamma, bias (C) in, float; 16-byte aligned,
 * C a multiple of the 4 or 8 values of 16 bytes, C <= TEAM * WIDTH * PACKS. x may be y.
 * The variance is the mean square of x - mean. Deterministic: a thread adds its columns in order, then xor shuffles,
 * then the warps in order.
 * FLOPs 8*rows*C; bytes 2*sizeof(T)*rows*C + 8*rows + 8*C. Launch: block TEAM*TEAMS threads, one row a team, grid
 * rows/TEAMS rounded up; shared 4 bytes a warp of a team. Rows up to 2^31.
 * Goal: 85 % of the measured copy rate from 8192 x 192 on.
 */
template <typename T, int WIDTH, int TEAM, int PACKS, int TEAMS>
static __global__ void __launch_bounds__(TEAM *TEAMS) forward(T *y, float *__restrict__ mean, float *__restrict__ rstd,
        const T *x, const float *__restrict__ gamma, const float *__restrict__ bias, float eps, int64_t rows, int C)
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
template <typename T>
static __global__ void __launch_bounds__(ANY_THREADS)
        forward_any(T *y, float *__restrict__ mean, float *__restrict__ rstd, const T *x,
                const float *__restrict__ gamma, const float *__restrict__ bias, float eps, int64_t C)
{
	__shared__ float part[ANY_THREADS / HD_WARP];
	int64_t r = blockIdx.x;
	const T *in = x + r * C;
	float sum = 0, squares = 0;
	for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS)
		sum += hd_widen(in[c]);
	float mu = hd_block_sum<float>(sum, part) / (float)C;
	for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS) {
		float away = hd_widen(in[c]) - mu;
		squares += away * away;
	}
	float scale = 1.0f / sqrtf(hd_block_sum<float>(squares, part) / (float)C + eps);
	for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS)
		y[r * C + c] = hd_narrow<T>((hd_widen(in[c]) - mu) * scale * gamma[c] + bias[c]);
	if (threadIdx.x == 0) {
		mean[r] = mu;
		rstd[r] = scale;
	}
}

/*
 * dx (rows,C) out of T; part_gamma, part_bias (gridDim.x,C) out, float; dy, x (rows,C) in of T, mean, rstd (rows),
 * gamma (C) in, float; 16-byte aligned, C a multiple of the 4 or 8 values of 16 bytes, C <= TEAM * WIDTH * PACKS.
 *   g = gamma*dy; xhat = (x-mean)*rstd; dx = rstd * (g - mean_c(g) - xhat * mean_c(g*xhat))
 *   part_gamma = sum dy*xhat, part_bias = sum dy over the rows of the block's piece
 * Deterministic: a team adds every TEAMS-th row of the piece in order in registers, then the teams are added in order
 * through shared memory; hd_cuda_combine_two adds the pieces, as a last block would have those of all columns to add:
 * 128 pieces of 768 columns are 768 KiB, which take one multiprocessor longer than a launch does.
 * FLOPs 14*rows*C; bytes 3*sizeof(T)*rows*C + 4*(2*rows + C + 2*pieces*C). Launch: grid min(128, rows/TEAMS rounded
 * up), block TEAM*TEAMS; shared 8*C bytes (dynamic, teams of a warp), 8 bytes a warp of a team. Goal: 75 % of the
 * measured copy rate from 8192 x 192 on.
 */
template <typename T, int WIDTH, int TEAM, int PACKS, int TEAMS>
static __global__ void __launch_bounds__(TEAM *TEAMS, 1)
        backward(T *__restrict__ dx, float *__restrict__ part_gamma, float *__restrict__ part_bias,
                const T *__restrict__ dy, const T *__restrict__ x, const float *__restrict__ mean,
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
template <typename T>
static __global__ void __launch_bounds__(ANY_THREADS) backward_any(T *__restrict__ dx, float *part_gamma,
        float *part_bias, const T *__restrict__ dy, const T *__restrict__ x, const float *__restrict__ mean,
        const float *__restrict__ rstd, const float *__restrict__ gamma, int64_t rows, int64_t C)
{
	__shared__ float part[2 * ANY_THREADS / HD_WARP];
	int64_t first = (int64_t)blockIdx.x * rows / gridDim.x, end = ((int64_t)blockIdx.x + 1) * rows / gridDim.x;
	float *dgamma = part_gamma + blockIdx.x * C, *dbias = part_bias + blockIdx.x * C;
	for (int64_t r = first; r < end; r++) {
		const T *in = x + r * C, *grad = dy + r * C;
		float sums[2] = {0, 0}, mu = mean[r], scale = rstd[r];
		for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS) {
			float xhat = (hd_widen(in[c]) - mu) * scale, d = hd_widen(grad[c]), g = gamma[c] * d;
			sums[0] += g;
			sums[1] += g * xhat;
			dgamma[c] = (r == first ? 0.0f : dgamma[c]) + d * xhat;
			dbias[c] = (r == first ? 0.0f : dbias[c]) + d;
		}
		hd_block_sums<2, float>(sums, part);
		float sum = sums[0] / (float)C, dot = sums[1] / (float)C;
		for (int64_t c = threadIdx.x; c < C; c += ANY_THREADS) {
			float xhat = (hd_widen(in[c]) - mu) * scale;
			dx[r * C + c] = hd_narrow<T>(scale * (gamma[c] * hd_widen(grad[c]) - sum - xhat * dot));
		}
	}
}

/* What both directions launch with; void is of the activations' type. */
typedef struct arguments {
	void *y, *dx;
	float *mean, *rstd;            /* forward's outputs */
	float *part_gamma, *part_bias; /* backward's outputs */
	const void *x, *dy;
	const float *gamma, *bias, *saved_mean, *saved_rstd;
	float eps;
	int64_t rows, C;
	cudaStream_t stream;
} arguments;

static unsigned pieces(int64_t rows, int teams)
{
	return hd_cuda_blocks(rows, teams, HD_CUDA_PIECES);
}

template <typename T, int WIDTH, int TEAM, int PACKS, int TEAMS> static void launch_forward(const arguments &a)
{
	forward<T, WIDTH, TEAM, PACKS, TEAMS><<<(unsigned)hd_divide_up(a.rows, TEAMS), TEAM * TEAMS, 0, a.stream>>>(
	        (T *)a.y, a.mean, a.rstd, (const T *)a.x, a.gamma, a.bias, a.eps, a.rows, (int)a.C);
}

template <typename T, int WIDTH, int TEAM, int PACKS, int TEAMS> static unsigned launch_backward(const arguments &a)
{
	unsigned grid = pieces(a.rows, TEAMS);
	size_t shared_bytes = TEAMS > 1 ? 2 * (size_t)a.C * sizeof(float) : 2 * WIDTH * sizeof(float);
	backward<T, WIDTH, TEAM, PACKS, TEAMS><<<grid, TEAM * TEAMS, shared_bytes, a.stream>>>((T *)a.dx, a.part_gamma,
	        a.part_bias, (const T *)a.dy, (const T *)a.x, a.saved_mean, a.saved_rstd, a.gamma, a.rows, (int)a.C);
	return grid;
}

/* Columns that a team with that many packs a thread can hold. */
#define HOLDS(width, team, packs) ((width) * (team) * (packs))

template <typename T> static void launch_forward_of(const arguments &a)
{
	constexpr int W = hd_width<T>::value;
	bool wide = a.C % W == 0 && hd_cuda_aligned16(a.y) && hd_cuda_aligned16(a.x) && hd_cuda_aligned16(a.gamma) &&
	            hd_cuda_aligned16(a.bias);
	if (!wide || a.C > HOLDS(4, BLOCK_TEAM, 8))
		forward_any<T><<<(unsigned)a.rows, ANY_THREADS, 0, a.stream>>>(
		        (T *)a.y, a.mean, a.rstd, (const T *)a.x, a.gamma, a.bias, a.eps, a.C);
	else if (W == 8 && a.C <= HOLDS(2, HD_WARP, 1))
		launch_forward<T, W == 8 ? 2 : W, HD_WARP, 1, 8>(a);
	else if (a.C <= HOLDS(4, HD_WARP, 1))
		launch_forward<T, 4, HD_WARP, 1, 8>(a);
	else if (a.C <= HOLDS(W, HD_WARP, 1))
		launch_forward<T, W, HD_WARP, 1, 8>(a);
	else if (a.C <= HOLDS(W, HD_WARP, 2))
		launch_forward<T, W, HD_WARP, 2, 8>(a);
	else if (a.C <= HOLDS(W, HD_WARP, 3))
		launch_forward<T, W, HD_WARP, 3, W == 8 ? 4 : 8>(a);
	else if (a.C <= HOLDS(W, HD_WARP, W == 8 ? 4 : 6))
		launch_forward<T, W, HD_WARP, W == 8 ? 4 : 6, 4>(a);
	else if (a.C <= HOLDS(W, BLOCK_TEAM, W == 8 ? 2 : 3))
		launch_forward<T, W, BLOCK_TEAM, W == 8 ? 2 : 3, 1>(a);
	else
		launch_forward<T, W, BLOCK_TEAM, W == 8 ? 4 : 8, 1>(a);
}

extern "C" hd_status hd_cuda_layernorm_fwd(void *y, float *mean, float *rstd, const void *x, const float *gamma,
        const float *bias, float eps, hd_dtype dt, int64_t rows, int64_t C, hd_stream *stream)
{
	arguments a = {};
	a.y = y;
	a.mean = mean;
	a.rstd = rstd;
	a.x = x;
	a.gamma = gamma;
	a.bias = bias;
	a.eps = eps;
	a.rows = rows;
	a.C = C;
	a.stream = hd_cuda_stream(stream);
	if (rows == 0)
		return HD_OK;
	HD_BY_DTYPE(layernorm_fwd, dt, launch_forward_of<T>(a));
	return HD_CUDA_LAUNCHED(layernorm_fwd);
}

extern "C" size_t hd_cuda_layernorm_bwd_work(int64_t rows, int64_t C)
{
	return 2 * (size_t)pieces(rows, 1) * (size_t)C * sizeof(float);
}

/* Launches the first stage; how many pieces it made. */
template <typename T> static unsigned launch_backward_of(const arguments &a)
{
	constexpr int W = hd_width<T>::value;
	bool wide = a.C % W == 0 && hd_cuda_aligned16(a.dx) && hd_cuda_aligned16(a.dy) && hd_cuda_aligned16(a.x) &&
	            hd_cuda_aligned16(a.gamma) && hd_cuda_aligned16(a.part_gamma);
	if (!wide || a.C > HOLDS(4, BLOCK_TEAM, 8)) {
		unsigned grid = pieces(a.rows, 1);
		backward_any<T><<<grid, ANY_THREADS, 0, a.stream>>>((T *)a.dx, a.part_gamma, a.part_bias,
		        (const T *)a.dy, (const T *)a.x, a.saved_mean, a.saved_rstd, a.gamma, a.rows, a.C);
		return grid;
	}
	if (W == 8 && a.C <= HOLDS(2, HD_WARP, 1))
		return launch_backward < T, W == 8 ? 2 : W, HD_WARP, 1, 16 > (a);
	if (a.C <= HOLDS(4, HD_WARP, 1))
		return launch_backward<T, 4, HD_WARP, 1, 16>(a);
	if (a.C <= HOLDS(W, HD_WARP, 1))
		return launch_backward<T, W, HD_WARP, 1, 16>(a);
	if (a.C <= HOLDS(W, HD_WARP, 2))
		return launch_backward < T, W, HD_WARP, 2, W == 8 ? 8 : 16 > (a);
	if (a.C <= HOLDS(W, HD_WARP, 3))
		return launch_backward<T, W, HD_WARP, 3, 8>(a);
	if (a.C <= HOLDS(W, HD_WARP, W == 8 ? 4 : 6))
		return launch_backward < T, W, HD_WARP, W == 8 ? 4 : 6, 8 > (a);
	if (a.C <= HOLDS(W, BLOCK_TEAM, W == 8 ? 2 : 3))
		return launch_backward < T, W, BLOCK_TEAM, W == 8 ? 2 : 3, 1 > (a);
	return launch_backward < T, W, BLOCK_TEAM, W == 8 ? 4 : 8, 1 > (a);
}

extern "C" hd_status hd_cuda_layernorm_bwd(void *dx, float *dgamma, float *dbias, const void *dy, const void *x,
        const float *mean, const float *rstd, const float *gamma, float beta, void *work, hd_dtype dt, int64_t rows,
        int64_t C, hd_stream *stream)
{
	unsigned made = 0;
	arguments a = {};
	a.dx = dx;
	a.part_gamma = (float *)work;
	a.part_bias = a.part_gamma + (int64_t)pieces(rows, 1) * C;
	a.dy = dy;
	a.x = x;
	a.saved_mean = mean;
	a.saved_rstd = rstd;
	a.gamma = gamma;
	a.rows = rows;
	a.C = C;
	a.stream = hd_cuda_stream(stream);
	if (rows > 0)
		HD_BY_DTYPE(layernorm_bwd, dt, made = launch_backward_of<T>(a));
	hd_cuda_combine_two(dgamma, dbias, a.part_gamma, a.part_bias, beta, made, C, stream);
	return HD_CUDA_LAUNCHED(layernorm_bwd);
}
