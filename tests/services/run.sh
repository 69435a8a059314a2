#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs programs against real S3 servers, each started in a temporary folder on free ports of this machine.
#
# tests/services/run.sh [PROGRAM...]     programs: $BUILD/tests/services/test_*; those named bench_* are run as they are
#
# Servers come from $BUILD/services (make deps-services). One that is not there, or does not start, is a counted skip;
# none at all is a failure. Servers end and the folder goes with this script, also when it is killed.
set -euo pipefail

here=$(dirname "$0")
SERVERS=${SERVERS:-weed juicefs rclone}
wanted=2 # servers; rclone is asked where one of the others is missing

# shellcheck source=tests/services/servers.sh
source "$here/servers.sh"

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

start_proxy() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "subjectAltName=IP:127.0.0.1" \
		-keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
	mkfifo "$1/ports"
	start "$1/ports" /usr/bin/python3 "$here/fault_proxy.py" "$port" "$1/cert.pem" "$1/key.pem"
	read -r -t 20 p control other tls <"$1/ports"
	export HD_S3_URL=http://127.0.0.1:$port HD_S3_NAMED=http://s3.localhost:$port HD_S3_PROXY=http://127.0.0.1:$p
	export HD_S3_CONTROL=$control HD_S3_OTHER=$other HD_S3_TLS=https://127.0.0.1:$tls HD_S3_CA=$1/cert.pem
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
