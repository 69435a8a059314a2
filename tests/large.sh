#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Large model at batch 32: trains, goes on from its checkpoint, predicts; its memory is what the plan says, within 5 %. Its
# ONNX model is written within 20 s and 1.2 times its size.
set -euo pipefail

BUILD=${BUILD:-build}
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-large.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
	cat "$work/log"
	echo "0 passed, 1 failed: $1"
	exit 1
}

"$BUILD/heimdall" synth --out "$work/data" --sessions 120 --sample_rate 48000 --samples 3968 --no-progress >"$work/log" 2>&1
export HEIMDALL_RUNS_DIR=$work/runs
train=("$BUILD/heimdall" train --data_dir "$work/data" --checkpoint_dir "$work/checkpoints" --accelerator cpu
	--sample_rate 48000 --n_fft 512 --hop_length 128 --warmup_epochs 0 --pretrained none --validation_split 0.1
	--save_top_k 1 --no-progress --no_export)
"${train[@]}" --epochs 1 >"$work/log" 2>&1 || fail "training"
"${train[@]}" --epochs 2 --resume_training >"$work/log" 2>&1 || fail "going on"
read -r planned peak < <(sed -n 's/^memory: \([0-9]*\) MB planned.*, \([0-9]*\) MB at the peak$/\1 \2/p' "$work/log")
"$BUILD/heimdall" predict --checkpoint "$work/checkpoints/best.safetensors" "$work"/data/sessions/s000003/websdr_[123].npy \
	>"$work/answer" 2>"$work/log" || fail "prediction"
grep -q '^latitude ' "$work/answer" || fail "no answer"
echo "large: $planned MB planned, $peak MB at the peak"
awk -v a="$planned" -v b="$peak" 'BEGIN { exit !(a > 3000 && b > 0.95 * a && b < 1.05 * a) }' || fail "memory is off the plan"
# export CHECKPOINT MODEL: prints seconds and peak bytes
export_model() {
	/usr/bin/python3 -c 'import resource, subprocess, sys, time
started = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("%.1f %d" % (time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))' \
		"$BUILD/heimdall" export --checkpoint "$1" --out "$2" --no_validate
}
read -r seconds bytes < <(export_model "$work/checkpoints/best.safetensors" "$work/model.onnx") || fail "export"
size=$(stat -c %s "$work/model.onnx")
echo "large: $((size / 1000000)) MB of ONNX in $seconds s, $((bytes / 1000000)) MB at the peak"
awk -v s="$seconds" -v b="$bytes" -v size="$size" 'BEGIN { exit !(size > 7e8 && s < 20 && b < 1.2 * size) }' ||
	fail "export takes too long or too much"
echo "1 passed, 0 failed"
