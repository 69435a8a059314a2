#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole chain on synthetic recordings: render, train, evaluate, compare with an oracle.
# Leaves everything in $BUILD/quickstart; result.json holds the figures.
set -euo pipefail

BUILD=${BUILD:-build}
out=$BUILD/quickstart
started=$(date +%s)
sessions=${SESSIONS:-2400}
# one input of 32 frames at a hop of 128
samples=$((31 * 128))

rm -rf "$out"
mkdir -p "$out"
export HEIMDALL_RUNS_DIR=$out/runs
step() { printf '\n== %s\n' "$*"; }

step "synth: $sessions sessions, seven receivers in Piedmont and Liguria"
"$BUILD/heimdall" synth --out "$out/data" --sessions "$sessions" --sample_rate 48000 --samples "$samples" --seed 1

step "train: ConvNeXt atto on the levels of seven receivers"
"$BUILD/heimdall" train --config configs/quickstart.yaml --data_dir "$out/data" --checkpoint_dir "$out/checkpoints"

step "eval: sessions held out from training and validation"
"$BUILD/heimdall" eval --checkpoint "$out/checkpoints/best.safetensors" --data_dir "$out/data" --split test \
	--predictions "$out/predictions.csv" --json "$out/metrics.json"

step "compare: the training centre, and an oracle that knows the true law and levels"
"$BUILD/bench/oracle" --data "$out/data" --predictions "$out/predictions.csv" \
	--checkpoint "$out/checkpoints/best.safetensors" --json "$out/oracle.json"

wall=$(($(date +%s) - ${QUICKSTART_STARTED:-$started}))
# the oracle's object with the time added before its closing brace
sed '$d' "$out/oracle.json" | sed '$s/$/,/' >"$out/result.json"
printf '  "wall_s": %d\n}\n' "$wall" >>"$out/result.json"
rm "$out/oracle.json"

step "picture of one recording"
"$BUILD/heimdall" features --config configs/quickstart.yaml --out "$out" "$out"/data/sessions/s000001/websdr_1.npy

printf '\n%s after %d s:\n' "$out/result.json" "$wall"
cat "$out/result.json"
