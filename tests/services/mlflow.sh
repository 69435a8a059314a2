#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs tests against real MLflow servers, each started in a temporary folder on free ports of this machine:
#   sqlite     SQLite, artifacts through the server into a folder
#   postgres   a PostgreSQL of its own, artifacts straight in S3 (SeaweedFS)
#
# tests/services/mlflow.sh [PROGRAM...]   Criterion programs and shell scripts (*.sh); default: $BUILD/tests/services/
#                                         test_mlflow*. ROUNDS="sqlite" takes one round alone.
#
# What they find in the environment:
#   HD_MLFLOW_ROUND     sqlite or postgres
#   HD_MLFLOW_URL       the server; HD_MLFLOW_PROXY: the same through fault_proxy.py
#   HD_MLFLOW_CONTROL   port of the proxy's control line, which also kills and starts the server (mlflow_control.sh)
#   HD_MLFLOW_PYTHON    an interpreter with mlflow, psycopg2, boto3, onnxruntime and tensorboard
#   HD_MLFLOW_PASSWORD  one that the server takes from any user, and that must not be in what is written
#   AWS_*, MLFLOW_S3_ENDPOINT_URL   in round postgres: the S3 server with bucket mlflow
#
# A server that is not there (make deps-mlflow) or does not start is a counted skip; none at all is a failure. Servers
# end and the folder goes with this script, also when it is killed.
set -euo pipefail

here=$(dirname "$0")
# shellcheck source=tests/services/servers.sh
source "$here/servers.sh"
chmod 755 "$dir" # PostgreSQL runs as another user
unset "${!MLFLOW_@}" "${!HEIMDALL_@}" "${!PG@}"
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=passive
export HD_MLFLOW_PYTHON=$PWD/$BUILD/mlflow/bin/python
[ ! -x "$BUILD/python/bin/python" ] || export HEIMDALL_PYTHON=$PWD/$BUILD/python/bin/python # it has onnxruntime
HD_MLFLOW_PASSWORD=p$(random 9)-Zq7
export HD_MLFLOW_PASSWORD
secrets+=("$HD_MLFLOW_PASSWORD")

# start_mlflow FOLDER ARGUMENTS...: the server behind the proxy that starts it
start_mlflow() {
	local round=$1 answer p
	shift
	port=$(free_ports 1)
	mkfifo "$round/ports"
	# uvicorn and job runners are children of it that outlive it, so the proxy ends them all, by SIGTERM
	# shellcheck disable=SC2016
	death_signal=TERM start "$round/ports" bash -c 'log=$1; shift; exec "$@" 2>"$log"' - "$round/mlflow.log" \
		env HOME="$round" MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PYTHONWARNINGS=ignore \
		/usr/bin/python3 "$here/fault_proxy.py" "$port" -- \
		"$HD_MLFLOW_PYTHON" -m mlflow server --host 127.0.0.1 --port "$port" --workers 1 "$@"
	proxy=${started[-1]}
	read -r -t 20 p HD_MLFLOW_CONTROL _ <"$round/ports"
	export HD_MLFLOW_CONTROL HD_MLFLOW_URL=http://127.0.0.1:$port HD_MLFLOW_PROXY=http://127.0.0.1:$p
	answer=$("$here/mlflow_control.sh" server start)
	echo "   server $answer"
	[[ $answer == runs* ]]
}

start_sqlite() {
	start_mlflow "$1" --backend-store-uri "sqlite:///$1/mlflow.db" --artifacts-destination "$1/artifacts"
}

start_postgres() {
	local s3
	[ -x "$bin/weed" ] || {
		echo "$bin/weed is not there; make deps-services installs it"
		return 1
	}
	"$here/postgres.sh" start "$1/pg" 9>&- 8>&- || return 1
	PGPASSWORD=$(cat "$1/pg/password")
	secrets+=("$PGPASSWORD")
	PGPASSWORD=$PGPASSWORD createdb -h 127.0.0.1 -p "$(cat "$1/pg/port")" -U tester mlflow || return 1
	mkdir "$1/weed"
	start_weed "$1/weed"
	s3=http://127.0.0.1:$port
	wait_for && make_bucket "$s3/mlflow" || return 1
	export MLFLOW_S3_ENDPOINT_URL=$s3
	# in the environment, where no list of processes shows its password
	MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://tester:$PGPASSWORD@127.0.0.1:$(cat "$1/pg/port")/mlflow \
		start_mlflow "$1" --default-artifact-root s3://mlflow/runs --no-serve-artifacts
}

make_bucket() {
	for _ in $(seq 50); do
		printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" |
			curl -s -f -m 5 -K - --aws-sigv4 "aws:amz:us-east-1:s3" -X PUT "$1" >/dev/null && return 0
		sleep 0.2
	done
	return 1
}

stop_round() {
	if [ -n "$proxy" ]; then
		kill -TERM "$proxy" 2>/dev/null || true
		wait "$proxy" 2>/dev/null || true
	fi
	stop_all
	[ ! -d "$1/pg" ] || "$here/postgres.sh" kill "$1/pg" >/dev/null 2>&1 || true
	unset MLFLOW_S3_ENDPOINT_URL HD_MLFLOW_URL HD_MLFLOW_PROXY HD_MLFLOW_CONTROL
}

[ $# -gt 0 ] || set -- "$BUILD"/tests/services/test_mlflow*
tests=() scripts=()
for program in "$@"; do
	case $program in
	*.sh) scripts+=("$program") ;;
	*) tests+=("$program") ;;
	esac
done

ran=0 skipped=0 failed=0
for HD_MLFLOW_ROUND in ${ROUNDS:-sqlite postgres}; do
	round=$dir/$HD_MLFLOW_ROUND work=$dir/$HD_MLFLOW_ROUND-work proxy=''
	mkdir "$round" "$work" "$work/home"
	export HD_MLFLOW_ROUND
	echo "== MLflow over $HD_MLFLOW_ROUND"
	if [ ! -x "$HD_MLFLOW_PYTHON" ]; then
		echo "skipped $HD_MLFLOW_ROUND: $HD_MLFLOW_PYTHON is not there; make deps-mlflow installs it"
		skipped=$((skipped + 1))
		continue
	fi
	if ! "start_$HD_MLFLOW_ROUND" "$round"; then
		echo "skipped $HD_MLFLOW_ROUND: does not start:"
		tail -q -n 5 "$round"/*log 2>/dev/null | cut -c1-200
		skipped=$((skipped + 1))
		stop_round "$round"
		continue
	fi
	: >"$work/output"
	if [ ${#tests[@]} -gt 0 ]; then
		HOME=$work/home TMPDIR=$work "$here/../run.sh" "${tests[@]}" 9>&- 8>&- 2>&1 | tee -a "$work/output" 9>&- || failed=1
	fi
	for script in "${scripts[@]}"; do
		HOME=$work/home TMPDIR=$work "$script" 9>&- 8>&- 2>&1 | tee -a "$work/output" 9>&- || {
			echo "FAILED: $script over $HD_MLFLOW_ROUND"
			failed=1
		}
	done
	check_keys "$work" || failed=1
	ran=$((ran + 1))
	stop_round "$round"
done
echo "MLflow servers: $ran run, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$ran" -gt 0 ]
