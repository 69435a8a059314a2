#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CUDA sources, built for the host against the emulation of the CUDA runtime (tests/cuda_emu/README.md).
set -euo pipefail

BUILD=${BUILD:-build}
emu=$BUILD/emu
started=$(date +%s)
step() { printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - started)); }

# ops CONFIG ARGUMENTS...: the summary, or all of the output where something fails
ops() {
	"$emu/$1/ops" "$emu/$1/libheimdall_cuda.so" "${@:2}" >"$emu/ops.log" 2>&1 || { cat "$emu/ops.log"; exit 1; }
	tail -n 1 "$emu/ops.log"
}

# oneDNN's threads are not instrumented; the thread sanitizer else sleeps a second at every end
export OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1:atexit_sleep_ms=0

# no trials of the tuner's on every shape of the tests; it has tests of its own
export HEIMDALL_TUNING=off

# on another core, where there is one
tests/gpu/planted.sh >"$emu/planted.log" 2>&1 &
planted=$!
trap 'kill "$planted" 2>/dev/null || true' EXIT

step "the emulation's own tests"
tests/cuda_emu/tests/rewrite.sh "$emu/rewrite"
for config in plain asan tsan; do
	"$emu/$config/self"
done

step "operations: address and undefined-behaviour sanitizers, threads in order and in reverse"
HD_EMU_ORDER=forward ops asan
HD_EMU_ORDER=reverse ops asan

step "the tuner, cuDNN's ways against a stand-in"
for config in plain asan; do
	"$emu/$config/test_tune" -j1 2>&1 | tail -n 1
done

step "operations: streams that run late, device memory that the host cannot touch"
HD_EMU_LAZY=1 HD_EMU_POISON=1 ops asan

step "operations: thread sanitizer, small shapes"
ops tsan --limit "${EMU_LIMIT:-20000}" --types 2

step "operations without the vendors' libraries"
HD_EMU_WITHOUT=cublaslt,cufft,cudnn,nccl ops asan
HD_EMU_WITHOUT=cublaslt,cufft,cudnn,nccl ops tsan --limit "${EMU_LIMIT:-20000}" --types 2

step "sums over processes, with ranks that are lost, and without NCCL"
for config in plain asan tsan; do
	HD_EMU_DEVICES=3 "$emu/$config/collective" "$emu/$config/libheimdall_cuda.so"
done
HD_EMU_DEVICES=3 HD_EMU_LAZY=1 "$emu/asan/collective" "$emu/asan/libheimdall_cuda.so"
HD_EMU_WITHOUT=nccl "$emu/asan/collective" "$emu/asan/libheimdall_cuda.so"

step "recordings: the same bits as queued one by one, what cannot be recorded, other threads; on the last of several devices"
for config in plain asan tsan; do
	HD_EMU_DEVICES=3 HD_EMU_LEAKS=1 "$emu/$config/graphs" "$emu/$config/libheimdall_cuda.so"
	HD_EMU_LAZY=1 HD_EMU_ORDER=reverse "$emu/$config/graphs" "$emu/$config/libheimdall_cuda.so"
done
HD_EMU_WITHOUT=cublaslt,cufft,cudnn,nccl,nvml HD_EMU_LAZY=1 "$emu/asan/graphs" "$emu/asan/libheimdall_cuda.so"

step "which of several devices"
"$BUILD/tests/gpu/devices" "$emu/plain/libheimdall_cuda.so"

step "faults planted in the kernels"
wait "$planted" || { cat "$emu/planted.log"; exit 1; }
cat "$emu/planted.log"

step "whole trainings"
OMP_WAIT_POLICY=passive tests/gpu/training.sh "$emu/plain/libheimdall_cuda.so"

step "a training whose every buffer has its own allocation, under the address sanitizer"
tests/gpu/apart.sh "$emu/asan/libheimdall_cuda.so"
step "done"
