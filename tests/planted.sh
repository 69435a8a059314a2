#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants one fault after the other in a copy of a kernel and expects the operation's test to fail.
# Needs $BUILD/tests/test_ops; run from the root of the checkout.
set -u -o pipefail

BUILD=${BUILD:-build}
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-planted.XXXXXX")
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/count_planted.sh
. tests/count_planted.sh

# operation|file in kernels/cpu|sed expression
faults() {
	cat <<'TABLE'
magnitude|magnitude.c|s/127\.5f/127.0f/
stft_power|stft.c|s/t \* hop - n_fft \/ 2;/t * hop;/
mel_db|mel.c|s/log10f(sum + floor)/log10f(sum)/
mfcc|mfcc.c|s/dct\[k \* M + m\]/dct[m * K + k]/
mfcc|mfcc.c|s/k < K ? M : 0/k <= K \&\& K > 0 ? M : 0/
stft_mel_db|stft.c|s/log10f(sum + floor)/log10f(sum)/
assemble_batch|assemble_batch.c|s/ + start\[n\]/ + 0 * start[n]/
patch_gather|patch.c|s/ho \* p + i) \* W + wo \* p) \* pixel/ho * p + i) * W + wo) * pixel/
patch_scatter|patch.c|s/memset(row + used, 0,/memset(row + used, 1,/
patch_conv_fwd|patch_conv.c|s/(y, work, w, b, dt/(y, work, w, NULL, dt/
patch_conv_bwd_data|patch_conv.c|s/work, dt, N, H, W, C, p, stream/work, dt, N, W, H, C, p, stream/
patch_conv_bwd_weight|patch_conv.c|s/dw, db, dy, work, beta, rest/dw, db, dy, work, 0.0f, rest/
linear_fwd|linear.c|s/b ? 1\.0f : 0\.0f/1.0f/
linear_bwd_data|linear.c|s/dy, K, w, C, 0\.0f/dy, K, w, C, 1.0f/
linear_bwd_weight|linear.c|s/dy, K, x, C, beta, dw/dy, K, x, C, 0.0f, dw/
dwconv7_fwd|dwconv7.c|s/k, m, h, 1);/k, m, h, -1);/
dwconv7_layernorm_fwd|dwconv7_layernorm.c|s/map, gamma, bias/map, bias, gamma/
dwconv7_bwd_data|dwconv7.c|s/k, m, h, -1);/k, m, h, 1);/
dwconv7_bwd_weight|dwconv7.c|s/m\.W - dj : m\.W/m.W - dj - 1 : m.W/
layernorm_fwd|layernorm.c|s/(float)C + eps/(float)C + 2 * eps/
layernorm_bwd|layernorm.c|s/dot \/= (float)C/dot \/= (float)(C + 1)/
gelu_fwd|gelu.c|s/(-0\.5f \* square, /(-0.51f * square, /
gelu_bwd|gelu.c|s/q - slope/q + slope/
gelu_fwd|gelu.c|s/z \* (e \/ (1\.0f + e))/z * e/
gelu_bwd|gelu.c|s/q \* p \* hd_gelu/q * hd_gelu/
gelu_bwd|gelu.c|s/return z > farthest ? farthest : z/return z/
scale_residual_fwd|scale_residual.c|s/skip\[c\] + keep \* gamma/skip[c] + gamma/
scale_residual_bwd|scale_residual.c|s/sum\[c\] += keep \* g\[c\]/sum[c] += g[c]/
pool_fwd|pool.c|s/out\[c\] \/= (float)P/out[c] \/= (float)(P + 1)/
pool_bwd|pool.c|s/g\[c\] \/ (float)P/g[c] * (float)P/
relu_dropout_fwd|relu_dropout.c|s/key->epoch, layer}/layer, key->epoch}/
drop_path_scale|drop_path.c|s/key->epoch, HD_DROP_PATH/HD_DROP_PATH, key->epoch/
relu_dropout_bwd|relu_dropout.c|s/dy\[i\] \* scale/dy[i]/
add|add.c|s/a\[i\] + b\[i\]/a[i] - b[i]/
cast|cast.c|s/n - i < BLOCK ? n - i : BLOCK/(n - i < BLOCK ? n - i : BLOCK) - (n > 100)/
cast|narrow.c|s/out\[i\] = hd_float_to_bf16(src\[i\]);/out[i] = hd_float_to_bf16(src[i] * 1.003f);/
loss_scale_update|loss_scale.c|s/norm2\[0\] \* state->inverse \* state->inverse/norm2[0] * state->inverse/
loss_scale_update|loss_scale.c|s/fmaxf(state->scale \/ 2, LEAST_SCALE)/state->scale \/ 2/
batchnorm_fwd|batchnorm.c|s/(double)(count - 1)/(double)count/
batchnorm_fwd|batchnorm.c|s/weight\[n\] != 0 && c < width/c < width/
batchnorm_fwd|batchnorm.c|s/count += weight\[n\] != 0/count++/
batchnorm_fwd|batchnorm.c|s/count < 2/count < 1/
batchnorm_bwd|batchnorm.c|s/sum\[c\] - xhat \* dot/sum[c] - dot/
batchnorm_bwd|batchnorm.c|s/if (weight\[i \/ C\] != 0)/if (i >= 0)/
batchnorm_apply|batchnorm.c|s/(double)running_var\[at + c\] + (double)eps/(double)running_var[at + c]/
gaussian_nll|gaussian_nll.c|s/1 - z \* z/1 + z * z/
gaussian_nll|gaussian_nll.c|s/softplus >= lo && softplus <= hi/softplus > lo \&\& softplus < hi/
gaussian_nll|gaussian_nll.c|s/softplus >= lo && softplus <= hi/softplus >= 0/
gaussian_nll|gaussian_nll.c|s/hypot(s, label)/s/
gaussian_nll|gaussian_nll.c|s/ \* (s \/ root)//
gaussian_nll|gaussian_nll.c|s/pow(root, 2 \*/pow(root,/
gaussian_nll|gaussian_nll.c|s/(outer \* w \* diff);/(outer * diff);/
gaussian_nll|gaussian_nll.c|s/(loss_scale ? (double)loss_scale\[0\] : 1)/1/
sum_squares|sum_squares.c|s/hd_piece_start(piece + 1, n);/hd_piece_start(piece + 1, n) - (piece == 15);/
adamw|adamw.c|s/1\.0f - lr \* hyper/1.0f - hyper->lr * hyper/
adamw|adamw.c|s/!isfinite(norm2\[0\])/isnan(norm2[0])/
adamw|adamw.c|s/(1\.0f - decay) \* p/decay * p/
TABLE
}

# The best instruction tier of this processor, as backend.c chooses it.
tier=base march=
if [ "$(uname -m)" = x86_64 ]; then
	tier=v2 march=-march=x86-64-v2
	flags=" $(grep -m1 '^flags' /proc/cpuinfo) "
	has() { for f; do [[ $flags == *" $f "* ]] || return 1; done; }
	if has avx2 fma bmi2; then
		tier=v3 march=-march=x86-64-v3
		if has avx512f avx512bw avx512vl avx512dq avx512cd; then
			tier=v4 march='-march=x86-64-v4 -mprefer-vector-width=512'
		fi
	fi
fi

if [ ! -x "$BUILD/tests/test_ops" ]; then
	echo "$BUILD/tests/test_ops is missing: run make BUILD=$BUILD test first" >&2
	exit 1
fi
if ! "$BUILD/tests/test_ops" >"$work/text" 2>&1; then
	cat "$work/text"
	echo "the sound kernels fail already: nothing can be told from planted faults" >&2
	exit 1
fi

# The stamp holds compiler and flags, then the tiers.
read -r -a compile <<<"$(sed -E 's/( (base|v[234]))+$//' "$BUILD/flags")"
read -r -a arch <<<"$march"
read -r -a libs <<<"$(pkg-config --libs fftw3f)"

# make removes this object as an intermediate one
"${compile[@]}" -c tests/test_ops.c -o "$work/test_ops.o" || exit 1

# plant OP FILE EXPRESSION: status 0 where the test fails, 1 where it passes, 2 where nothing could be tried
plant() {
	local source=$work/$2 object=$work/${2%.c}.o binary=$work/test_ops
	sed -e "$3" "kernels/cpu/$2" >"$source" || return 2
	if cmp -s "kernels/cpu/$2" "$source"; then
		echo "$1: '$3' changes nothing in kernels/cpu/$2: adapt tests/planted.sh" >&2
		return 2
	fi
	# a fault may leave something unused
	"${compile[@]}" -ffp-contract=fast -Wno-error ${arch[@]+"${arch[@]}"} "-DHD_TIER=$tier" -c "$source" -o "$object" \
		2>"$work/text" || { cat "$work/text" >&2; return 2; }
	# an object in front of the archive takes the place of the archive's
	"${compile[@]}" "$work/test_ops.o" "$BUILD"/obj/tests/cases/*.o "$BUILD"/obj/tests/ref/*.o "$object" \
		"$BUILD/libheimdall.a" -lcriterion "${libs[@]}" -ldnnl -lm -ldl -o "$binary" 2>"$work/text" ||
		{ cat "$work/text" >&2; return 2; }
	! "$binary" --filter "ops/$1" >"$work/text" 2>&1
}

count_planted < <(faults)

# every operation of the table has a fault
while read -r op; do
	if ! faults | grep -q "^$op|"; then
		echo "MISSED  $op: no fault planted"
		failed=$((failed + 1))
	fi
done < <(sed -n -E 's/^HD_OP\(([a-z0-9_]+),.*/\1/p' kernels/kernels.def)

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
