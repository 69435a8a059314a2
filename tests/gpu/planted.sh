#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants one fault after the other in a copy of a CUDA source, builds it for the emulation and expects the operation's
# cases to fail, and to fail by the check that is there for this kind of fault. Needs what `make test-emu-planted` builds
# first; run from the root of the checkout. Neither a GPU nor nvcc is needed. ONLY=text tries the faults alone whose kind
# or file has this text.
#
#   kind                                          planted in                         seen by
#   missing __syncthreads, first or second one    reduce.cu(h), dwconv7_layernorm.cu thread sanitizer; NaN in one order
#   missing barrier between lanes of a warp       stft.cu                            thread sanitizer; wrong result
#   __syncwarp where the block has to wait        reduce.cu                          thread sanitizer
#   missing barrier between two sums              scale_residual.cu                  thread sanitizer
#   race between blocks                           reduce.cuh, adamw.cu               thread sanitizer
#   last block without __threadfence, a barrier   reduce.cuh                         thread sanitizer
#   its counter not 0 again, not at the start     reduce.cuh, backend.c              NaN in the result
#   write, read outside of global memory          dwconv7.cu, mfcc.cu                address sanitizer, on the cases' guards
#   write just behind a buffer                    magnitude.cu                       guard bytes of the cases
#   outside of static shared memory               reduce.cuh                         both sanitizers: by index, by pointer
#   outside of dynamic shared memory              layernorm.cu                       address sanitizer
#   dynamic shared memory not asked for           assemble_batch.cu                  emulator
#   misaligned float4                             layernorm.cu                       undefined-behaviour sanitizer
#   float4 over the end of a buffer               assemble_batch.cu                  address sanitizer
#   pack of 16 bits over the end of a buffer      dwconv7.cu                         address sanitizer
#   barrier in divergent code                     reduce.cuh                         emulator
#   early exit before a barrier                   scale_residual.cu, gemm.cu         emulator
#   wrong mask; shuffle in divergent code         reduce.cuh, assemble_batch.cu      emulator
#   host pointer to a kernel                      gaussian_nll.cu                    emulator
#   use after free of device memory               backend.c, stft.cu                 emulator; address sanitizer
#   shared memory, scratch read before written    reduce.cu, layernorm.cu            NaN in the result
#   pinned memory reused too early, early event   backend.c                          lazy streams; thread sanitizer
#   host reads before the stream is done          backend.c                          lazy streams
#   default stream, streams that nothing orders   reduce.cu                          emulator; thread sanitizer; lazy streams
#   off by one in a sum, wrong tap, wrong form    reduce.cuh, dwconv7.cu, gelu.cu    reference
#   off by one row, sum of another tile           dwconv7_layernorm.cu               reference
#   infinity times zero, rows left out            gelu.cu, mfcc.cu                   NaN in the result
#   bias gradient without a row, a piece          reduce.cuh                         reference
#   copy of the weights in the wrong place        adamw.cu                           guard bytes of the cases
#   scale of loss or gradient left out, twice     loss_scale.cu, adamw.cu, ..._nll   reference
#   rounded towards zero                          number.cuh                         reference
#   beta 0 that keeps NaN                         reduce.cu(h), dwconv7.cu, gemm.cu  NaN in the result
#   order of a sum left to chance                 reduce.cuh                         two runs of one case, random order
#   wrong type asked of a library, end of a row   product.c, gemm.cu                 NaN in the result; reference
#   launch refused, empty grid, not checked       patch.cu, layernorm.cu             error code; NaN in the result
#   rank that is gone not seen, no time limit     nccl.c                             the program collective
#   recording that takes in what it must not,      backend.c, graph.c                 the program graphs
#   or stands in other threads' way
#   device mixed up, or error of one kept          nvml.c, backend.c                  the program devices
#   device memory never freed                     backend.c                          emulator's list at the end
#   host writes device memory                     backend.c                          address sanitizer, poisoned memory
#
# No kernel has __syncwarp: lanes of a warp exchange by shuffles, or wait with their block.
set -u -o pipefail

BUILD=${BUILD:-build}
emu=$BUILD/emu
program=$(realpath -m "$emu/rewrite")
jobs=$(nproc)
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-planted.XXXXXX")
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1:atexit_sleep_ms=0 ASAN_OPTIONS=detect_leaks=0
mkdir "$work/sound"

for config in plain asan tsan; do
	for file in rewrite $config/flags $config/ops $config/collective $config/graphs $config/libheimdall_cuda.so; do
		[ -e "$emu/$file" ] || { echo "$emu/$file is missing: run make BUILD=$BUILD test-emu-planted" >&2; exit 1; }
	done
done

# rewrite DIR FILE OUTPUT: DIR/kernels/cuda/FILE for the emulation; reports name it as that of the checkout
rewrite() {
	(cd "$1" && "$program" "kernels/cuda/$2" >"src/kernels/cuda/$3")
}

# compile CONFIG DIR FILE OBJECT: a source whose planted copy, or that of a header, lies in DIR/kernels/cuda
compile() {
	local stamp command name=kernels/cuda/$3
	mapfile -t stamp <"$emu/$1/flags"
	mkdir -p "$2/src/kernels/cuda"
	if [[ $3 == *.c ]]; then
		read -r -a command <<<"${stamp[1]}"
		"${command[@]}" -Wno-error -iquote "$2" -c "$2/$name" -o "$4"
		return
	fi
	local header
	for header in "$2"/kernels/cuda/*.cuh; do
		[ ! -e "$header" ] || rewrite "$2" "${header##*/}" "${header##*/}" || return
	done
	[ -e "$2/$name" ] || cp "$name" "$2/$name"
	rewrite "$2" "$3" "${3%.cu}.cpp" || return
	read -r -a command <<<"${stamp[0]}"
	# a fault may leave something unused
	"${command[@]}" -Wno-error -iquote "$2/src" -iquote kernels/cuda -c "$2/src/${name%.cu}.cpp" -o "$4"
}

# link CONFIG OUTPUT OBJECT...: the library, with these objects in place of those of the same name
link() {
	local config=$1 output=$2 stamp front end source name object objects=()
	shift 2
	mapfile -t stamp <"$emu/$config/flags"
	read -r -a front <<<"${stamp[2]}"
	read -r -a end <<<"${stamp[3]}"
	for source in kernels/cuda/*.cu kernels/cuda/*.c; do
		name=${source##*/} name=${name%.*}.o
		for object; do
			[ "${object##*/}" = "$name" ] && continue 2
		done
		objects+=("$emu/$config/obj/kernels/cuda/$name")
	done
	"${front[@]}" "${objects[@]}" "$@" -Wl,--whole-archive "$emu/$config/libcuda_emu.a" -Wl,--no-whole-archive \
		"${end[@]}" -o "$output"
}

# replace FILE DIR FROM TO [FROM TO...]: kernels/cuda/FILE to DIR with every FROM, which stands there once, replaced
replace() {
	local file=$1 dir=$2 text rest
	text=$(<"kernels/cuda/$file")
	shift 2
	for (( ; $# >= 2; )); do
		rest=${text#*"$1"}
		if [ "$rest" = "$text" ]; then
			printf '%s has no such text any more, adapt tests/gpu/planted.sh:\n%s\n' "$file" "$1"
			return 1
		elif [[ $rest == *"$1"* ]]; then
			printf '%s has this text more than once, adapt tests/gpu/planted.sh:\n%s\n' "$file" "$1"
			return 1
		fi
		text=${text/"$1"/"$2"}
		shift 2
	done
	mkdir -p "$dir/kernels/cuda"
	printf '%s\n' "$text" >"$dir/kernels/cuda/$file"
}

# run LIBRARY CONFIG OPERATIONS OUTPUT SETTING...: of ops, or one of the programs collective, graphs, devices
run() {
	local library=$1 config=$2 output=$4 names
	read -r -a names <<<"$3"
	shift 4
	if [[ ${names[0]} = collective || ${names[0]} = graphs ]]; then
		env HD_EMU_DEVICES=3 "$@" timeout 300 "$emu/$config/${names[0]}" "$library" >"$output" 2>&1
	elif [ "${names[0]}" = devices ]; then
		timeout 300 "$BUILD/tests/gpu/devices" "$library" >"$output" 2>&1
	else
		env "$@" timeout 300 "$emu/$config/ops" "$library" "${names[@]}" >"$output" 2>&1
	fi
}

# plant KIND FILE[>SOURCE] CONFIG OPERATIONS CHECK FROM TO...
#
# FILE has the fault; where it is a header, SOURCE is what is compiled with it. CONFIG: plain, asan or tsan, then settings
# of the emulation; HD_EMU_WITHOUT=LIBRARY where the own kernel is to run. OPERATIONS are given to ops, with its --limit
# where the thread sanitizer takes too long. CHECK: pattern that the output has to hold; where a name for it comes first, a
# bar stands between. FROM stands once in FILE; TO replaces it.
#
# try NUMBER ...: the same; result in $work/NUMBER.result
try() {
	local dir=$work/$1 kind=$2 file=${3%>*} source=${3#*>} settings=$4 operations=$5 check=${6#*|} seen=${6%%|*}
	local config=${4%% *} result=$work/$1.result sound object word environment=()
	sound=$emu/$config/libheimdall_cuda.so object=$dir/${source%.*}.o
	for word in $settings; do
		[[ $word != *=* ]] || environment+=("$word")
	done
	mkdir -p "$dir"
	word=$work/sound/${settings//[^a-zA-Z0-9]/_}_$operations
	if [ ! -e "$word" ] && ! run "$sound" "$config" "$operations" "$dir/text" ${environment[@]+"${environment[@]}"}; then
		say BROKEN "the sound library fails already ($settings)" "$(head -n 20 "$dir/text")" >"$result"
		return
	fi
	touch "$word"
	if ! { replace "$file" "$dir" "${@:7}" && compile "$config" "$dir" "$source" "$object" &&
		link "$config" "$dir/library.so" "$object"; } >"$dir/text" 2>&1; then
		say BROKEN "cannot be planted" "$(head -n 20 "$dir/text")" >"$result"
	elif run "$dir/library.so" "$config" "$operations" "$dir/text" ${environment[@]+"${environment[@]}"}; then
		say MISSED "all cases of $operations pass ($settings)" >"$result"
	elif holds "$dir/text" "$check"; then
		say caught "by ${seen//\*/ ... } ($settings)" >"$result"
	else
		say MISSED "not by $seen ($settings) but" \
			"$(grep -m 6 -E 'FAIL|ERROR|WARNING|error' "$dir/text" || tail -n 3 "$dir/text")" >"$result"
	fi
	rm -rf "$dir"
}

# holds FILE PATTERN
holds() {
	# shellcheck disable=SC2053
	[[ $(<"$1") == *$2* ]]
}

# Of try: a verdict and what else there is to say, a line each.
say() {
	printf '%-7s %-44s in %-17s %s\n' "$1" "$kind" "$file" "$2"
	[ $# -lt 3 ] || printf '%s\n' "$3"
}

count=0
plant() {
	[[ "$1 $2" == *${ONLY:-}* ]] || return 0
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	count=$((count + 1))
	try "$count" "$@" &
}

race='ThreadSanitizer: data race'
nan='NaN in the result|index *got *nan want'
wrong='wrong result|index *got *want *bound'

# ---- barriers ----

plant 'missing __syncthreads' reduce.cu tsan '--limit 3000 layernorm_bwd' "$race" \
	'sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();' \
	'sums[threadIdx.y][threadIdx.x] = sum;'

plant 'missing __syncthreads' reduce.cu 'plain HD_EMU_ORDER=forward' layernorm_bwd "$nan" \
	'sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();' \
	'sums[threadIdx.y][threadIdx.x] = sum;'

plant 'missing second __syncthreads' 'reduce.cuh>layernorm.cu' tsan layernorm_fwd "$race" \
	'		value[i] = sum;
	}
	__syncthreads();' \
	'		value[i] = sum;
	}'

plant 'missing second __syncthreads' scale_residual.cu tsan '--limit 3000 scale_residual_bwd' "$race" \
	'		__syncthreads();
' ''

plant 'missing __syncthreads' dwconv7_layernorm.cu tsan dwconv7_layernorm_fwd "$race" \
	'	__syncthreads();
' ''

plant 'missing __syncthreads' dwconv7_layernorm.cu 'plain HD_EMU_ORDER=forward' dwconv7_layernorm_fwd "$nan" \
	'	__syncthreads();
' ''

plant 'missing __syncthreads' assemble_batch.cu tsan assemble_batch "$race" \
	'	__syncthreads();
' ''

plant 'missing second __syncthreads' gemm.cu 'tsan HD_EMU_WITHOUT=cublaslt' linear_fwd "$race" \
	'					sum[i][j] = fmaf(left.v[i], right.v[j], sum[i][j]);
			}
		}
		__syncthreads();' \
	'					sum[i][j] = fmaf(left.v[i], right.v[j], sum[i][j]);
			}
		}'

plant 'missing second __syncthreads, 16 bits' gemm.cu 'tsan HD_EMU_WITHOUT=cublaslt' linear_fwd "$race" \
	'columns[i % 2], sum[i / 2][i % 2]);
		}
		__syncthreads();' \
	'columns[i % 2], sum[i / 2][i % 2]);
		}'

plant 'missing barrier between lanes of a warp' stft.cu tsan stft_power "$race" \
	'		__syncthreads();
		float2 *other' \
	'		float2 *other'

plant 'missing barrier between lanes of a warp' stft.cu 'plain HD_EMU_ORDER=reverse' stft_power "$wrong" \
	'		__syncthreads();
		float2 *other' \
	'		float2 *other'

plant '__syncwarp where the block has to wait' reduce.cu tsan '--limit 3000 layernorm_bwd' "$race" \
	'__syncthreads();' '__syncwarp();'

plant 'barrier in divergent code' 'reduce.cuh>sum_squares.cu' plain sum_squares 'divergent barrier: thread' \
	'		if (lane == 0)
			part[i * warps + warp] = sum;
	}
	__syncthreads();' \
	'		if (lane == 0) {
			part[i * warps + warp] = sum;
			__syncthreads();
		}
	}'

plant 'early exit before a barrier' scale_residual.cu plain scale_residual_bwd 'threads have exited' \
	'	hd_sum_rows<W>(part_gamma, sums, sum, C);' \
	'	if (c >= packs)
		return;
	hd_sum_rows<W>(part_gamma, sums, sum, C);'

plant 'early exit before a barrier' gemm.cu 'plain HD_EMU_WITHOUT=cublaslt' linear_fwd 'threads have exited' \
	'	float sum[EACH][EACH] = {};' \
	'	if (i0 + row >= p.m)
		return;
	float sum[EACH][EACH] = {};'

# ---- warps ----

plant 'wrong mask' 'reduce.cuh>layernorm.cu' plain layernorm_fwd 'which is not in the mask 0000ffff' \
	'#define HD_ALL_LANES 0xffffffffu' '#define HD_ALL_LANES 0x0000ffffu'

plant 'shuffle in divergent code' assemble_batch.cu plain assemble_batch 'deadlock in kernel*waits at a warp shuffle' \
	'if (!b.mean)' 'if (!b.mean && lane < b.W)'

# ---- blocks ----

plant 'race between blocks' adamw.cu tsan adamw "$race" \
	'if (blockIdx.x == 0 && threadIdx.x == 0)' 'if (threadIdx.x == 0)'

plant 'race between blocks' 'reduce.cuh>linear.cu' tsan linear_bwd_weight "$race" \
	'part[blockIdx.y * C + c] = total;' 'part[c] = total;'

plant 'last block without __threadfence' 'reduce.cuh>linear.cu' tsan linear_bwd_weight "$race" \
	'		__threadfence();
		last = atomicInc(counter, blocks - 1) == blocks - 1;
		__threadfence();' \
	'		last = atomicInc(counter, blocks - 1) == blocks - 1;'

plant 'missing __syncthreads before the last block' 'reduce.cuh>linear.cu' tsan linear_bwd_weight "$race" \
	'bool last = false;
	__syncthreads();' \
	'bool last = false;'

plant 'counter that is not 0 again' 'reduce.cuh>linear.cu' plain linear_bwd_weight "$nan" \
	'atomicInc(counter, blocks - 1)' 'atomicAdd(counter, 1)'

plant 'counters that nothing sets to 0' backend.c plain sum_squares "$nan" \
	'	HD_TRY(hd_cuda_check(cudaMemsetAsync(out->counters, 0, counters_bytes, out->cuda), "cudaMemset"));
' ''

plant 'order of a sum left to chance' 'reduce.cuh>linear.cu' 'plain HD_EMU_ORDER=random:1' linear_bwd_weight \
	'db: two runs differ' \
	'sum += part[piece * C + c];' 'sum += part[(piece + blockIdx.y) % gridDim.y * C + c];'

plant 'order of a sum left to chance' 'reduce.cuh>linear.cu' 'plain HD_EMU_ORDER=random:1' linear_bwd_weight \
	'db: two runs differ' \
	'	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();' \
	'	__shared__ unsigned came[HD_SUM_PACKS];
	if (threadIdx.y == 0)
		came[threadIdx.x] = 0;
	__syncthreads();
	sums[atomicAdd(&came[threadIdx.x], 1)][threadIdx.x] = sum;
	__syncthreads();'

# ---- memory ----

plant 'write outside of global memory' dwconv7.cu asan dwconv7_fwd 'AddressSanitizer: use-after-poison*WRITE of size 4' \
	'if (h0 + r < m.H && (WHOLE || w0 + w < m.W))' 'if (WHOLE || w0 + w < m.W)'

plant 'write outside of global memory' dwconv7_layernorm.cu asan dwconv7_layernorm_fwd \
	'AddressSanitizer: use-after-poison*WRITE of size' \
	'if (h0 + r < m.H && (WHOLE || w0 + w < m.W)) {' 'if (WHOLE || w0 + w < m.W) {'

plant 'read outside of global memory' 'dwconv7.cuh>dwconv7.cu' asan dwconv7_fwd \
	'AddressSanitizer: use-after-poison*READ of size 4' \
	'to = min(ROWS, m.H - top)' 'to = ROWS'

plant 'pack of 16 bits over the end of a buffer' dwconv7.cu asan dwconv7_fwd 'AddressSanitizer: use-after-poison' \
	'if (a.m.C % V == 0 && aligned)' 'if (aligned)' \
	'int packs = m.C / V' 'int packs = (m.C + V - 1) / V'

plant 'write just behind a buffer' magnitude.cu plain magnitude 'out: written behind its end' \
	'if (rest < n)' 'if (rest <= n)'

plant 'outside of static shared memory, by index' 'reduce.cuh>scale_residual.cu' asan scale_residual_bwd \
	'runtime error: index 32 out of bounds' \
	'row < HD_SUM_ROWS; row++' 'row <= HD_SUM_ROWS; row++'

plant 'outside of static shared memory, by pointer' 'reduce.cuh>layernorm.cu' asan layernorm_fwd \
	'AddressSanitizer: heap-buffer-overflow' \
	'w < warps; w++' 'w <= warps; w++'

plant 'outside of dynamic shared memory' layernorm.cu asan layernorm_bwd 'AddressSanitizer: heap-buffer-overflow' \
	'TEAMS > 1 ? 2 * (size_t)a.C' 'TEAMS > 1 ? (size_t)a.C'

plant 'dynamic shared memory not asked for' assemble_batch.cu plain assemble_batch 'was launched with none' \
	'size_t shared = (size_t)C * sizeof(channel);' 'size_t shared = 0;'

plant 'misaligned float4' layernorm.cu asan layernorm_fwd 'runtime error: *misaligned address' \
	'bool wide = a.C % W == 0 && hd_cuda_aligned16(a.y)' 'bool wide = hd_cuda_aligned16(a.y)'

plant 'float4 over the end of a buffer' assemble_batch.cu asan assemble_batch 'AddressSanitizer: use-after-poison' \
	'b.M * b.W * b.C % hd_width<T>::value == 0 && hd_cuda_aligned16(out)' 'hd_cuda_aligned16(out)'

plant 'host pointer to a kernel' gaussian_nll.cu plain gaussian_nll 'which is host memory or no memory at all' \
	'hd_loss loss, const float *__restrict__ scale, const float *__restrict__ loss_scale, int64_t N)
{' \
	'const hd_loss *passed, const float *__restrict__ scale, const float *__restrict__ loss_scale, int64_t N)
{
	const hd_loss &loss = *passed;' \
	'*loss, scale, loss_scale, N);' 'loss, scale, loss_scale, N);'

plant 'use after free of device memory' backend.c plain add 'memory that has been freed' \
	'	HD_TRY(b->ops.add(device' \
	'	cudaFree(device);
	HD_TRY(b->ops.add(device'

plant 'use after free of device memory' stft.cu asan stft_power 'AddressSanitizer: heap-use-after-free' \
	'	f->table = static_cast<const float2 *>(device);' \
	'	cudaFree(device);
	f->table = static_cast<const float2 *>(device);'

plant 'shared memory read before it is written' reduce.cu plain layernorm_bwd "$nan" \
	'	sums[threadIdx.y][threadIdx.x] = sum;' \
	'	if (threadIdx.y < pieces)
		sums[threadIdx.y][threadIdx.x] = sum;'

plant 'scratch read before it is written' layernorm.cu plain layernorm_bwd "$nan" \
	'a.rows, (int)a.C);
	return grid;' \
	'a.rows, (int)a.C);
	return pieces(a.rows, 1);'

plant 'device memory never freed' backend.c 'plain HD_EMU_LEAKS=1' stft_power 'things of the device were never freed' \
	'	hd_cuda_stft_close();
' ''

plant 'host writes device memory' backend.c 'asan HD_EMU_POISON=1' transfers 'AddressSanitizer: use-after-poison' \
	'HD_TRY(hd_cuda_check(cudaMemsetAsync(dst, byte, bytes, hd_cuda_stream(stream)), "fill"));' \
	'(void)stream, memset(dst, byte, bytes);'

# ---- streams ----

plant 'pinned memory reused too early' backend.c 'plain HD_EMU_LAZY=1' transfers \
	'transfers: uploads one after the other: byte' \
	'	HD_TRY(hd_cuda_check(cudaEventSynchronize(b->taken[slot]), "upload"));
' ''

plant 'pinned memory reused too early' backend.c tsan transfers "$race" \
	'	HD_TRY(hd_cuda_check(cudaEventSynchronize(b->taken[slot]), "upload"));
' ''

plant 'event before what it stands for' backend.c 'plain HD_EMU_LAZY=1' transfers \
	'transfers: uploads one after the other: byte' \
	'	HD_TRY(hd_cuda_check(cudaMemcpyAsync(dst, pinned, bytes, cudaMemcpyHostToDevice, stream), "upload"));
	HD_TRY(hd_cuda_check(cudaEventRecord(b->taken[slot], stream), "upload"));' \
	'	HD_TRY(hd_cuda_check(cudaEventRecord(b->taken[slot], stream), "upload"));
	HD_TRY(hd_cuda_check(cudaMemcpyAsync(dst, pinned, bytes, cudaMemcpyHostToDevice, stream), "upload"));'

plant 'host reads before the stream is done' backend.c 'plain HD_EMU_LAZY=1' add '1+1 and 2+2 gave' \
	'	HD_TRY(hd_cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, cuda), "download"));
	HD_TRY(hd_cuda_check(cudaStreamSynchronize(cuda), "download"));' \
	'	void *pinned = ((cuda_backend *)self)->staging;
	HD_TRY(hd_cuda_check(cudaMemcpyAsync(pinned, src, bytes, cudaMemcpyDeviceToHost, cuda), "download"));
	memcpy(dst, pinned, bytes);'

plant 'default stream' reduce.cu 'plain HD_EMU_DEFAULT_STREAM=forbid' layernorm_bwd \
	'on the default stream, which HD_EMU_DEFAULT_STREAM forbids' \
	'hd_cuda_stream(stream)>>>' '0>>>'

plant 'streams that nothing orders' reduce.cu tsan '--limit 3000 layernorm_bwd' "$race" \
	'hd_cuda_stream(stream)>>>' '0>>>'

plant 'streams that nothing orders' reduce.cu 'plain HD_EMU_LAZY=1' layernorm_bwd "$nan" \
	'hd_cuda_stream(stream)>>>' '0>>>'

# ---- recordings, devices ----

plant 'upload into a recording' backend.c plain graphs 'FAIL refusals' \
	'	hd_status st = hd_cuda_not_recorded("upload", stream);' \
	'	hd_status st = HD_OK;'

plant "another thread's upload into a recording" graph.c plain graphs 'FAIL threads' \
	' || hd_cuda_is_main(stream))' ')'

plant 'recording in the way of other threads' graph.c plain graphs 'FAIL threads' \
	'cudaStreamCaptureModeThreadLocal' 'cudaStreamCaptureModeGlobal'

plant 'device by its place' nvml.c plain devices 'FAIL --accelerator gpu' \
	'nvml.by_uuid(text, &device) == HD_NVML_SUCCESS' \
	'nvml.by_bus("0000:01:00.0", &device) == HD_NVML_SUCCESS'

plant 'error of one device kept for the next' backend.c plain devices 'FAIL --accelerator gpu' \
	'		cudaGetLastError(); /* or the first launch on another device finds this error */
' ''

# ---- results ----

plant 'off by one in a sum' 'reduce.cuh>sum_squares.cu' plain sum_squares "$wrong" \
	'lanes = HD_WARP / 2' 'lanes = HD_WARP / 4'

plant 'off by one in a sum' dwconv7.cu plain dwconv7_bwd_weight "$wrong" \
	'int piece = 0; piece < summed' 'int piece = 1; piece < summed'

plant 'wrong tap' 'dwconv7.cuh>dwconv7.cu' plain dwconv7_bwd_data "$wrong" \
	'(FLIP ? TAPS - 1 - i : i) * TAPS' 'i * TAPS'

plant 'off by one row' 'dwconv7.cuh>dwconv7_layernorm.cu' plain dwconv7_layernorm_fwd "$wrong" \
	'top = h0 - HD_DWCONV7_REACH' 'top = h0 + 1 - HD_DWCONV7_REACH'

plant 'off by one row' 'dwconv7.cuh>dwconv7_layernorm.cu' plain dwconv7_layernorm_fwd "$wrong" \
	'from = max(0, 1 - HEIGHT - top)' 'from = max(0, -top)'

plant 'sum of another tile' dwconv7_layernorm.cu plain dwconv7_layernorm_fwd "$wrong" \
	'w = first; w < first + warps' 'w = 0; w < warps'

plant 'lanes without channels in a sum' dwconv7_layernorm.cu plain dwconv7_layernorm_fwd "$wrong" \
	'works ? away * away : 0.0f' 'away * away'

plant 'missing __syncthreads' mfcc.cu tsan mfcc "$race" \
	'sum[i]);
		__syncthreads();' \
	'sum[i]);'

plant 'read outside of global memory' mfcc.cu asan mfcc 'AddressSanitizer: use-after-poison' \
	'weight = base + row < K && from + lane < M' 'weight = from + lane < M'

plant 'rows behind the coefficients not zero' mfcc.cu plain mfcc "$nan" \
	'if (k < H && t < T)' 'if (k < K && t < T)'

plant 'wrong coefficient' mfcc.cu plain mfcc "$wrong" \
	'weights[warp + i * ROWS][m]' 'weights[warp + i][m]'

plant 'infinity times zero' gelu.cu plain gelu_fwd "$nan" \
	'return z > farthest ? farthest : z;' 'return z;'

plant 'the other form' gelu.cu plain gelu_bwd "$wrong" \
	'launch_backward<T, HD_GELU_TANH> :' 'launch_backward<T, HD_GELU_ERF> :'

plant 'the other form' gelu.cu plain gelu_bwd "$wrong" \
	'launch_sums<T, HD_GELU_TANH> :' 'launch_sums<T, HD_GELU_ERF> :'

plant 'sum of a bias gradient without a row' 'reduce.cuh>gelu.cu' plain gelu_bwd 'wrong db|db: index *got *want *bound' \
	'int row = 0; row < HD_SUM_ROWS' 'int row = 1; row < HD_SUM_ROWS'

plant 'sum of a bias gradient without a piece' 'reduce.cuh>gelu.cu' plain gelu_bwd 'wrong db|db: index *got *want *bound' \
	'piece < gridDim.y' 'piece + 1 < gridDim.y'

plant 'sums of the layer scale for those of the bias' scale_residual.cu plain scale_residual_bwd \
	'wrong db|db: index *got *want *bound' \
	'hd_add_pieces<W>(db, part_bias,' 'hd_add_pieces<W>(db, part_gamma,'

plant 'sums of the layer scale for those of the bias, many columns' scale_residual.cu plain scale_residual_bwd \
	'wrong db|db: index *got *want *bound' \
	'a.dgamma, a.db, a.part_gamma, a.part_bias, a.beta' 'a.dgamma, a.db, a.part_gamma, a.part_gamma, a.beta'

plant 'copy of the weights off by one pack' adamw.cu plain adamw 'copy: written behind its end' \
	'static_cast<T *>(b.copy), at, weight' 'static_cast<T *>(b.copy), at + 1, weight'

plant 'copy of the weights before the step' adamw.cu plain adamw 'wrong copy|copy: index *got *want *bound' \
	'static_cast<T *>(b.copy), at, weight' 'static_cast<T *>(b.copy), at, hd_load<WIDTH>(b.g, at)'

plant 'scale of the gradient left out' adamw.cu plain adamw "$wrong" \
	'clip *= b.grad_scale[0];' 'clip *= 1;'

plant 'loss scale not undone in the norm' loss_scale.cu plain loss_scale_update 'wrong norm|norm2: index *got *want *bound' \
	'norm * s.inverse * s.inverse' 'norm * s.inverse'

plant 'value of 16 bits cut off' 'number.cuh>cast.cu' plain cast "$wrong" \
	'__float2bfloat16_rn(x)' '__float2bfloat16_rz(x)'

plant 'scale of the loss taken twice' gaussian_nll.cu plain gaussian_nll 'wrong gradient|dmu: index *got *want *bound' \
	'(double)scale[0] * (loss_scale ?' '(double)scale[0] * (double)scale[0] * (loss_scale ?'

plant 'wrong twiddle of an odd radix' stft.cu 'plain HD_EMU_WITHOUT=cufft' stft_power "$wrong" \
	'angle -= angle >= span ? span : 0;' 'angle -= angle > span ? span : 0;'

plant 'beta 0 that keeps NaN' reduce.cu plain layernorm_bwd "$nan" \
	'(beta == 0 ? 0.0f : beta * out[c])' 'beta * out[c]'

plant 'beta 0 that keeps NaN' 'reduce.cuh>gelu.cu' plain gelu_bwd "$nan" \
	'(beta == 0 ? 0.0f : beta * out[c])' 'beta * out[c]'

plant 'beta 0 that keeps NaN' dwconv7.cu plain dwconv7_bwd_weight "$nan" \
	'(beta == 0 ? 0 : beta * *out)' 'beta * *out'

plant 'beta 0 that keeps NaN' gemm.cu 'plain HD_EMU_WITHOUT=cublaslt' linear_bwd_weight "$nan" \
	'p.beta == 0 ? 0 : p.beta * hd_widen(*out)' 'p.beta * hd_widen(*out)'

plant 'end of a row not seen, 16 bits' gemm.cu 'plain HD_EMU_WITHOUT=cublaslt' linear_fwd "$wrong" \
	'if (y0 + y < lines && x0 + x < length)' 'if (y0 + y < lines)'

plant 'gradient of weights in 16 bits' product.c plain linear_bwd_weight "$nan" \
	'out = type_of(hd_product_result(p))' 'out = type_of(p->dt)'

plant 'inputs rounded to TF32 without being asked' product.c plain linear_fwd "$wrong" \
	'plan->key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F' 'CUBLAS_COMPUTE_32F_FAST_TF32'

# ---- sums over processes ----

plant 'rank that is gone not seen' nccl.c plain collective 'FAIL rank gone*got status 0' \
	'HD_TRY(check(c));' ''

plant 'other than a sum' nccl.c plain collective 'FAIL sums*got *want *bound' \
	'type, ncclSum, c->comm' 'type, ncclMax, c->comm'

plant 'no limit of a stream that is not done' nccl.c 'plain HD_EMU_LAZY=1' collective 'FAIL slow stream' \
	'if (now() > until)
			return late(c, "wait");' ''

plant 'group that is never ended' nccl.c plain collective 'FAIL group' \
	'grouped ? nccl.GroupEnd() : ncclSuccess' 'ncclSuccess'

# ---- launches ----

plant 'launch refused' patch.cu plain patch_scatter 'CUDA error 9, cudaErrorInvalidConfiguration' \
	'constexpr int ROWS = 8;' 'constexpr int ROWS = 64;'

plant 'launch refused and not checked' patch.cu plain patch_scatter "$nan" \
	'constexpr int ROWS = 8;' 'constexpr int ROWS = 64;' \
	'return HD_CUDA_LAUNCHED(patch_scatter);' 'return HD_OK;'

plant 'empty grid' layernorm.cu plain layernorm_fwd 'CUDA error 9, cudaErrorInvalidConfiguration' \
	'	if (rows == 0)
		return HD_OK;
' ''

wait
caught=0
for ((i = 1; i <= count; i++)); do
	cat "$work/$i.result"
	[[ $(<"$work/$i.result") == caught* ]] && caught=$((caught + 1))
done
echo "$caught of $count planted faults caught"
[ "$caught" -eq "$count" ] && [ "$count" -gt 0 ]
