#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The long tests: a fault planted in every operation, checkpoints opened in timm, the quick start with its figures and its
# model in Python.
set -euo pipefail

BUILD=${BUILD:-build}
export BUILD

tests/planted.sh
tests/large.sh

tests/open_in_timm.sh

bench/quickstart.sh >"$BUILD/quickstart.log" 2>&1 || { cat "$BUILD/quickstart.log"; exit 1; }
tail -n 16 "$BUILD/quickstart.log"

# what the quick start promises: half of "answer the centre", one and a half times the oracle
value() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" "$BUILD/quickstart/result.json"; }
awk -v model="$(value median_error_m)" -v centre="$(value centre_median_error_m)" -v oracle="$(value oracle_median_error_m)" '
BEGIN {
	good = model > 0 && model <= centre / 2 && model <= 1.5 * oracle
	print (good ? "1 passed, 0 failed" : "0 passed, 1 failed: the model misses its bounds")
	exit !good
}'

tests/export.sh
