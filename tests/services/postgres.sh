#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/services/postgres.sh start|stop|kill|restart FOLDER: a PostgreSQL of a test's own, on a free port of 127.0.0.1
# and a socket in FOLDER. start makes the cluster, owned by a user that is not root, which PostgreSQL refuses; user
# `tester` has the password in FOLDER/password. FOLDER/port holds the port. POSTGRES_BIN names other binaries.
set -euo pipefail

action=$1 folder=$2
bin=${POSTGRES_BIN:-$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)}
[ -x "$bin/pg_ctl" ] || {
	echo "no PostgreSQL server in ${bin:-/usr/lib/postgresql}: install postgresql" >&2
	exit 77
}

as_user() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=nobody --regid=nogroup --clear-groups --reset-env --inh-caps=-all "$@"
	else
		"$@"
	fi
}
control() { (cd / && as_user "$bin/pg_ctl" --silent -D "$folder/cluster" "$@"); }

run() {
	control -w -t 60 -l "$folder/log" start
}

case $action in
start)
	mkdir -p "$folder"
	[ "$(id -u)" = 0 ] && chown nobody:nogroup "$folder" && chmod 755 "$folder"
	[ -f "$folder/password" ] || printf 'p%s-Zq7' "$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')" >"$folder/password"
	chmod 644 "$folder/password"
	(cd / && as_user "$bin/initdb" -D "$folder/cluster" --username=tester --pwfile="$folder/password" \
		--auth=scram-sha-256 --encoding=UTF8 --no-locale --no-sync >/dev/null)
	port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	echo "$port" >"$folder/port"
	as_user tee -a "$folder/cluster/postgresql.conf" >/dev/null <<-CONF
		port = $port
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$folder'
		fsync = off
		synchronous_commit = off
		full_page_writes = off
		max_wal_size = 4GB
		max_connections = 20
	CONF
	run
	;;
stop) control -m fast stop ;;
kill) control -m immediate stop ;;
restart) run ;;
*)
	echo "usage: $0 start|stop|kill|restart FOLDER" >&2
	exit 2
	;;
esac
