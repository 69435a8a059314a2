#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/run.sh BIN...: runs Criterion programs, prints failures, one line per program and the sum.
set -u -o pipefail

out=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-tests.XXXXXX")
trap 'rm -rf "$out"' EXIT

passed=0 failed=0 skipped=0
# the interpreter that has onnx and onnxruntime
if [ -x "${BUILD:-build}/python/bin/python" ]; then
	HEIMDALL_PYTHON=${HEIMDALL_PYTHON:-$PWD/${BUILD:-build}/python/bin/python}
	export HEIMDALL_PYTHON
fi

# runs that tests leave, and the servers of whoever calls
export HEIMDALL_RUNS_DIR=$out/runs
unset "${!MLFLOW_TRACKING_@}" MLFLOW_EXPERIMENT_NAME

for bin in "$@"; do
	name=$(basename "$bin")
	start=$(date +%s.%N)
	"$bin" --tap="$out/tap" >"$out/text" 2>&1
	code=$?
	seconds=$(echo "$start $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}')
	p=0 f=0 s=0
	if [ -f "$out/tap" ]; then
		s=$(grep -c -i -E '^ok .*# *skip' "$out/tap")
		p=$(($(grep -c '^ok ' "$out/tap") - s))
		f=$(grep -c '^not ok ' "$out/tap")
	fi
	# ended without a word, or with an error that no test accounts for
	if [ $((p + f + s)) -eq 0 ] || { [ $code -ne 0 ] && [ "$f" -eq 0 ]; }; then
		echo "$name: ended with status $code" >>"$out/text"
		f=$((f + 1))
	fi
	if [ "$f" -gt 0 ]; then
		cat "$out/text"
		[ -f "$out/tap" ] && grep -A 3 '^not ok ' "$out/tap"
	else
		sed -n -E 's/^ok - (.*[^ ]) +# *SKIP *(.*)/skipped \1: \2/Ip' "$out/tap"
	fi
	printf '%-24s %6s s  %d passed, %d failed, %d skipped\n' "$name" "$seconds" "$p" "$f" "$s"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	rm -f "$out/tap"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
