#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Field measurements of levels, five-fold: a small ConvNeXt pretrained on renderings of laws fitted to the other folds'
# measurements, then trained on those, beside simple methods on the same folds. About half an hour on two cores.
#
#   bench/field.sh FOLDER     with levels.csv, receivers.csv and folds.csv
#
# Leaves everything in $BUILD/field; result.json holds the figures.
set -euo pipefail

BUILD=${BUILD:-build}
data=${1:-../shared/data/powder}
out=$BUILD/field
emissions=${EMISSIONS:-24000}
epochs=${EPOCHS:-12}
config=(--config configs/field.yaml)
mkdir -p "$out"
step() { printf '\n== %s\n' "$*"; }

# every receiver heard on at least half of the rows is a channel
receivers=$(tr -d '\r' <"$data/levels.csv" | awk -F, '
NR == 1 { for (i = 4; i <= NF; i++) name[i] = $i; next }
{ for (i = 4; i <= NF; i++) heard[i] += $i != "" }
END { for (i = 4; i in name; i++) if (2 * heard[i] >= NR - 1) printf "%s%s", n++ ? "," : "", name[i] }')
folds=$(tr -d '\r' <"$data/folds.csv" | awk -F, 'NR > 1 && $2 >= n { n = $2 + 1 } END { print n }')

step "synth: the measured levels"
"$BUILD/heimdall" synth "${config[@]}" --levels "$data/levels.csv" --receivers "$data/receivers.csv" \
	--features_only --out "$out/measured"

export HEIMDALL_RUNS_DIR=$out/runs
predictions=()
for ((fold = 0; fold < folds; fold++)); do
	step "fold $fold: laws fitted to the other folds, $emissions emissions rendered from them"
	"$BUILD/heimdall" synth "${config[@]}" --fit_from "$data/levels.csv" --receivers "$data/receivers.csv" \
		--folds "$data/folds.csv" --fold "$fold" --sessions "$emissions" --seed 1 --features_only --out "$out/fitted$fold"

	step "fold $fold: pretraining on the renderings"
	"$BUILD/heimdall" train "${config[@]}" --data_dir "$out/fitted$fold" --receivers "$receivers" \
		--validation_split 0.02 --test_split 0 --epochs "$epochs" --learning_rate 0.002 \
		--checkpoint_dir "$out/pretrained$fold"

	step "fold $fold: training on the measurements of the other folds"
	"$BUILD/heimdall" train "${config[@]}" --pretrained "$out/pretrained$fold/best.safetensors" \
		--data_dir "$out/measured" --folds "$data/folds.csv" --fold "$fold" --validation_split 0 --test_split 0 \
		--epochs 8 --learning_rate 0.001 --batch_size 64 --level_jitter 2 \
		--checkpoint_dir "$out/trained$fold"

	step "fold $fold: the hours left out"
	"$BUILD/heimdall" eval --checkpoint "$out/trained$fold/last.safetensors" --data_dir "$out/measured" \
		--folds "$data/folds.csv" --fold "$fold" --split test --predictions "$out/fold$fold.csv"
	predictions+=("$out/fold$fold.csv")
	rm -r "$out/fitted$fold/.heimdall-cache"
done

step "compare: simple methods on the same folds, with the same receivers and with all"
"$BUILD/bench/baselines" --levels "$data/levels.csv" --receivers "$data/receivers.csv" --folds "$data/folds.csv" \
	--channels half --predictions "${predictions[@]}" --json "$out/result.json"
"$BUILD/bench/baselines" --levels "$data/levels.csv" --receivers "$data/receivers.csv" --folds "$data/folds.csv" \
	--json "$out/all_receivers.json"
