#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants one fault after the other in a copy of the ONNX export and expects onnx or onnxruntime's answers to show it.
# Needs $BUILD/libheimdall.a, $BUILD/tests/onnx_models and $BUILD/python; run from the root of the checkout.
set -u -o pipefail

BUILD=${BUILD:-build}
python=$BUILD/python/bin/python
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-planted.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

# file in host/export|case of onnx_models, or positions|sed expression
faults() {
	cat <<'TABLE'
network.c|atto|s/, HD_NORM_EPS, 1, last/, 0.01f, 1, last/
network.c|atto|s/"epsilon", HD_NORM_EPS/"epsilon", 0.01f/
network.c|atto|s/"Add", x, permute(g, y, to_nchw)/"Sub", x, permute(g, y, to_nchw)/
network.c|atto|s/vector(n, at, "gamma", C)/hd_onnx_f32(g, 0.3f)/
network.c|atto|s/(float)M_SQRT2/1.41f/
network.c|atto|s/m->data\[r \* m->columns + c\]/m->data[c * m->rows + r]/
network.c|atto|s/to_nhwc\[\] = {0, 2, 3, 1}/to_nhwc[] = {0, 3, 2, 1}/
network.c|atto|s/"GlobalAveragePool"/"GlobalMaxPool"/
network.c|atto|s/rows, card->rstd/rows, card->mean/
network.c|atto|s/"Mul", tanh_half, more/"Mul", tanh_half, tanh_half/
network.c|atto|s/"Softplus", u/"Relu", u/
network.c|batch|s/loss->bound == HD_BOUND_CLAMP/loss->bound != HD_BOUND_CLAMP/
network.c|batch|s/"epsilon", HD_BATCH_NORM_EPS/"epsilon", 0.01f/
network.c|batch|s/"Clip", softplus/"Clip", u/
network.c|offsets|s/log_gain < 0 ? 1 : -1/1/
network.c|offsets|s/fabs(expm1/(expm1/
network.c|offsets|s/of(-(double)offset/of((double)offset/
network.c|offsets|s/hd_onnx_f32(g, HD_DB_SILENCE)/hd_onnx_f32(g, -80)/
network.c|own|s/OWN_VARIANCE_EPS, 2, window/OWN_VARIANCE_EPS, 1, window/
network.c|own-offsets|s/strcmp(moved, features) != 0/false/
network.c|own-offsets|s/"Sub", features, mu)/"Sub", moved, mu)/
positions.c|positions|s/(float)rest)/0)/
positions.c|positions|s/HD_EARTH_RADIUS_M/6378137.0/
positions.c|positions|s/"Where", passed, far, near/"Where", passed, near, near/
positions.c|positions|s/beyond, op2(g, "Sub", half_turn, angle), angle/beyond, angle, angle/
positions.c|positions|s/beyond, longer, op2(g, "Mul", p.side, t)/beyond, longer, op2(g, "Sub", hyp, p.out)/
positions.c|positions|s/not_zero(g, c)/c/
positions.c|positions|s/hd_onnx_f32(g, TINY)/hd_onnx_f32(g, 1e-3f)/
onnx_file.c|atto|s/EXTERNAL_ALIGN - s->written % EXTERNAL_ALIGN/s->written % EXTERNAL_ALIGN/
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

# plant FILE CASE EXPRESSION: status 0 where it shows, 1 where it does not, 2 where nothing could be tried
plant() {
	local source=$work/fault.c
	sed -e "$3" "host/export/$1" >"$source" || return 2
	if cmp -s "host/export/$1" "$source"; then
		echo "$2: '$3' changes nothing in host/export/$1: adapt tests/onnx_planted.sh" >&2
		return 2
	fi
	# a fault may leave something unused; an object in front of the archive takes the place of the archive's
	"${compile[@]}" -Wno-error -c "$source" -o "$work/fault.o" 2>"$work/text" || { cat "$work/text" >&2; return 2; }
	"${compile[@]}" "$work/onnx_models.o" "$work/fault.o" "$BUILD/libheimdall.a" "${libs[@]}" -ldnnl -lm -ldl \
		-o "$work/onnx_models" 2>"$work/text" || { cat "$work/text" >&2; return 2; }
	! ask "$2" "$work/onnx_models" >"$work/text" 2>&1
}

for sound in atto batch offsets own own-offsets positions; do
	if ! ask "$sound" "$BUILD/tests/onnx_models" >"$work/text" 2>&1; then
		cat "$work/text"
		echo "the sound export fails already: nothing can be told from planted faults" >&2
		exit 1
	fi
done

passed=0 failed=0
while IFS='|' read -r file name expression; do
	plant "$file" "$name" "$expression" </dev/null
	case $? in
	0) verdict=caught passed=$((passed + 1)) ;;
	1) verdict=MISSED failed=$((failed + 1)) ;;
	*) verdict=BROKEN failed=$((failed + 1)) ;;
	esac
	printf '%-7s %-12s %s\n' "$verdict" "$name" "$expression"
done < <(faults)

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
