#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a GPU: every operation, the same under compute-sanitizer where that is installed, whole trainings.
set -euo pipefail

BUILD=${BUILD:-build}
library=$BUILD/libheimdall_cuda.so
sanitizer=${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer
[ -e "$library" ] || { echo "$library is not there: a build with nvcc makes it"; exit 1; }

# the tuner would try every shape of the tests and write this user's file
export HEIMDALL_TUNING=off

code=0
"$BUILD/tests/gpu/ops" "$library" || code=$?
if [ "$code" = 77 ]; then
	echo "test-gpu: skipped, nothing was run on a GPU"
	exit 0
fi
[ "$code" = 0 ] || exit "$code"
"$BUILD/tests/gpu/collective" "$library" || [ $? = 77 ]
"$BUILD/tests/gpu/graphs" "$library"
if [ -x "$sanitizer" ]; then
	for tool in memcheck racecheck synccheck initcheck; do
		"$sanitizer" --tool "$tool" --error-exitcode 1 "$BUILD/tests/gpu/ops" "$library" --limit 50000 | tail -n 3
	done
else
	echo "compute-sanitizer is not in $(dirname "$sanitizer"): its checks are left out"
fi
tests/gpu/training.sh "$library"
