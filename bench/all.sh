#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/all.sh [FOLDER]: operations, the prediction of a step, whole steps, PyTorch beside them, in less than 8 minutes;
# JSON and texts go to FOLDER ($BUILD/bench/results), sections into bench/RESULTS.md.
#
# On a machine with a GPU that is what is measured; else the CPU, and rows that want a GPU stay as they are ("not run on a
# GPU", or what a GPU gave before). A CPU's figures are written only where the machine has nothing else to do: a load
# above LOAD_MOST (1.5) leaves the section as it is, and says so.
set -euo pipefail

BUILD=${BUILD:-build}
out=${1:-$BUILD/bench/results}
load_most=${LOAD_MOST:-1.5}
for name in ops roofline steps; do
	if [ ! -x "$BUILD/bench/$name" ]; then
		echo "$BUILD/bench/$name is missing: run make BUILD=$BUILD bench-build first" >&2
		exit 1
	fi
done
mkdir -p "$out"
rm -f "$out"/*.json
started=$SECONDS
load=$(cut -d ' ' -f 1 /proc/loadavg)
export PYTHONDONTWRITEBYTECODE=1

# A device that answers; the emulation answers too and is none.
device=cpu
if "$BUILD/bench/ops" --accelerator gpu --op add --limit_s 0 --json "$out/probe.json" >"$out/probe.txt" 2>&1; then
	if ! grep -q '"device": ".*emulation' "$out/probe.json"; then
		device=gpu
	fi
fi
rm -f "$out/probe.json"

# the interpreter that has PyTorch, if any
python=python3
for p in "${PYTHON_TORCH:-}" python3 /usr/bin/python3; do
	if [ -n "$p" ] && "$p" -c 'import torch' 2>/dev/null; then
		python=$p
		break
	fi
done

failed=0
# part SECONDS NAME COMMAND...: its words to NAME.txt and the terminal; 77 is "not there"
part() {
	local limit=$1 name=$2 code=0
	shift 2
	echo "== $name, $((SECONDS - started)) s" >&2
	timeout "$limit" "$@" 2>&1 | tee "$out/$name.txt" || code=$?
	if [ "$code" = 77 ]; then
		echo "$name: left out" >&2
	elif [ "$code" = 124 ]; then
		echo "$name: cut off after $limit s" >&2
	elif [ "$code" != 0 ]; then
		echo "$name: ended with $code" >&2
		failed=1
	fi
}

if [ "$device" = gpu ]; then
	part 125 ops "$BUILD/bench/ops" --accelerator gpu --limit_s 0.3 --budget_s 100 --json "$out/ops.json"
	part 120 large "$BUILD/bench/ops" --accelerator gpu --shapes large --models large --dtypes bf16 --limit_s 0.2 \
		--budget_s 90 --json "$out/large.json"
	part 95 steps "$BUILD/bench/steps" --accelerator gpu --precisions bf16-mixed,32 --limit_s 1 --budget_s 70 \
		--json "$out/steps.json"
	part 105 torch "$python" bench/compare_torch.py --models large --batches 32,256 --limit_s 2 --json "$out/torch.json" \
		--steps "$BUILD/bench/steps"
else
	part 195 ops "$BUILD/bench/ops" --accelerator cpu --budget_s 150 --json "$out/ops.json"
	part 85 steps "$BUILD/bench/steps" --accelerator cpu --json "$out/steps.json"
	part 165 torch "$python" bench/compare_torch.py --device cpu --json "$out/torch.json" --steps "$BUILD/bench/steps"
fi
measured=()
if [ -f "$out/large.json" ]; then
	measured=(--measured "$out/large.json")
fi
part 15 roofline "$BUILD/bench/roofline" "${measured[@]}" --json "$out/roofline.json"

sections=(roofline gpu-missing)
if [ "$device" = gpu ] || awk -v load="$load" -v most="$load_most" 'BEGIN { exit !(load <= most) }'; then
	sections+=("$device")
else
	echo "load $load, more than $load_most: the CPU's section of bench/RESULTS.md stays as it is" >&2
fi
python3 bench/results.py bench/RESULTS.md "$out" "${sections[@]}"
echo "$((SECONDS - started)) s in all" >&2
exit $failed
