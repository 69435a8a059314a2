#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/services/postgres_check.sh [NAME...]: catalogues in a real PostgreSQL: all checks, or those named.
# POSTGRES_URL=postgresql://USER@HOST:PORT with POSTGRES_PASSWORD names a server that is running, which may have
# TimescaleDB (without tls and what kills the server); otherwise one is started. ROWS=10000000 takes that many rows where
# the checks of large tables take a million, LEAST_RATE=... another number of rows/s than 200000 on a busy machine.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=${BUILD:-build}
heimdall=$(cd "$BUILD" && pwd)/heimdall
ROWS=${ROWS:-1000000}
python=/usr/bin/python3
server=$here/postgres.sh
export OMP_WAIT_POLICY=passive PYTHONDONTWRITEBYTECODE=1
unset "${!HEIMDALL_@}" "${!PG@}"

work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-postgres.XXXXXX")
chmod 755 "$work"
stopped() {
	[ -n "${POSTGRES_URL:-}" ] || "$server" kill "$work/pg" 2>/dev/null || true
	rm -rf "$work"
}
trap stopped EXIT
cd "$work"
export HOME=$work
if [ -n "${POSTGRES_URL:-}" ]; then
	server_url=$POSTGRES_URL password=$POSTGRES_PASSWORD
else
	"$server" start "$work/pg" || exit $?
	password=$(cat pg/password)
	server_url=postgresql://tester@127.0.0.1:$(cat pg/port)
fi
port=${server_url##*:}

fail() {
	echo "FAILED: $*" >&2
	exit 1
}
as_tester() { PGPASSWORD=$password "$@"; }
sql() { PGOPTIONS="-c client_min_messages=warning" as_tester psql -XqAt -v ON_ERROR_STOP=1 "$server_url/$1" -c "$2"; }
database() {
	sql postgres "DROP DATABASE IF EXISTS $1 WITH (FORCE)"
	sql postgres "CREATE DATABASE $1"
}
# a hypertable of a table with its key's time, where the server has TimescaleDB; its rows in many chunks
hypertable() {
	[ "$(sql "$1" "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'")" = 1 ] || return 1
	sql "$1" "CREATE EXTENSION IF NOT EXISTS timescaledb"
	sql "$1" "SELECT create_hypertable('$2', 'timestamp', chunk_time_interval => interval '$3', migrate_data => true)" >/dev/null
}
data() { "$python" "$here/postgres_data.py" "$@"; }
# the program's words go to $work/said
run() { as_tester "$heimdall" "$@" >said 2>&1 || {
	cat said
	fail "heimdall $*"
}; }
fails() {
	local want=$1 got=0
	shift
	as_tester "$heimdall" "$@" >said 2>&1 || got=$?
	[ "$got" = "$want" ] || {
		cat said
		fail "heimdall $*: exit $got, not $want"
	}
}
said() { grep -qF -- "$1" said || {
	cat said
	fail "nothing about '$1'"
}; }
unsaid() { if grep -qF -- "$1" said; then
	cat said
	fail "says '$1'"
fi; }

folders() {
	[ -d data ] || {
		"$heimdall" synth --out synth --sessions 80 --sample_rate 48000 --samples 3968 >said 2>&1
		data folders synth data
	}
}
train() {
	local name=$1
	shift
	run train --checkpoint_dir "$name" --cache_dir "cache_$name" --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 \
		--epochs 2 --warmup_epochs 0 --receivers all --backbone_size atto --pretrained none --accelerator cpu --no_export "$@"
}
seed_table="CREATE TABLE measurements (id SERIAL PRIMARY KEY, session_id UUID, websdr_id INTEGER,
	latitude FLOAT NOT NULL, longitude FLOAT NOT NULL, frequency_mhz FLOAT, snr_db FLOAT, timestamp TIMESTAMPTZ,
	created_at TIMESTAMPTZ DEFAULT now())"
# the seed page's table with a folder's rows, as a user would fill it
fill_seed() {
	database "$1"
	sql "$1" "$seed_table"
	"$python" -c 'import csv, sys
for r in csv.DictReader(open(sys.argv[1])):
    print(r["session"], r["receiver"], r["latitude"], r["longitude"], r["frequency_mhz"], r["snr_db"], r["timestamp"], sep="\t")' \
		"$2/manifest.csv" >rows.tsv
	sql "$1" "\\copy measurements (session_id, websdr_id, latitude, longitude, frequency_mhz, snr_db, timestamp) FROM rows.tsv"
}

# the seed page's schema gives the folder's split, features and checkpoint
check_seed() {
	folders
	fill_seed seed data/seed
	train folder_seed --data data/seed --assume_approved
	fails 3 train --checkpoint_dir none --cache_dir c0 --data "$server_url/seed" --sample_rate 48000 \
		--iq_template "$work/data/iq/sessions/{task_id}/websdr_{id}.npy"
	said "--assume_approved"
	train pg_seed --data "$server_url/seed" --assume_approved \
		--iq_template "$work/data/iq/sessions/{task_id}/websdr_{id}.npy"
	said "schema seed"
	said "session=session_id"
	said "iq=--iq_template"
	data same folder_seed/last.safetensors pg_seed/last.safetensors
	data same folder_seed/best.safetensors pg_seed/best.safetensors
	cmp <(cut -d, -f1-4 folder_seed/metrics.csv) <(cut -d, -f1-4 pg_seed/metrics.csv)
	# resumed and evaluated by what the checkpoint kept
	train pg_seed --resume_training --epochs 3
	train folder_seed --resume_training --epochs 3
	data same folder_seed/last.safetensors pg_seed/last.safetensors
	run eval --checkpoint pg_seed/best.safetensors --cache_dir cache_pg_seed
	said "$server_url/seed, split test"
}

# so does the deployed system's, in its three forms
check_deployed() {
	folders
	database deployed
	run catalog import data/deployed --schema deployed --out "$server_url/deployed"
	if hypertable deployed heimdall.measurements "10 minutes"; then echo "  on a TimescaleDB hypertable"; fi
	train folder_deployed --data data/deployed
	train pg_deployed --data "$server_url/deployed"
	said "schema deployed"
	# both forms in one database: each can be asked for
	run catalog import data/seed --assume_approved --out "$server_url/deployed"
	run catalog show "$server_url/deployed" --sample_rate 48000
	said "schema seed"
	run catalog show "$server_url/deployed" --sample_rate 48000 --schema deployed
	said 'schema deployed, "heimdall"."measurements"'
	sql deployed "DROP TABLE public.measurements"
	said "approved=recording_sessions.approval_status"
	said "label_sigma_m=known_sources.error_margin_meters"
	data same folder_deployed/last.safetensors pg_deployed/last.safetensors
	# without the session's id: by the time a row was stored
	sql deployed "WITH n AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM heimdall.recording_sessions)
		UPDATE heimdall.recording_sessions s SET session_start = '2026-01-01'::timestamptz + n * interval '1 h',
		session_end = '2026-01-01'::timestamptz + n * interval '1 h' + interval '50 min' FROM n WHERE n.id = s.id"
	sql deployed "UPDATE heimdall.measurements m SET created_at = s.session_start + interval '9 min'
		FROM heimdall.recording_sessions s WHERE s.id = m.recording_session_id"
	sql deployed "ALTER TABLE heimdall.measurements ADD kept UUID"
	sql deployed "UPDATE heimdall.measurements SET kept = recording_session_id"
	sql deployed "ALTER TABLE heimdall.measurements DROP recording_session_id"
	train pg_window --data "$server_url/deployed"
	data same folder_deployed/last.safetensors pg_window/last.safetensors
	# the older one: a task, and the place of its files
	sql deployed "ALTER TABLE heimdall.recording_sessions ADD celery_task_id VARCHAR(255)"
	sql deployed "UPDATE heimdall.recording_sessions SET celery_task_id = id::text"
	sql deployed "ALTER TABLE heimdall.measurements RENAME kept TO task_id"
	sql deployed "ALTER TABLE heimdall.measurements RENAME iq_data_location TO s3_path"
	sql deployed "ALTER TABLE heimdall.measurements DROP created_at"
	train pg_task --data "$server_url/deployed"
	said "iq=s3_path"
	data same folder_deployed/last.safetensors pg_task/last.safetensors
}

# rows in chunks or partitions are read as from one table
check_hypertable() {
	local columns="id INT, session_id TEXT, websdr_id INT, latitude FLOAT, longitude FLOAT, timestamp TIMESTAMPTZ,
		PRIMARY KEY (timestamp, id)" name
	database plain
	sql plain "CREATE TABLE measurements ($columns)"
	sql plain "INSERT INTO measurements SELECT i, 's' || i / 7, i % 7, 44 + sin(i), 8 + cos(i),
		'2026-01-01'::timestamptz + i / 7 * interval '1 minute' FROM generate_series(1, 150000) i"
	run catalog export "$server_url/plain" --format sqlite --out plain
	data digest plain/catalog.sqlite >plain.digest
	for name in partitions chunks; do
		database $name
		if [ $name = partitions ]; then
			sql $name "CREATE TABLE measurements ($columns) PARTITION BY RANGE (timestamp);
				CREATE TABLE a PARTITION OF measurements FOR VALUES FROM (MINVALUE) TO ('2026-01-10');
				CREATE TABLE b PARTITION OF measurements FOR VALUES FROM ('2026-01-10') TO (MAXVALUE)"
		else
			sql $name "CREATE TABLE measurements ($columns)"
			hypertable $name measurements "1 hour" || {
				echo "  no TimescaleDB here: hypertables are left out"
				continue
			}
		fi
		as_tester psql -Xq "$server_url/plain" -c "COPY measurements TO STDOUT" |
			as_tester psql -Xq "$server_url/$name" -c "COPY measurements FROM STDIN"
		run catalog export "$server_url/$name" --format sqlite --out $name
		data digest $name/catalog.sqlite | cmp - plain.digest || fail "another result from $name"
	done
	rm -rf plain partitions chunks
}

# keys, bucket/key and URLs settle to one place
check_locations() {
	database places
	sql places "CREATE TABLE measurements (id TEXT PRIMARY KEY, latitude FLOAT, longitude FLOAT, s3_path TEXT)"
	sql places "INSERT INTO measurements VALUES ('1', 1, 1, 'a/b.npy'), ('2', 1, 1, 'raw/a/b.npy'),
		('3', 1, 1, 's3://raw/a/b.npy'), ('4', 1, 1, '/a/b.npy'), ('5', 1, 1, NULL)"
	run catalog export "$server_url/places" --iq_bucket raw --format sqlite --out places
	"$python" -c 'import sqlite3
got = [r[0] for r in sqlite3.connect("places/catalog.sqlite").execute("SELECT iq FROM recordings ORDER BY id")]
assert got == ["s3://raw/a/b.npy"] * 3 + ["/a/b.npy", None], got'
}

# any other tables by a SELECT in the config
check_query() {
	folders
	fill_seed other data/seed
	sql other 'ALTER TABLE measurements RENAME TO "odd ""table; --"'
	# shellcheck disable=SC2016
	sql other 'ALTER TABLE "odd ""table; --" RENAME latitude TO "la""titude $1"'
	cat >query.yaml <<-'YAML'
		data:
		  query: |
		    SELECT id, session_id AS session, websdr_id AS receiver, "la""titude $1" AS latitude, longitude,
		      'DIR/' || session_id || '/websdr_' || websdr_id || '.npy' AS iq, true AS approved,
		      frequency_mhz, snr_db, timestamp
		    FROM "odd ""table; --"; -- it's "all"
	YAML
	sed -i "s|DIR|$work/data/iq/sessions|; s|; -- it's| -- it's|" query.yaml
	train folder_query --data data/seed --assume_approved
	train pg_query --data "$server_url/other" --config query.yaml
	said "schema query"
	data same folder_query/last.safetensors pg_query/last.safetensors
	fails 3 catalog show "$server_url/other" --query "SELECT 1 AS id, 2 AS latitude"
	said "longitude"
	fails 3 catalog show "$server_url/other" --query "SELECT 1 AS latitude"
	said "no column 'id'"
	fails 3 catalog show "$server_url/other" --query "SELEC 1"
	said "syntax error"
	fails 3 catalog show "$server_url/other" --query "DELETE FROM measurements RETURNING id"
	fails 3 catalog show "$server_url/other" \
		--query "SELECT i / 2 AS id, 1.5 AS latitude, 1.5 AS longitude, 'x' AS iq FROM generate_series(1, 9) i"
	said "more than once"
	run catalog export "$server_url/other" --format sqlite --out keyless \
		--query "SELECT nullif(i, 4) AS id, 1.5 AS latitude, 1.5 AS longitude, 'x' AS iq FROM generate_series(1, 9) i"
	said "1 rows have no 'id'"
}

# positions that are none are counted by reason, and none is 0
check_values() {
	rm -rf .heimdall-cache
	database bad
	sql bad "CREATE TABLE measurements (id INT PRIMARY KEY, latitude FLOAT, longitude FLOAT, iq TEXT, approved BOOL,
		sample_rate FLOAT, snr_db FLOAT, timestamp TIMESTAMPTZ)"
	sql bad "INSERT INTO measurements SELECT i, v.la, v.lo, '/x', true, 'NaN', 'Infinity', 'infinity' FROM (VALUES
		(1, 45, 7), (2, NULL, 7), (3, 45, NULL), (4, 'NaN', 7), (5, 45, 'NaN'), (6, 'NaN', 'NaN'), (7, 'Infinity', 7),
		(8, 45, '-Infinity'), (9, 90.5, 7), (10, 45, -180.25), (11, 0, 0), (12, 91, 181), (13, 90, -180)) v (i, la, lo)"
	run catalog show "$server_url/bad" --json show.json
	local count
	for count in "2 positions NULL" "3 positions NaN" "2 positions infinite" "3 positions out of range" "1 positions at 0, 0"; do
		said ": $count"
	done
	data skips show.json "position missing or out of range" 11
	"$python" -c 'import glob, sqlite3
rows = sqlite3.connect(glob.glob(".heimdall-cache/catalog-*.sqlite")[0]).execute("SELECT latitude, longitude, sample_rate FROM recordings").fetchall()
zero = [r for r in rows if 0 in r]
assert len(rows) == 13 and zero == [(0.0, 0.0, "NaN")], zero'
	rm -rf .heimdall-cache
}

# names and values that want quotes come back as they were; a second export is refused
check_quotes() {
	mkdir quotes
	# shellcheck disable=SC2016
	"$python" -c 'import csv
odd = ["a\"b", "c\x27d", "e\\f", "g\th", "i\nj", "k;--", "$1", "\\N", "\\.", " l ", "\u00e9\U0001f600", "%s{id}", "m,n"]
with open("quotes/manifest.csv", "w", newline="") as f:
    w = csv.writer(f)
    w.writerow(["id", "session", "receiver", "iq", "latitude", "longitude", "approved", "snr_db", "an \"odd; name", "Select"])
    for i, o in enumerate(odd):
        w.writerow([o + "id", o, o + "r", "/iq/" + o, 45 + i / 3, 7 - i / 7, "true", 1 / (i + 3), o * 2, ""])'
	database quotes
	run catalog import quotes --out "$server_url/quotes"
	run catalog export "$server_url/quotes" --out quotes_back
	run catalog export quotes --out quotes_folder
	cmp quotes_folder/manifest.csv quotes_back/manifest.csv
	fails 2 catalog import quotes --out "$server_url/quotes"
	said "already"
	fails 2 catalog import quotes --out "$server_url/quotes" --format sqlite
	folders
	database again
	run catalog export "$server_url/quotes" --out "$server_url/again"
	run catalog export "$server_url/again" --out again_folder
	cmp again_folder/manifest.csv quotes_back/manifest.csv
	# half of it fails: nothing stays
	fails 3 catalog import quotes --schema deployed --out "$server_url/quotes"
	[ "$(sql quotes "SELECT count(*) FROM pg_namespace WHERE nspname = 'heimdall'")" = 0 ] || fail "a half export stays"
	# a search_path that needs quotes
	database path
	sql path 'CREATE SCHEMA "we ""ird"; ALTER DATABASE path SET search_path = "we ""ird"'
	run catalog import quotes --out "$server_url/path"
	run catalog show "$server_url/path"
	said '"we ""ird"."measurements"'
	rm -rf .heimdall-cache
}

# where the password comes from, and that it goes nowhere
check_credentials() {
	folders
	fill_seed secret data/seed
	mkdir kept && cd kept
	local template="$work/data/iq/sessions/{task_id}/websdr_{id}.npy"
	local url="postgresql://tester:$password@127.0.0.1:$port/secret"
	train() {
		"$heimdall" train --checkpoint_dir "$1" --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 --epochs 1 \
			--warmup_epochs 0 --receivers all --backbone_size atto --pretrained none --accelerator cpu --assume_approved \
			--iq_template "$template" --json "$1.json" "${@:2}" >>out 2>&1 || {
			cat out
			fail "train $*"
		}
	}
	train by_url --data "$url"
	grep -q "list of processes" out || fail "a password in a URL is not warned about"
	train by_parameter --data "postgresql://127.0.0.1/secret?user=tester&port=$port&password=$password"
	train by_url --data "$url" --resume_training
	HEIMDALL_DATA_DIR=$url train by_variable
	printf 'data:\n  data_dir: "%s"\n' "$url" >../url.yaml
	train by_config --config ../url.yaml
	{
		"$heimdall" eval --checkpoint by_url/best.safetensors --data "$url" --json eval.json --predictions rows.csv
		"$heimdall" catalog show "$url" --assume_approved --json show.json
		"$heimdall" catalog export "$url" --assume_approved --format sqlite --out sqlite
	} >>out 2>&1
	"$heimdall" catalog import sqlite --out "${url%/secret}/nowhere" >>out 2>&1 && fail "wrote into no database"
	"$heimdall" train --data "postgresql://tester:wrong$password@127.0.0.1:$port/secret" >>out 2>&1 && fail "took a wrong password"
	"$heimdall" train --data "postgresql://tester:$password/x@127.0.0.1:$port/secret" >>out 2>&1 && fail "took a URL that is none"
	"$heimdall" train --data "postgresql://tester:${password}%zz@127.0.0.1:$port/secret" >>out 2>&1 && fail "took a URL that is none"
	# the checkpoint names the database without it: the usual places give it
	PGPASSWORD=$password "$heimdall" train --checkpoint_dir by_url --resume_training --epochs 2 >>out 2>&1 || fail "resume by PGPASSWORD"
	export PGPASSFILE=$work/.pgpass PGSERVICEFILE=$work/.pg_service.conf
	printf '127.0.0.1:%s:secret:tester:%s\n' "$port" "$password" >"$work/.pgpass"
	chmod 600 "$work/.pgpass"
	"$heimdall" train --checkpoint_dir by_url --resume_training --epochs 3 >>out 2>&1 || fail "resume by .pgpass"
	printf '[field]\nhost=127.0.0.1\nport=%s\nuser=tester\ndbname=secret\n' "$port" >"$work/.pg_service.conf"
	"$heimdall" catalog show "postgresql:///?service=field" --assume_approved >>out 2>&1 || fail "a service file"
	grep -q " group or world access" out && fail "warns about a .pgpass of mode 0600"
	chmod 644 "$work/.pgpass"
	"$heimdall" catalog show "postgresql:///?service=field" --assume_approved >loose 2>&1 && fail "took a .pgpass of mode 0644"
	grep -q "group or world access" loose || fail "a .pgpass of mode 0644 is not warned about"
	cd ..
	local files
	files=$(find kept -type f | wc -l)
	if grep -rlaF -- "$password" kept; then fail "the password is in these files"; fi
	printf '  %d files without the password\n' "$files"
	[ "$files" -gt 20 ] || fail "only $files files"
	rm -f .pgpass .pg_service.conf
}

# TLS in libpq's modes: a certificate is checked where the URL says so
check_tls() {
	[ -z "${POSTGRES_URL:-}" ] || return 0
	database tls
	sql tls "$seed_table"
	sql tls "INSERT INTO measurements (latitude, longitude) VALUES (1, 2)"
	fails 1 catalog export "$server_url/tls?sslmode=require" --out tls0
	said "SSL"
	local name
	for name in right wrong; do
		openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name -addext subjectAltName=IP:127.0.0.1 \
			-keyout $name.key -out $name.crt 2>/dev/null
	done
	install -o "$(stat -c %u pg/cluster)" -m 600 right.key pg/cluster/server.key
	install -o "$(stat -c %u pg/cluster)" -m 644 right.crt pg/cluster/server.crt
	sql postgres "ALTER SYSTEM SET ssl = on"
	sql postgres "SELECT pg_reload_conf()" >/dev/null
	for _ in $(seq 50); do
		as_tester psql -Xq "$server_url/tls?sslmode=require" -c "SELECT 1" >/dev/null 2>&1 && break
		sleep 0.1
	done
	run catalog export "$server_url/tls?sslmode=verify-full&sslrootcert=$work/right.crt" --out tls1
	fails 1 catalog export "$server_url/tls?sslmode=verify-full&sslrootcert=$work/wrong.crt" --out tls2
	said "certificate verify failed"
	sql postgres "ALTER SYSTEM RESET ssl"
	sql postgres "SELECT pg_reload_conf()" >/dev/null
}

# what cannot be, said plainly
check_errors() {
	database empty
	fails 3 catalog show "$server_url/empty"
	said "has a table 'measurements'"
	sql empty "$seed_table"
	fails 3 catalog show "$server_url/empty"
	said "no rows"
	fails 1 catalog show "postgresql://tester@127.0.0.1:1/empty"
	said "cannot connect"
	fails 1 catalog show "$server_url/nowhere"
	said "nowhere"
	fails 2 catalog show "$server_url/empty" --schema query
	said "--query"
	sql empty "DROP TABLE measurements; CREATE TABLE measurements (id INT, x INT)"
	fails 3 catalog show "$server_url/empty"
	said "known_sources"
}

# ---- large tables ----

large() {
	[ "$(sql postgres "SELECT count(*) FROM pg_database WHERE datname = 'large'")" = 1 ] && return
	database large
	sql large "$seed_table"
	sql large "INSERT INTO measurements (session_id, websdr_id, latitude, longitude, frequency_mhz, snr_db, timestamp)
		SELECT md5((i / 7)::text)::uuid, i % 7, 44 + sin(i / 7), 8 + cos(i / 7), 145.5, (i % 400) / 10.0,
		'2026-01-01'::timestamptz + (i / 7) * interval '1 minute' FROM generate_series(1, $ROWS) i"
	sql large "VACUUM ANALYZE"
}
read_large() { as_tester "$heimdall" catalog export "$server_url/large" --format sqlite --out "$@"; }
whole() {
	large
	[ -f whole.digest ] || {
		read_large whole >said 2>&1 || fail "reading $ROWS rows: $(cat said)"
		data digest whole/catalog.sqlite >whole.digest
		rm -rf whole
		grep -q "^$ROWS " whole.digest || fail "not all rows: $(cat whole.digest)"
	}
}
# waits until a page is in the index in the making
some_pages() {
	for _ in $(seq 600); do
		[ "$(stat -c %s "$1/catalog.sqlite.part" 2>/dev/null || echo 0)" -gt 2000000 ] && return
		sleep 0.05
	done
	fail "no page after 30 s"
}

# speed and memory
check_speed() {
	large
	as_tester "$python" -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print("peak_kb", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' \
		"$heimdall" catalog export "$server_url/large" --format sqlite --out speed >said 2>&1 || fail "$(cat said)"
	local kb rate
	kb=$(sed -n 's/^peak_kb //p' said)
	rate=$(sed -n 's/.* s, \([0-9]*\) rows\/s$/\1/p' said)
	printf '  %s rows: %s rows/s, peak %s kB\n' "$ROWS" "$rate" "$kb"
	data digest speed/catalog.sqlite >speed.digest
	rm -rf speed
	grep -q "^$ROWS " speed.digest || fail "not all rows: $(cat speed.digest)"
	[ "$kb" -lt 300000 ] || fail "peak memory $kb kB"
	[ "$rate" -ge "${LEAST_RATE:-200000}" ] || fail "$rate rows/s"
}

# the server's process killed in mid-read: the same index
check_killed_server() {
	whole
	read_large again_killed >said 2>&1 &
	local reader=$!
	some_pages again_killed
	"$server" kill "$work/pg"
	sleep 2
	"$server" restart "$work/pg"
	wait $reader || fail "$(cat said)"
	said "connecting again"
	data digest again_killed/catalog.sqlite | cmp - whole.digest || fail "another result"
	rm -rf again_killed
}

# its connection ended by an administrator: the same index
check_terminated() {
	whole
	read_large again_ended >said 2>&1 &
	local reader=$! ended=0
	some_pages again_ended
	for _ in 1 2 3; do
		ended=$((ended + $(sql postgres "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'heimdall'")))
		sleep 0.7
	done
	wait $reader || fail "$(cat said)"
	[ "$ended" -gt 0 ] || fail "no connection was ended"
	said "connecting again"
	data digest again_ended/catalog.sqlite | cmp - whole.digest || fail "another result"
	rm -rf again_ended
}

# the reader killed: the next one goes on
check_killed_reader() {
	whole
	read_large again_reader >said 2>&1 &
	local reader=$!
	some_pages again_reader
	kill -9 "$(pgrep -P $reader)"
	wait $reader 2>/dev/null && fail "it was done already"
	[ -f again_reader/catalog.sqlite ] && fail "a killed reading left an index"
	read_large again_reader >said 2>&1 || fail "$(cat said)"
	said "going on behind"
	data digest again_reader/catalog.sqlite | cmp - whole.digest || fail "another result"
	rm -rf again_reader
}

# rows that change behind the reader are reported, and the rest is as it was
check_changes() {
	whole
	read_large again_changed >said 2>&1 &
	local reader=$!
	some_pages again_changed
	sql large "DELETE FROM measurements WHERE id IN (3, 4); UPDATE measurements SET latitude = latitude + 1 WHERE id = 7"
	sql large "INSERT INTO measurements (id, latitude, longitude) VALUES (-5, 1, 2), ($ROWS + 10, 1, 1)"
	wait $reader || fail "$(cat said)"
	said "changed while it was read"
	said "(0 more, 1 fewer)"
	data digest again_changed/catalog.sqlite | cmp - whole.digest || fail "another result"
	read_large after >said 2>&1
	unsaid "changed while"
	rm -rf again_changed after whole.digest
	sql postgres "DROP DATABASE large"
}

# two runs at once: one reads, the other takes its index
check_together() {
	folders
	fill_seed together data/seed
	local pids=() i
	for i in 1 2 3; do
		as_tester "$heimdall" catalog show "$server_url/together" --assume_approved --cache_dir shared >"show$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || fail "$(cat show?)"; done
	grep -v -e rows/s -e waiting show1 >a && grep -v -e rows/s -e waiting show2 >b && cmp a b
}

# a connection that goes silent counts as lost within a minute
check_silence() {
	whole
	read_large again_silent >said 2>&1 &
	local reader=$! backend
	some_pages again_silent
	backend=$(sql postgres "SELECT pid FROM pg_stat_activity WHERE application_name = 'heimdall'")
	kill -STOP "$backend"
	local since=$SECONDS
	until grep -q "connecting again" said; do
		[ $((SECONDS - since)) -lt 90 ] || fail "silence of 90 s is not noticed"
		sleep 1
	done
	printf '  noticed after %d s\n' $((SECONDS - since))
	[ $((SECONDS - since)) -le 60 ] || fail "noticed after more than 60 s"
	wait $reader || fail "$(cat said)"
	kill -CONT "$backend"
	data digest again_silent/catalog.sqlite | cmp - whole.digest || fail "another result"
	rm -rf again_silent
}

[ $# -gt 0 ] || set -- seed deployed hypertable locations query values quotes credentials tls errors together speed killed_server \
	terminated killed_reader silence changes
for name in "$@"; do
	started=$SECONDS
	# as a job: in a condition, a command that fails would not end it
	"check_$name" &
	wait $! || fail "$name"
	printf 'ok %-16s %3d s\n' "$name" $((SECONDS - started))
done
