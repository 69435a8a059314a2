#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/services/tracking.sh [NAME...]: trainings tracked by the MLflow server that mlflow.sh started: all checks, or
# those named here or in CHECKS; without names each round takes its own. Everything that is read back is compared with the
# run's folder by mlflow_compare.py.
# POINTS=1000000 pushes that many where `large` takes 40,000; MOST_SLOWER=... is how much more CPU the training
# thread may take with a server than without, in percent (default 10: other programs are in its caches).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-build}" && pwd)
heimdall=$build/heimdall
python=${HD_MLFLOW_PYTHON:?run this through tests/services/mlflow.sh}
work=$(mktemp -d "$TMPDIR/tracking.XXXXXX")
cd "$work"
runs=runs/heimdall-localization
POINTS=${POINTS:-40000}
# the server asks for no password; a proxy in front of it may, and nothing may show it
with_password() { printf '%s' "${1/:\/\//:\/\/tester:$HD_MLFLOW_PASSWORD@}"; }

fail() {
	echo "FAILED: $*" >&2
	exit 1
}
control() { "$here/mlflow_control.sh" "$@"; }
said() { grep -qF -- "$2" "$1" || {
	cat "$1"
	fail "$1 says nothing about '$2'"
}; }
compare() { "$python" "$here/mlflow_compare.py" "$@" "$HD_MLFLOW_URL" >compared 2>&1; }
same() {
	compare "$@" || {
		cat compared
		fail "not the same: $*"
	}
	grep -E '^points|^artifacts' compared | sed 's/^/  /'
}
# a point that is missing, one too many, another byte: each must be found
differs() {
	local wanted=$1
	shift
	if compare "$@"; then fail "the comparison finds nothing in $*"; fi
	grep -qE "^DIFFERS $wanted" compared || {
		cat compared
		fail "the comparison finds something else in $*"
	}
}

data() {
	[ -d data ] || "$heimdall" synth --out data --sessions 40 --sample_rate 48000 --samples 6000 >synth.out 2>&1
}
settings=(--data_dir data --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 4 --warmup_epochs 0 --threads 1
	--backbone_size atto --pretrained none --accelerator cpu --log_every_n_steps 1 --early_stop_patience 0)
# train NAME URL ARGUMENTS...: its words go to NAME.out; its exit code
train() {
	local name=$1 uri=$2
	shift 2
	"$heimdall" train "${settings[@]}" --run_name "$name" --tracking_uri "$uri" "$@" >>"$name.out" 2>&1
}
trained() { train "$@" || {
	cat "$1.out"
	fail "train $1"
}; }
push() { "$heimdall" track push "$@" >push.out 2>&1; }
pushed() { push "$@" || {
	cat push.out
	fail "track push $*"
}; }
# wait_lines NAME COUNT: until the run's log has that many lines
wait_lines() {
	for _ in $(seq 2400); do
		[ "$(wc -l 2>/dev/null <"$runs/$1/metrics.log" || echo 0)" -lt "$2" ] || return 0
		sleep 0.05
	done
	cat "$1.out"
	fail "$1: no $2 lines after 120 s"
}
started() { # the server runs after the control's word
	local answer
	answer=$(control server start)
	[[ $answer == runs* ]] || fail "the server does not start: $answer"
}
json() { "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }

# a run as users have it: everything arrives, and the comparison can fail
check_plain() {
	trained plain "$(with_password "$HD_MLFLOW_URL")" --epochs 3 --json plain.json
	same "$runs/plain"
	grep -q "^run: $(json plain.json mlflow_run_id) .* FINISHED" compared || fail "another run id in --json"
	HEIMDALL_TRACKING_URI=$(with_password "$HD_MLFLOW_URL") "$heimdall" train "${settings[@]}" --run_name by_variable \
		--epochs 1 --no_export >by_variable.out 2>&1 || fail "$(cat by_variable.out)"
	same "$runs/by_variable"
	cp -a "$runs/plain" planted
	sed -i 3d planted/metrics.log
	differs "point .*: 1 at the server, 0 in the log" planted
	cp "$runs/plain/metrics.log" planted
	printf x >>planted/config.yaml
	differs "artifact config.yaml: other bytes" planted
	"$python" -c 'import sys, mlflow
mlflow.MlflowClient(sys.argv[1]).log_metric(sys.argv[2], "train/loss", 1, timestamp=1, step=1)' \
		"$HD_MLFLOW_URL" "$(json plain.json mlflow_run_id)"
	differs "point train/loss step 1 .*: 1 at the server, 0 in the log" "$runs/plain"
}

# the server killed and started again five times, and answers lost after it did what it was asked
check_killed() {
	local pid
	control fault lost 1000/3 POST log-batch
	control fault lost 1 POST runs/create
	control fault status 5/4 POST log-batch 503
	control fault slowdown 5/5 POST log-batch 1
	control fault short 3/6 POST log-batch 20
	train killed "$(with_password "$HD_MLFLOW_PROXY")" --epochs 100000 &
	pid=$!
	for i in 1 2 3 4 5; do
		wait_lines killed $((i * 20))
		control server kill >/dev/null
		sleep 0.5
		started
		sleep 1
	done
	pkill -TERM -P $pid heimdall || fail "the training ended early: $(cat killed.out)"
	wait $pid && fail "ends with 0 after SIGTERM"
	[ "$(control log | grep -c '^fault lost POST.*log-batch')" -ge 2 ] || fail "no answers were lost: $(control log | tail)"
	[ "$(grep -c -i "mlflow\|server" killed.out)" -lt 40 ] || fail "says too much: $(cat killed.out)"
	push "$runs/killed" --tracking_uri "$HD_MLFLOW_PROXY" || pushed "$runs/killed" --tracking_uri "$HD_MLFLOW_URL"
	control clear
	same "$runs/killed"
}

# no server all the time; then it is pushed, twice
check_absent() {
	local since=$SECONDS
	control server kill >/dev/null
	trained absent "$HD_MLFLOW_URL" --epochs 2
	printf '  trained in %d s\n' $((SECONDS - since))
	said absent.out "heimdall track push"
	if push "$runs/absent" --tracking_uri "$HD_MLFLOW_URL"; then fail "pushed to nobody"; fi
	started
	pushed "$runs/absent" --tracking_uri "$(with_password "$HD_MLFLOW_URL")"
	pushed "$runs/absent" --tracking_uri "$HD_MLFLOW_URL"
	same "$runs/absent"
}

# the server comes while it trains
check_late() {
	local pid
	control server kill >/dev/null
	train late "$HD_MLFLOW_URL" --epochs 100000 &
	pid=$!
	wait_lines late 5
	started
	for _ in $(seq 200); do
		[ -n "$(json "$runs/late/mlflow.json" run_id 2>/dev/null || true)" ] && break
		sleep 0.1
	done
	sleep 3
	pkill -TERM -P $pid heimdall
	wait $pid || true
	same "$runs/late"
}

# SIGTERM is KILLED there; resumed, the same run goes on and ends
check_resumed() {
	local code=0 pid id
	train resumed "$HD_MLFLOW_URL" --epochs 100000 &
	pid=$!
	wait_lines resumed 30
	sleep 3
	pkill -TERM -P $pid heimdall
	wait $pid || code=$?
	[ $code = 4 ] || fail "exit $code after SIGTERM"
	same --wanted KILLED "$runs/resumed"
	id=$(json "$runs/resumed/mlflow.json" run_id)
	cp "$runs/resumed/params.json" .
	local epoch
	epoch=$(json "$runs/resumed/status.json" epoch)
	"$heimdall" train "${settings[@]}" --resume_training --checkpoint "$runs/resumed/checkpoints/last.safetensors" \
		--epochs $((epoch + 3)) --tracking_uri "$HD_MLFLOW_URL" --json resumed.json >>resumed.out 2>&1 || {
		cat resumed.out
		fail "resumption"
	}
	same --wanted FINISHED --params params.json "$runs/resumed"
	[ "$(json resumed.json mlflow_run_id)" = "$id" ] || fail "resumed as another run"
}

# what fails is FAILED there
check_failed() {
	if train failed "$HD_MLFLOW_URL" --epochs 30 --learning_rate 10 --gradient_clip 0 --weight_decay 10; then
		fail "it did not fail"
	fi
	said failed.out "not finite"
	same --wanted FAILED "$runs/failed"
}

# an experiment that was deleted: how to get it back, and training goes on
check_deleted() {
	"$python" -c 'import sys, mlflow
c = mlflow.MlflowClient(sys.argv[1])
c.delete_experiment(c.create_experiment("gone"))' "$HD_MLFLOW_URL"
	trained deleted "$HD_MLFLOW_URL" --epochs 1 --experiment_name gone --no_export
	said deleted.out "mlflow experiments restore"
	"$python" -c 'import sys, mlflow
c = mlflow.MlflowClient(sys.argv[1])
c.restore_experiment(c.get_experiment_by_name("gone").experiment_id)' "$HD_MLFLOW_URL"
	pushed runs/gone/deleted --tracking_uri "$HD_MLFLOW_URL"
	same runs/gone/deleted
}

# one sender at a time; a training killed is pushed afterwards
check_senders() {
	local pid code=0 pids=() good=0
	train senders "$HD_MLFLOW_URL" --epochs 100000 &
	pid=$!
	wait_lines senders 30
	sleep 2
	push "$runs/senders" --tracking_uri "$HD_MLFLOW_URL" || code=$?
	[ $code = 2 ] || {
		cat push.out
		fail "a second sender: exit $code, not 2"
	}
	pkill -KILL -P $pid heimdall
	wait $pid 2>/dev/null || true
	for i in 1 2 3; do
		"$heimdall" track push "$runs/senders" --tracking_uri "$HD_MLFLOW_URL" >"push$i.out" 2>&1 &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		if wait "$pid"; then good=$((good + 1)); fi
	done
	[ $good -ge 1 ] || fail "$(cat push?.out)"
	same --wanted KILLED "$runs/senders"
}

# peak_kb FILE COMMAND...: runs it; its largest memory
peak_kb() {
	local to=$1
	shift
	"$python" -c 'import resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
print("peak_kb", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, "seconds", round(time.monotonic() - begun, 2))
sys.exit(code)' "$@" >"$to" 2>&1
}

# memory does not grow with the log
check_large() {
	local few many seconds points
	for points in 10000 "$POINTS"; do
		"$python" "$here/mlflow_points.py" "made/points_$points" "$points"
		peak_kb "peak_$points" "$heimdall" track push "made/points_$points" --tracking_uri "$HD_MLFLOW_URL" || {
			cat "peak_$points"
			fail "track push of $points points"
		}
	done
	few=$(sed -n 's/.*peak_kb \([0-9]*\).*/\1/p' peak_10000)
	many=$(sed -n 's/.*peak_kb \([0-9]*\).*/\1/p' "peak_$POINTS")
	seconds=$(sed -n 's/.*seconds \([0-9.]*\).*/\1/p' "peak_$POINTS")
	printf '  10000 points: %d kB, %d points: %d kB, %.0f points/s\n' "$few" "$POINTS" "$many" \
		"$(awk "BEGIN { print $POINTS / $seconds }")"
	[ "$many" -lt $((few + 2000)) ] || fail "memory grows with the log"
	same "made/points_$POINTS"
}

check_seed() { BUILD=$build "$here/../seed_commands.sh"; }

# cpu FILE COMMAND...: runs it; seconds of CPU of its first thread, which trains, and of all threads
cpu() {
	local to=$1
	shift
	"$python" -c 'import os, subprocess, sys
child = subprocess.Popen(sys.argv[2:])
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
with open(f"/proc/{child.pid}/task/{child.pid}/schedstat") as f:
    first = int(f.read().split()[0]) / 1e9
_, status, usage = os.wait4(child.pid, 0)
with open(sys.argv[1], "w") as f:
    print(first, usage.ru_utime + usage.ru_stime, file=f)
sys.exit(os.waitstatus_to_exitcode(status))' "$to" "$@"
}
epoch_seconds() { awk -F, 'NR > 2 { s += $NF } END { print s }' "$1/checkpoints/metrics.csv"; }

# What tracking costs training, in alternating pairs that differ in the server alone, with points of each step. What slows
# training down does so in all pairs; other programs do in some. The time on the clock is shown only: server and training
# share this machine's cores.
check_speed() {
	local i uri
	: >pairs
	for i in 1 2 3; do
		for uri in none "$HD_MLFLOW_URL"; do
			cpu "cpu_${uri%%:*}" "$heimdall" train "${settings[@]}" --run_name "speed_${uri%%:*}_$i" --tracking_uri "$uri" \
				--epochs 15 --no_export --no_log_model >>speed.out 2>&1 || {
				cat speed.out
				fail "train for $uri"
			}
		done
		echo "$(cat cpu_none) $(cat cpu_http) $(epoch_seconds "$runs/speed_none_$i") $(epoch_seconds "$runs/speed_http_$i")" >>pairs
	done
	awk '{ print $3 / $1, $4 / $2, $6 / $5 }' pairs | sort -n >ratios
	awk '{ printf "  with a server / without: CPU of the training thread %.4f, of all threads %.4f, time of an epoch %.3f\n", $1, $2, $3 }' ratios
	awk -v most="${MOST_SLOWER:-10}" 'NR == 1 { exit !($1 <= 1 + most / 100) }' ratios || fail "training is slower"
	[ "$(awk '{ n += NF > 4 } END { print n + 0 }' "$runs/speed_http_1/metrics.log")" -ge 105 ] || fail "too few points"
}

data
read -r -a checks <<<"${*:-${CHECKS:-}}"
if [ ${#checks[@]} -eq 0 ]; then
	checks=(plain resumed)
	case $HD_MLFLOW_ROUND in
	sqlite) checks+=(killed absent late failed deleted senders large speed) ;;
	*) checks+=(seed) ;;
	esac
fi
for name in "${checks[@]}"; do
	began=$SECONDS
	control clear
	# as a job: in a condition, a command that fails would not end it
	"check_$name" &
	wait $! || fail "$name"
	printf 'ok %-16s %3d s\n' "$name" $((SECONDS - began))
done
