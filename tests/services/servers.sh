# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts that start real servers share; sourced by them.
#
# It makes the folder $dir, which goes when the script ends, also when it is killed, and then servers end as well; and the
# keys of an S3 server, which nothing that is tested may write down.

BUILD=${BUILD:-build}
bin=$PWD/$BUILD/services/bin
dir=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-services.XXXXXX")
# Its input ends with the script, however that ends; servers are dead by then (pdeathsig), but may just be dying.
# PostgreSQL leaves its starter, so it is told.
exec 9> >(
	trap '' INT TERM HUP
	cat >/dev/null
	for pid in "$dir"/*/pg/cluster/postmaster.pid; do
		[ ! -f "$pid" ] || kill -QUIT "$(head -n 1 "$pid")" 2>/dev/null
	done
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

# start LOG COMMAND...: in the background, ended with the script (by $death_signal)
start() {
	local log=$1
	shift
	setpriv --pdeathsig "${death_signal:-KILL}" "$@" <&8 >"$log" 2>&1 9>&- &
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

# answers with anything at all, and its process lives
wait_for() {
	for _ in $(seq 150); do
		kill -0 "${started[-1]}" 2>/dev/null || return 1
		if curl -s -m 2 -o /dev/null "http://127.0.0.1:$port/"; then return 0; fi
		sleep 0.2
	done
	return 1
}

secrets=("$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY")

# what the programs wrote has none of $secrets in it; a planted one shows that it would be found
keys_in() { printf '%s\n' "${secrets[@]}" | grep -rlF -f - "$1"; }
check_keys() {
	printf 'x%sx' "${secrets[-1]}" >"$1/planted"
	keys_in "$1" >"$dir/found" || true
	rm "$1/planted"
	if [ "$(cat "$dir/found")" != "$1/planted" ]; then
		echo "keys in what was written, or the search does not work:" && cat "$dir/found"
		return 1
	fi
	echo "keys: none in $(find "$1" -type f | wc -l) files and the output"
}
