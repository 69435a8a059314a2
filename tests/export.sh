#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The quick start's model, exported: Python with nothing but the model and recordings answers as `heimdall predict` does,
# on the quick start's recordings and, where they are at hand, on real ones of DCF77.
# Needs $BUILD/quickstart (bench/quickstart.sh) and $BUILD/python (make deps-test); run from the root of the checkout.
set -euo pipefail

BUILD=${BUILD:-build}
heimdall=$BUILD/heimdall
python=$BUILD/python/bin/python
quickstart=$BUILD/quickstart
dcf77=../shared/data/dcf77
export HEIMDALL_PYTHON=$PWD/$python PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-export.XXXXXX")
trap 'rm -rf "$work"' EXIT
export HEIMDALL_RUNS_DIR=$work/runs

passed=0 failed=0 skipped=0
# verdict NAME COMMAND...: counts it; its words only where it fails
verdict() {
	if "${@:2}" >"$work/log" 2>&1; then
		passed=$((passed + 1))
		tail -n 1 "$work/log" | sed "s/^/$1: /"
	else
		failed=$((failed + 1))
		echo "FAILED  $1"
		cat "$work/log"
	fi
}

# export_with_features CHECKPOINT DATA OPSET: to $work/model.onnx; it must be validated
export_with_features() {
	"$heimdall" export --checkpoint "$1" --data_dir "$2" --out "$work/model.onnx" --with_features --opset "$3" \
		--require_validation
}

# compare CHECKPOINT: the recordings of each line of $work/cases, by the program and by Python
compare() {
	local files
	while read -r -a files; do
		"$heimdall" predict --checkpoint "$1" "${files[@]}" >>"$work/program"
		"$python" tests/predict_in_python.py "$work/model.onnx" "${files[@]}" >>"$work/python"
	done <"$work/cases"
	"$python" tests/export.py positions "$work/program" "$work/python"
}

# in_python NAME CHECKPOINT DATA
in_python() {
	for opset in 14 17 20; do
		rm -f "$work/program" "$work/python"
		verdict "$1, opset $opset" export_with_features "$2" "$3" "$opset"
		verdict "$1, opset $opset, in Python" compare "$2"
	done
}

for session in 001 002 003 004 005 006 007 008 009 010 011 012; do
	echo "$quickstart/data/sessions/s000$session"/*.npy
done >"$work/cases"
in_python "quick start" "$quickstart/checkpoints/best.safetensors" "$quickstart/data"

# the same answers, metre for metre, of eval with the model
same_errors() {
	local best=$quickstart/checkpoints/best.safetensors
	"$heimdall" export --checkpoint "$best" --data_dir "$quickstart/data" --out "$work/plain.onnx" --require_validation
	"$heimdall" eval --checkpoint "$best" --data_dir "$quickstart/data" --json "$work/engine.json"
	"$heimdall" eval --checkpoint "$work/plain.onnx" --data_dir "$quickstart/data" --json "$work/onnx.json"
	"$python" tests/export.py metrics "$work/engine.json" "$work/onnx.json"
}
verdict "eval of the model" same_errors

if [ -d "$dcf77" ]; then
	mkdir "$work/dcf77"
	ln -s "$PWD/$dcf77"/*.wav "$work/dcf77"
	{
		echo session,receiver,iq,sample_rate,latitude,longitude,approved,split
		for file in "$dcf77"/*.wav; do
			name=$(basename "$file" .wav)
			echo "${name%-*},${name#*-},$name.wav,12001,50.0152,9.0112,true,train"
		done
	} >"$work/dcf77/manifest.csv"
	verdict "DCF77, training" "$heimdall" train --data_dir "$work/dcf77" --checkpoint_dir "$work/checkpoints" \
		--sample_rate 12001 --n_fft 512 --hop_length 128 --frame_mode windows --backbone_size atto --pretrained none \
		--epochs 5 --warmup_epochs 0 --batch_size 2 --validation_split 0 --test_split 0 --no_export
	for year in 2017 2020; do
		for receiver in 1 2 3; do
			"$python" tests/export.py kiwi "$dcf77/$year-rx$receiver.wav" "$work/$year-rx$receiver.npy"
		done
		echo "$work/$year-rx1.npy" "$work/$year-rx2.npy" "$work/$year-rx3.npy"
	done >"$work/cases"
	in_python DCF77 "$work/checkpoints/best.safetensors" "$work/dcf77"
else
	echo "skipped: no $dcf77"
	skipped=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
