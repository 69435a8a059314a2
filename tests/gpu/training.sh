#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whole trainings on a CUDA back end, real or emulated: 100 steps of a small ConvNeXt follow the CPU's losses within 1e-4
# and end with its metrics within 1e-3; two runs are bit-equal; so is one that was killed twice and resumed, one that is
# queued operation by operation instead of replayed, and one that computes the inside of its blocks twice. The same steps
# in bfloat16 and in half precision follow those that the CPU rounds.
#
# training.sh LIBRARY    the libheimdall_cuda.so to use
set -euo pipefail

BUILD=${BUILD:-build}
heimdall=$(realpath "$BUILD/heimdall")
HEIMDALL_CUDA_LIBRARY=$(realpath "$1")
export HEIMDALL_CUDA_LIBRARY
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
export HEIMDALL_RUNS_DIR=$work/runs

fail() {
	tail -n 20 "$work/log"
	echo "0 passed, 1 failed: $1"
	exit 1
}

# start FOLDER ARGUMENTS...: becomes the training; in a folder of its own, so that all checkpoints hold the same settings
start() {
	mkdir -p "$work/$1"
	cd "$work/$1"
	exec "$heimdall" train --data_dir ../data --checkpoint_dir checkpoints --cache_dir ../cache --sample_rate 48000 --n_fft 512 --hop_length 128 \
		--n_mels 32 --backbone_size atto --pretrained none --receivers 1,2,3 --batch_size 4 --epochs "${epochs:-25}" --precision "${precision:-32}" \
		--warmup_epochs 2 --learning_rate 2e-4 --validation_split 0.2 --test_split 0 --drop_path 0.1 --ema_decay 0.9 \
		--early_stop_patience 0 --log_every_n_steps 1 --checkpoint_every 7 --save_top_k 1 --threads 2 --no_export --no-progress \
		"${@:2}" >"$work/log" 2>&1
}

train() {
	(start "$@")
}

# Tensors of a safetensors file: what follows the length of the header and the header, whose settings say "resumed".
tensors() {
	tail -c "+$((9 + $(od -An -t u8 -N 8 "$1")))" "$1"
}

# same FILE A B: bit for bit
same() {
	cmp <(tensors "$work/$2/checkpoints/$1") <(tensors "$work/$3/checkpoints/$1") >>"$work/log" 2>&1 ||
		fail "$1 of $2 and $3 differ"
}

"$heimdall" synth --out "$work/data" --sessions 20 --sample_rate 48000 --samples 3968 --no-progress >"$work/log" 2>&1

train cpu --accelerator cpu || fail "on the CPU"
train gpu --accelerator gpu || fail "on the GPU"
device=$(sed -n 's/^cuda back end, \(.*\), [0-9]* threads.*/\1/p' "$work/log")
[ -n "$device" ] || fail "the GPU was not used"

paste -d, "$work/cpu/checkpoints/steps.csv" "$work/gpu/checkpoints/steps.csv" | awk -F, '
NR > 1 {
	size = $4 < 0 ? -$4 : $4
	off = ($9 - $4) / (size > 1 ? size : 1)
	off = off < 0 ? -off : off
	worst = off > worst ? off : worst
	if ($1 != $6 || $3 != $8 || !(off <= 1e-4)) { print "step", $1, "loss", $4, "and", $9; bad = 1 }
}
END {
	printf "losses of %d steps: %.2g apart at most\n", NR - 1, worst
	exit bad || NR < 100
}' | tee -a "$work/log"

# every column of the last epoch but the seconds
paste -d'\n' "$work/cpu/checkpoints/metrics.csv" "$work/gpu/checkpoints/metrics.csv" | tail -n 2 | awk -F, '
NR == 1 { for (i = 1; i < NF; i++) want[i] = $i }
NR == 2 {
	for (i = 1; i < NF; i++) {
		size = want[i] < 0 ? -want[i] : want[i]
		off = ($i - want[i]) / (size > 1 ? size : 1)
		off = off < 0 ? -off : off
		worst = off > worst ? off : worst
		if (!(off <= 1e-3)) { print "metric", i, want[i], $i; bad = 1 }
	}
	printf "metrics: %.2g apart at most\n", worst
	exit bad
}' | tee -a "$work/log"

train again --accelerator gpu || fail "again"
same last.safetensors gpu again
same best.safetensors gpu again
echo "two runs on the GPU: the same bits"

resume=--no-resume_training
for seconds in "${KILL_AFTER:-5}" "${KILL_AFTER:-5}"; do
	(start killed --accelerator gpu $resume) &
	sleep "$seconds"
	kill -KILL $! 2>/dev/null || fail "it ended before it could be killed: KILL_AFTER=SECONDS"
	wait $! || true
	resume=--resume_training
done
train killed --accelerator gpu $resume || fail "resumed"
for file in last best; do
	same "$file.safetensors" gpu killed
done
cmp "$work/gpu/checkpoints/steps.csv" "$work/killed/checkpoints/steps.csv" || fail "steps.csv of gpu and killed differ"
echo "killed twice and resumed: the same bits"

# short ones, whose steps are replayed from the third on
export epochs=3
train short --accelerator gpu || fail "a short one"
train queued --accelerator gpu --no-cuda_graph || fail "without recordings"
train twice --accelerator gpu --gradient_checkpointing || fail "with gradient_checkpointing"
HD_EMU_LAZY=1 HD_EMU_ORDER=reverse train late --accelerator gpu || fail "with streams that run late"
HD_EMU_LAZY=1 train late_queued --accelerator gpu --no-cuda_graph || fail "with streams that run late, without recordings"
for other in queued twice late late_queued; do
	same last.safetensors short "$other"
done
echo "replayed, queued, computed twice, on streams that run late: the same bits"

# Each of some 200 roundings on the way to a gradient is off by 2^-9 (2^-12) at most; 12 steps of AdamW add them up.
for precision in bf16-mixed 16-mixed; do
	export precision
	limit=0.1
	[ $precision = bf16-mixed ] || limit=0.0125
	train "cpu_$precision" --accelerator cpu || fail "$precision on the CPU"
	train "gpu_$precision" --accelerator gpu || fail "$precision on the GPU"
	paste -d, "$work/cpu_$precision/checkpoints/steps.csv" "$work/gpu_$precision/checkpoints/steps.csv" |
		awk -F, -v limit=$limit -v precision=$precision '
NR > 1 {
	size = $4 < 0 ? -$4 : $4
	off = ($9 - $4) / (size > 1 ? size : 1)
	off = off < 0 ? -off : off
	worst = off > worst ? off : worst
	if ($1 != $6 || !(off <= limit)) { print "step", $1, "loss", $4, "and", $9; bad = 1 }
}
END {
	printf "%s: losses of %d steps %.2g apart at most\n", precision, NR - 1, worst
	exit bad || NR < 12
}' | tee -a "$work/log"
done
echo "$device: 1 passed, 0 failed"
