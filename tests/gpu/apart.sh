#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A few steps of training with an emulated library built with the address sanitizer, every buffer of the model in an
# allocation of its own: an overrun from one tensor into the next is seen, which one arena would hide.
#
# apart.sh LIBRARY
set -euo pipefail

BUILD=${BUILD:-build}
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-apart.XXXXXX")
trap 'rm -rf "$work"' EXIT
export HEIMDALL_RUNS_DIR=$work/runs

"$BUILD/heimdall" synth --out "$work/data" --sessions 12 --sample_rate 48000 --samples 3968 --no-progress >"$work/log" 2>&1
# p11-kit, far below libcurl and libpq, frees a locale as it is unloaded, and waits for ever with libasan preloaded: so
# does `curl --version`
echo 'void freelocale(void *locale); void freelocale(void *locale) { (void)locale; }' |
	gcc -shared -fPIC -x c - -o "$work/freelocale.so"
# the program itself is built without the sanitizer, whose runtime must then come first
if ! LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so) $work/freelocale.so" \
	ASAN_OPTIONS=detect_leaks=0 \
	HEIMDALL_ARENA=off HEIMDALL_CUDA_LIBRARY=$(realpath "$1") "$BUILD/heimdall" train --accelerator gpu \
	--data_dir "$work/data" --checkpoint_dir "$work/checkpoints" --sample_rate 48000 --n_fft 512 --hop_length 128 \
	--n_mels 32 --backbone_size atto --pretrained none --receivers 1,2,3 --batch_size 3 --epochs 1 --head_norm batch \
	--drop_path 0.1 --test_split 0 --accumulate_grad_batches 2 --label_sigma_m 30 --no_export --no-progress >"$work/log" 2>&1; then
	tail -n 40 "$work/log"
	echo "0 passed, 1 failed"
	exit 1
fi
grep -q "^cuda back end" "$work/log" || { cat "$work/log"; echo "0 passed, 1 failed: the GPU was not used"; exit 1; }
grep '^epoch' "$work/log"
echo "1 passed, 0 failed"
