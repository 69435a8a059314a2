#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants one fault after the other in a copy of the ONNX export and expects onnx or onnxruntime's answers to show it.
# Needs $BUILD/libheimdall.a, $BUILD/tests/onnx_models and $BUILD/python; run from the root of the checkout.
set -u -o pipefail

BUILD=${BUILD:-build}
python=$BUILD/python/bin/python
# shellcheck source=tests/count_planted.sh
. tests/count_planted.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-planted.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

# case of onnx_models, or positions|file in host/export|sed expression
faults() {
	cat <<'TABLE'
atto|network.c|s/, HD_NORM_EPS, 1, last/, 0.01f, 1, last/
atto|network.c|s/"epsilon", HD_NORM_EPS/"epsilon", 0.01f/
atto|network.c|s/"Add", x, permute(g, y, to_nchw)/"Sub", x, permute(g, y, to_nchw)/
atto|network.c|s/vector(n, at, "gamma", C)/hd_onnx_f32(g, 0.3f)/
atto|network.c|s/(float)M_SQRT2/1.41f/
atto|network.c|s/m->data\[r \* m->columns + c\]/m->data[c * m->rows + r]/
atto|network.c|s/to_nhwc\[\] = {0, 2, 3, 1}/to_nhwc[] = {0, 3, 2, 1}/
atto|network.c|s/"GlobalAveragePool"/"GlobalMaxPool"/
atto|network.c|s/rows, card->rstd/rows, card->mean/
atto|network.c|s/"Mul", tanh_half, more/"Mul", tanh_half, tanh_half/
atto|network.c|s/"Softplus", u/"Relu", u/
batch|network.c|s/loss->bound == HD_BOUND_CLAMP/loss->bound != HD_BOUND_CLAMP/
batch|network.c|s/"epsilon", HD_BATCH_NORM_EPS/"epsilon", 0.01f/
batch|network.c|s/"Clip", softplus/"Clip", u/
offsets|network.c|s/log_gain < 0 ? 1 : -1/1/
offsets|network.c|s/fabs(expm1/(expm1/
offsets|network.c|s/of(-(double)offset/of((double)offset/
offsets|network.c|s/hd_onnx_f32(g, HD_DB_SILENCE)/hd_onnx_f32(g, -80)/
own|network.c|s/OWN_VARIANCE_EPS, 2, window/OWN_VARIANCE_EPS, 1, window/
own-offsets|network.c|s/strcmp(moved, features) != 0/false/
own-offsets|network.c|s/"Sub", features, mu)/"Sub", moved, mu)/
positions|positions.c|s/(float)rest)/0)/
positions|positions.c|s/HD_EARTH_RADIUS_M/6378137.0/
positions|positions.c|s/"Where", passed, far, near/"Where", passed, near, near/
positions|positions.c|s/beyond, op2(g, "Sub", half_turn, angle), angle/beyond, angle, angle/
positions|positions.c|s/beyond, longer, op2(g, "Mul", p.side, t)/beyond, longer, op2(g, "Sub", hyp, p.out)/
positions|positions.c|s/not_zero(g, c)/c/
positions|positions.c|s/hd_onnx_f32(g, TINY)/hd_onnx_f32(g, 1e-3f)/
atto|onnx_file.c|s/EXTERNAL_ALIGN - s->written % EXTERNAL_ALIGN/s->written % EXTERNAL_ALIGN/
TABLE
}

# The stamp holds compiler and flags, then the tiers.
read -r -a compile <<<"$(sed -E 's/( (base|v[234]))+$//' "$BUILD/flags")"
read -r -a libs <<<"$(pkg-config --libs fftw3f jansson yaml-0.1 cairo soxr sqlite3 lapacke zlib libzip libprotobuf-c)"
"${compile[@]}" -c tests/onnx_models.c -o "$work/onnx_models.o" || exit 1

# ask CASE BINARY: whether all is well with its models
ask() {
	rm -rf "$work/models"
	mkdir "$work/models"
	if [ "$1" = positions ]; then
		"$2" positions "$work/models" || return 1
	else
		"$2" case "$work/models" "$1" 14 20 || return 1
	fi
	"$python" tests/onnx_models.py "$work/models"
}

# plant CASE FILE EXPRESSION: status 0 where it shows, 1 where it does not, 2 where nothing could be tried
plant() {
	local source=$work/fault.c
	sed -e "$3" "host/export/$2" >"$source" || return 2
	if cmp -s "host/export/$2" "$source"; then
		echo "$1: '$3' changes nothing in host/export/$2: adapt tests/onnx_planted.sh" >&2
		return 2
	fi
	# a fault may leave something unused; an object in front of the archive takes the place of the archive's
	"${compile[@]}" -Wno-error -c "$source" -o "$work/fault.o" 2>"$work/text" || { cat "$work/text" >&2; return 2; }
	"${compile[@]}" "$work/onnx_models.o" "$work/fault.o" "$BUILD/libheimdall.a" "${libs[@]}" -ldnnl -lm -ldl \
		-o "$work/onnx_models" 2>"$work/text" || { cat "$work/text" >&2; return 2; }
	! ask "$1" "$work/onnx_models" >"$work/text" 2>&1
}

for sound in atto batch offsets own own-offsets positions; do
	if ! ask "$sound" "$BUILD/tests/onnx_models" >"$work/text" 2>&1; then
		cat "$work/text"
		echo "the sound export fails already: nothing can be told from planted faults" >&2
		exit 1
	fi
done

count_planted < <(faults)

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
