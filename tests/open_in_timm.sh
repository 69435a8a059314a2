#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Weights that timm made, trained here, opened in timm again: torch's answers are those of `heimdall predict`.
# Needs $BUILD/heimdall and $BUILD/python (make deps-check); run from the root of the checkout.
set -euo pipefail

BUILD=${BUILD:-build}
heimdall=$BUILD/heimdall
python=$BUILD/python/bin/python
if [ ! -x "$heimdall" ] || [ ! -x "$python" ]; then
	echo "$heimdall or $python is missing: run make BUILD=$BUILD all deps-check first" >&2
	exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-timm.XXXXXX")
trap 'rm -rf "$work"' EXIT
export HEIMDALL_RUNS_DIR=$work/runs
export PYTHONDONTWRITEBYTECODE=1

# quietly COMMAND...: its words only where it fails
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }; }

features=(--sample_rate 48000 --n_fft 512 --hop_length 128)
# one input of 32 frames at a hop of 128
quietly "$heimdall" synth --out "$work/data" --sessions 60 --sample_rate 48000 --samples $((31 * 128))
receivers=("$work"/data/sessions/s000001/websdr_?.npy)

# train NAME FLAGS...: one epoch from timm's weights to $work/NAME/best.safetensors
train() {
	quietly "$heimdall" train --data_dir "$work/data" --checkpoint_dir "$work/$1" --receivers all "${features[@]}" \
		--backbone_size atto --pretrained "$work/timm.safetensors" --batch_size 8 --epochs 1 --warmup_epochs 0 \
		--learning_rate 0.0001 --no_export "${@:2}"
}

# ask CHECKPOINT NAME SESSION CHANNEL: features and answer to $work/NAME; CHANNEL of the session is missing, 0: none is
ask() {
	local checkpoint=$1 folder=$work/$2 files=() i name
	mkdir -p "$folder"
	quietly "$heimdall" features "${features[@]}" --out "$folder" "$work/data/sessions/$3"/websdr_?.npy
	for ((i = 1; i <= ${#receivers[@]}; i++)); do
		name=$(basename "${receivers[i - 1]}" .npy)
		if [ "$i" = "$4" ]; then
			files+=(none)
			echo none
		else
			files+=("$work/data/sessions/$3/$name.npy")
			echo "$folder/$name.features.npy"
		fi
	done >"$folder/channels"
	"$heimdall" predict --checkpoint "$checkpoint" --json "$folder/predict.json" "${files[@]}" >"$folder/predict.txt"
}

"$python" tests/open_in_timm.py weights "$work/timm.safetensors" atto "${#receivers[@]}"

passed=0 failed=0
# compare NAME FLAGS...: trains with the flags and compares some answers
compare() {
	local best=$work/$1/best.safetensors cases=() session
	train "$@"
	for session in 01 02 03 04; do
		ask "$best" "$1-$session" "s0000$session" 0
		cases+=("$work/$1-$session")
	done
	ask "$best" "$1-missing" s000005 2
	cases+=("$work/$1-missing")
	if "$python" tests/open_in_timm.py compare "$best" "${cases[@]}"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
}

compare layer
# the heads of the original program
compare original --head_norm batch --head_widths 96,48,32 --uncertainty_bound clamp --batch_size 2

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
