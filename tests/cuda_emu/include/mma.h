/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvcuda::wmma. Which elements of a matrix a lane holds is not specified by CUDA: here lane l has the elements
 * l*num_elements ... of the matrix in row-major order.
 */
#ifndef HD_EMU_MMA_H
#define HD_EMU_MMA_H

#include <cuda_runtime.h>

namespace nvcuda
{
namespace wmma
{

struct row_major {
};
struct col_major {
};
struct matrix_a {
};
struct matrix_b {
};
struct accumulator {
};
namespace precision
{
/* 19 significant bits of a float: 10 of the fraction. */
struct tf32 {
};
} // namespace precision
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K> struct shape;
template <int M, int N, int K> struct shape<matrix_a, M, N, K> {
	static constexpr int rows = M, columns = K;
};
template <int M, int N, int K> struct shape<matrix_b, M, N, K> {
	static constexpr int rows = K, columns = N;
};
template <int M, int N, int K> struct shape<accumulator, M, N, K> {
	static constexpr int rows = M, columns = N;
};

template <class T> struct storage {
	typedef T type;
};
template <> struct storage<precision::tf32> {
	typedef float type;
};

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
	static constexpr bool tf32 = std::is_same_v<T, precision::tf32>;
	static_assert((!tf32 && ((M == 16 && N == 16) || (M == 32 && N == 8) || (M == 8 && N == 32)) && K == 16) ||
	                      ((tf32 || std::is_same_v<Use, accumulator>)&&M == 16 && N == 16 && K == 8),
	        "this shape of a fragment does not exist");
	typedef shape<Use, M, N, K> extent;
	static constexpr int num_elements = extent::rows * extent::columns / 32;
	typename storage<T>::type x[num_elements];
};

inline float __float_to_tf32(float value)
{
	unsigned bits = __float_as_uint(value);
	if ((bits & 0x7f800000u) != 0x7f800000u)
		bits += 0x1000u; /* to the nearest, ties away */
	return __uint_as_float(bits & 0xffffe000u);
}

template <class Fragment, class T> void fill_fragment(Fragment &f, T value)
{
	for (auto &element : f.x)
		element = std::decay_t<decltype(f.x[0])>(value);
}

/* Index of the lane's element e in a matrix in memory. */
template <class Fragment> size_t memory_index(int e, unsigned stride, bool row)
{
	int position = hd_emu::lane() * Fragment::num_elements + e;
	size_t r = static_cast<size_t>(position / Fragment::extent::columns);
	size_t c = static_cast<size_t>(position % Fragment::extent::columns);
	return row ? r * stride + c : c * stride + r;
}

/* Alignment and stride that the programming guide asks for. */
template <class T> void check_memory(const T *memory, unsigned stride, const char *file, int line)
{
	if (reinterpret_cast<uintptr_t>(memory) % 32)
		hd_emu::kernel_error("wmma: the address of a matrix is a multiple of 32 bytes", file, line);
	if (stride * sizeof(T) % 16)
		hd_emu::kernel_error("wmma: the stride of a matrix is a multiple of 16 bytes", file, line);
	__syncwarp(hd_emu::ALL_LANES, file, line);
}

template <class Use, int M, int N, int K, class T, class Layout, class Memory>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &f, const Memory *memory, unsigned stride, HD_EMU_SITE)
{
	check_memory(memory, stride, HD_EMU_HERE);
	for (int e = 0; e < f.num_elements; e++)
		f.x[e] = memory[memory_index<fragment<Use, M, N, K, T, Layout>>(
		        e, stride, std::is_same_v<Layout, row_major>)];
}

template <int M, int N, int K, class T>
void load_matrix_sync(
        fragment<accumulator, M, N, K, T> &f, const T *memory, unsigned stride, layout_t layout, HD_EMU_SITE)
{
	check_memory(memory, stride, HD_EMU_HERE);
	for (int e = 0; e < f.num_elements; e++)
		f.x[e] = memory[memory_index<fragment<accumulator, M, N, K, T>>(e, stride, layout == mem_row_major)];
}

template <int M, int N, int K, class T>
void store_matrix_sync(
        T *memory, const fragment<accumulator, M, N, K, T> &f, unsigned stride, layout_t layout, HD_EMU_SITE)
{
	check_memory(memory, stride, HD_EMU_HERE);
	for (int e = 0; e < f.num_elements; e++)
		memory[memory_index<fragment<accumulator, M, N, K, T>>(e, stride, layout == mem_row_major)] = f.x[e];
}

/* The fragments of one lane; the lane that computes reaches those of all. */
template <class D, class A, class B, class C> struct Operands {
	D *d;
	const A *a;
	const B *b;
	const C *c;

	static const Operands *of(uint64_t value)
	{
		return reinterpret_cast<const Operands *>(static_cast<uintptr_t>(value));
	}

	static void multiply(const uint64_t *values, unsigned, uint64_t *)
	{
		constexpr int rows = D::extent::rows, columns = D::extent::columns, inner = A::extent::columns;
		float left[rows * inner], right[inner * columns], sum[rows * columns];
		for (int i = 0; i < rows * inner; i++)
			left[i] = static_cast<float>(of(values[i / A::num_elements])->a->x[i % A::num_elements]);
		for (int i = 0; i < inner * columns; i++)
			right[i] = static_cast<float>(of(values[i / B::num_elements])->b->x[i % B::num_elements]);
		for (int i = 0; i < rows * columns; i++)
			sum[i] = static_cast<float>(of(values[i / C::num_elements])->c->x[i % C::num_elements]);
		for (int r = 0; r < rows; r++)
			for (int k = 0; k < inner; k++)
				for (int c = 0; c < columns; c++)
					sum[r * columns + c] += left[r * inner + k] * right[k * columns + c];
		for (int i = 0; i < rows * columns; i++) {
			auto &element = of(values[i / D::num_elements])->d->x[i % D::num_elements];
			element = static_cast<std::decay_t<decltype(element)>>(sum[i]);
		}
	}
};

template <int M, int N, int K, class TD, class TA, class LA, class TB, class LB, class TC>
void mma_sync(fragment<accumulator, M, N, K, TD> &d, const fragment<matrix_a, M, N, K, TA, LA> &a,
        const fragment<matrix_b, M, N, K, TB, LB> &b, const fragment<accumulator, M, N, K, TC> &c, HD_EMU_SITE)
{
	typedef Operands<fragment<accumulator, M, N, K, TD>, fragment<matrix_a, M, N, K, TA, LA>,
	        fragment<matrix_b, M, N, K, TB, LB>, fragment<accumulator, M, N, K, TC>>
	        Lane;
	Lane lane = {&d, &a, &b, &c};
	hd_emu::warp_collective(hd_emu::WARP_MATRIX, hd_emu::ALL_LANES, reinterpret_cast<uintptr_t>(&lane), 0,
	        Lane::multiply, HD_EMU_HERE);
}

} // namespace wmma
} // namespace nvcuda

#endif
