#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/onnx_models.sh quick|all: random models as ONNX; onnx accepts them, onnxruntime's answers are the engine's.
# quick: the smallest size, everything that a setting changes. all: every size, and weights of more than 2 GiB. Needs
# $BUILD/tests/onnx_models and $BUILD/python (make deps-test); run from the root of the checkout.
set -euo pipefail

BUILD=${BUILD:-build}
what=${1:?quick or all}
models=$BUILD/tests/onnx_models
python=$BUILD/python/bin/python
for need in "$models" "$python"; do
	if [ ! -x "$need" ]; then
		echo "$need is missing: run make BUILD=$BUILD test first" >&2
		exit 1
	fi
done
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-onnx.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

passed=0 failed=0
# count COMMAND...: its last line is "N passed, M failed"; the others only in the long run or where something failed
count() {
	local p f
	"$@" >"$work/log" 2>&1 || true
	read -r p f < <(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/log") || { p=0 f=1; }
	if [ "$what" = all ] || [ "$f" -gt 0 ]; then cat "$work/log"; fi
	passed=$((passed + p)) failed=$((failed + f))
}

# fresh: an empty folder
fresh() {
	rm -rf "$work/models"
	mkdir "$work/models"
}

quick() {
	local name
	fresh
	"$models" case "$work/models" atto 14 15 16 17 18 19 20
	for name in batch offsets own own-offsets tanh; do
		"$models" case "$work/models" "$name" 14 20
	done
	"$models" positions "$work/models"
	count "$python" tests/onnx_models.py "$work/models"
}

sizes() {
	local name
	for name in $("$models" cases); do
		fresh
		"$models" case "$work/models" "$name" 14 17 20
		count "$python" tests/onnx_models.py "$work/models"
	done
}

beyond_protobuf() {
	fresh
	"$models" beyond "$work/models"
	count "$python" tests/onnx_models.py "$work/models"
}

case $what in
quick) quick ;;
all)
	sizes
	beyond_protobuf
	;;
*)
	echo "onnx_models.sh: quick or all" >&2
	exit 2
	;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
