#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Python pipeline's commands and its step-by-step guide, each as one command here, run beside the MLflow server that
# tests/services/mlflow.sh started (tracking.sh calls this): what they print is there, files and run.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-build}" && pwd)
export PATH=$build:$PATH
python=${HD_MLFLOW_PYTHON:?run this through tests/services/mlflow.sh}
work=$(mktemp -d "$TMPDIR/seed.XXXXXX")
cd "$work"
# what a user of the Python pipeline has set; the size is for a test's patience
export MLFLOW_TRACKING_URI=$HD_MLFLOW_URL MLFLOW_EXPERIMENT_NAME=seed-commands
export HEIMDALL_BACKBONE_SIZE=atto HEIMDALL_PRETRAINED=none

fail() {
	echo "FAILED: $*" >&2
	exit 1
}
# run COMMAND...: shown, then run; its words go to `said`
run() {
	echo "  \$ $*"
	"$@" >said 2>&1 || {
		cat said
		fail "$*: exit $?"
	}
}
value() { "$python" -c 'import json, sys
v = json.load(open(sys.argv[1]))
for key in sys.argv[2].split("|"):
    v = v[key]
print(v)' "$@"; }
# server_says RUN_ID: its status at the server, as MLflow's interface gives it
server_says() {
	curl -s -f "$HD_MLFLOW_URL/api/2.0/mlflow/runs/get?run_id=$1" >run.json || fail "the server has no run '$1'"
	value run.json "run|info|status"
}
is_number() { [[ $1 =~ ^[0-9.]+(e[-+]?[0-9]+)?$ ]] || fail "'$1' is no number"; }
same() {
	"$python" "$here/services/mlflow_compare.py" "$@" "$HD_MLFLOW_URL" >compared 2>&1 || {
		cat compared
		fail "not the same: $*"
	}
}

heimdall synth --out data --sessions 60 --samples 24000 >said 2>&1 || fail "$(cat said)"

# full training
run heimdall train --epochs 2 --batch_size 8 --learning_rate 1e-3 --accelerator cpu --devices 1 --data_dir data \
	--json result.json
checkpoint=$(value result.json checkpoint_path) onnx=$(value result.json onnx_path) id=$(value result.json mlflow_run_id)
[ -s "$checkpoint" ] || fail "no checkpoint at '$checkpoint'"
[ -s "$onnx" ] || fail "no ONNX model at '$onnx'"
is_number "$(value result.json "final_metrics|val/median_m")"
[ "$(server_says "$id")" = FINISHED ] || fail "the run did not end there"
grep -q "$id" said || fail "the run's id is not printed"
folder=$(dirname "$(dirname "$checkpoint")")
same "$folder"
cp "$folder/params.json" .

# quick test
run heimdall train --epochs 1 --batch_size 8 --accelerator cpu --data_dir data

# export only
rm "$onnx"
run heimdall train --export_only --checkpoint "$checkpoint"
[ -s "$onnx" ] || fail "no ONNX model at '$onnx'"

# resume training: the same run goes on
run heimdall train --resume_training --checkpoint "$(dirname "$checkpoint")/last.safetensors" --epochs 4 --json resumed.json
[ "$(value resumed.json mlflow_run_id)" = "$id" ] || fail "resumed as run $(value resumed.json mlflow_run_id), not $id"
[ "$(server_says "$id")" = FINISHED ] || fail "the resumed run did not end there"
same --params params.json "$folder"

# the guide: initialize, run, get outputs
run heimdall train --epochs 2 --batch_size 32 --learning_rate 1e-3 --validation_split 0.2 --accelerator cpu --devices 1 \
	--data_dir data --json guide.json
for what in checkpoint_path onnx_path mlflow_run_id; do
	printf '  %-16s %s\n' $what "$(value guide.json $what)"
done
printf '  %-16s %s m\n' "median error" "$(value guide.json "final_metrics|val/median_m")"
[ "$(server_says "$(value guide.json mlflow_run_id)")" = FINISHED ] || fail "the guide's run did not end there"
[ "$(value guide.json mlflow_run_id)" != "$id" ] || fail "two runs share an id"

# what these tests would not see, they would not find
if (server_says 0123456789abcdef0123456789abcdef) >nobody 2>&1; then fail "a run that nobody made is there"; fi
echo "the original's commands: 5 run"
