#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs programs against real S3 servers, each started in a temporary folder on free ports of this machine.
#
# tests/services/run.sh [PROGRAM...]     programs: $BUILD/tests/services/test_*; those named bench_* are run as they are
#
# Servers come from $BUILD/services (make deps-services). One that is not there, or does not start, is a counted skip;
# none at all is a failure. Servers end and the folder goes with this script, also when it is killed.
set -euo pipefail

BUILD=${BUILD:-build}
bin=$PWD/$BUILD/services/bin
here=$(dirname "$0")
SERVERS=${SERVERS:-weed juicefs rclone}
wanted=2 # servers; rclone is asked where one of the others is missing

dir=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-services.XXXXXX")
# Its input ends with this script, however that ends; servers are dead by then (pdeathsig), but may just be dying.
exec 9> >(
	trap '' INT TERM HUP
	cat >/dev/null
	for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$dir" 2>/dev/null && break; sleep 0.2; done
)
mkfifo "$dir/open" && exec 8<>"$dir/open"

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
AWS_ACCESS_KEY_ID=HDTEST$(random 7 | tr a-f A-F)
AWS_SECRET_ACCESS_KEY=hd/$(random 10)+$(random 10)
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
export AWS_REGION=us-east-1 CRITERION_JOBS=1
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 MLFLOW_S3_ENDPOINT_URL AWS_CA_BUNDLE
unset CURL_CA_BUNDLE http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE

free_ports() {
	/usr/bin/python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

started=() # process ids of this round

# start LOG COMMAND...: in the background, killed with this script
start() {
	local log=$1
	shift
	setpriv --pdeathsig KILL "$@" <&8 >"$log" 2>&1 9>&- &
	started+=($!)
}

stop_all() {
	for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
	for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
	started=()
}

start_weed() { # SeaweedFS: master, volume and filer behind its S3 front
	local m mg v vg f fg s sg
	read -r m mg v vg f fg s sg < <(free_ports 8)
	mkdir "$1/data"
	(umask 077 && cat >"$1/s3.json") <<-END
		{"identities": [{"name": "test", "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID",
		 "secretKey": "$AWS_SECRET_ACCESS_KEY"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
	END
	start "$1/log" env HOME="$1" "$bin/weed" -logtostderr server -dir="$1/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
		-master.port="$m" -master.port.grpc="$mg" -volume.port="$v" -volume.port.grpc="$vg" -filer \
		-filer.port="$f" -filer.port.grpc="$fg" -s3 -s3.port="$s" -s3.port.grpc="$sg" -s3.port.iceberg=0 \
		-s3.port.lance=0 -s3.config="$1/s3.json" -s3.iam=false -s3.domainName=s3.localhost -master.telemetry=false \
		-volume.max=30 -master.volumeSizeLimitMB=64
	port=$s
}

start_juicefs() { # MinIO's S3 front over JuiceFS
	local s p
	read -r s p < <(free_ports 2)
	mkdir "$1/data"
	HOME=$1 "$bin/juicefs" format "sqlite3://$1/meta.db" test --storage file --bucket "$1/data/" --trash-days 0 \
		>"$1/format.log" 2>&1 || return 1
	start "$1/log" env HOME="$1" MINIO_ROOT_USER="$AWS_ACCESS_KEY_ID" MINIO_ROOT_PASSWORD="$AWS_SECRET_ACCESS_KEY" \
		"$bin/juicefs" gateway "sqlite3://$1/meta.db" "127.0.0.1:$s" --log "$1/gateway.log" --multi-buckets --keep-etag \
		--no-banner --cache-dir "$1/cache" --cache-size 200 --metrics "127.0.0.1:$p" --domain s3.localhost \
		--no-usage-report
	port=$s
}

start_rclone() { # the fallback
	port=$(free_ports 1)
	mkdir "$1/data"
	start "$1/log" env HOME="$1" RCLONE_AUTH_KEY="\"$AWS_ACCESS_KEY_ID,$AWS_SECRET_ACCESS_KEY\"" "$bin/rclone" \
		serve s3 --addr "127.0.0.1:$port" "$1/data"
}

# answers with anything at all, and its process lives
wait_for() {
	for _ in $(seq 150); do
		kill -0 "${started[-1]}" 2>/dev/null || return 1
		if curl -s -m 2 -o /dev/null "http://127.0.0.1:$port/"; then return 0; fi
		sleep 0.2
	done
	return 1
}

start_proxy() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "subjectAltName=IP:127.0.0.1" \
		-keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
	mkfifo "$1/ports"
	start "$1/ports" /usr/bin/python3 "$here/fault_proxy.py" "$port" "$1/cert.pem" "$1/key.pem"
	read -r -t 20 p control other tls <"$1/ports"
	export HD_S3_URL=http://127.0.0.1:$port HD_S3_NAMED=http://s3.localhost:$port HD_S3_PROXY=http://127.0.0.1:$p
	export HD_S3_CONTROL=$control HD_S3_OTHER=$other HD_S3_TLS=https://127.0.0.1:$tls HD_S3_CA=$1/cert.pem
}

# what the programs wrote has neither key in it; a planted one shows that it would be found
keys_in() { grep -rlF -e "$AWS_ACCESS_KEY_ID" -e "$AWS_SECRET_ACCESS_KEY" "$1"; }
check_keys() {
	printf 'x%sx' "$AWS_SECRET_ACCESS_KEY" >"$1/planted"
	keys_in "$1" >"$dir/found" || true
	rm "$1/planted"
	if [ "$(cat "$dir/found")" != "$1/planted" ]; then
		echo "keys in what was written, or the search does not work:" && cat "$dir/found"
		return 1
	fi
	echo "keys: none in $(find "$1" -type f | wc -l) files and the output"
}

programs=("$@")
[ $# -gt 0 ] || programs=("$BUILD"/tests/services/test_*)
tests=() benches=()
for program in "${programs[@]}"; do
	case $(basename "$program") in
	bench_*) benches+=("$program") ;;
	*) tests+=("$program") ;;
	esac
done

ran=0 skipped=0 failed=0
for server in $SERVERS; do
	[ "$ran" -lt "$wanted" ] || continue
	round=$dir/$server work=$dir/$server-work
	mkdir "$round" "$work" "$work/home"
	if [ ! -x "$bin/$server" ]; then
		echo "skipped $server: $bin/$server is not there; make deps-services installs it"
		skipped=$((skipped + 1))
		continue
	fi
	if ! "start_$server" "$round" || ! wait_for; then
		echo "skipped $server: does not start:"
		tail -n 5 "$round"/*log | cut -c1-200
		skipped=$((skipped + 1))
		stop_all
		continue
	fi
	start_proxy "$round"
	echo "== $server: $("$bin/$server" version 2>/dev/null | head -n 1 || true)"
	export HD_S3_SERVER=$server
	if [ ${#tests[@]} -gt 0 ]; then
		HOME=$work/home TMPDIR=$work "$here/../run.sh" "${tests[@]}" 9>&- 8>&- 2>&1 | tee "$work/output" 9>&- || failed=1
	fi
	for bench in "${benches[@]}"; do
		HOME=$work/home TMPDIR=$work "$bench" 9>&- 8>&- 2>&1 | tee -a "$work/output" 9>&- || failed=1
	done
	check_keys "$work" || failed=1
	ran=$((ran + 1))
	stop_all
done
echo "S3 servers: $ran run, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$ran" -gt 0 ]
