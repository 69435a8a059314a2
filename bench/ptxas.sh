#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What nvcc makes of every CUDA kernel: registers, spills, stack and static shared memory per compute capability, as a
# table in Markdown. Ends with 1 where a kernel spills.
#
# ptxas.sh [CAPABILITY...]    default: 80 90
set -euo pipefail

nvcc=${CUDA_HOME:-/usr/local/cuda}/bin/nvcc
archs=("${@:-80}")
[ $# -gt 0 ] || archs=(80 90)
work=$(mktemp -d "${TMPDIR:-/tmp}/heimdall-ptxas.XXXXXX")
trap 'rm -rf "$work"' EXIT

for arch in "${archs[@]}"; do
	for file in kernels/cuda/*.cu; do
		if ! "$nvcc" -Iinclude -I. -std=c++17 -O3 -Xptxas -v -gencode "arch=compute_$arch,code=sm_$arch" -cubin \
			-o "$work/cubin" "$file" >"$work/said" 2>&1; then
			cat "$work/said" >&2
			echo "$file: nvcc does not compile it for sm_$arch" >&2
			exit 1
		fi
		sed "s|^|$arch $(basename "$file") |" "$work/said"
	done
done >"$work/raw"
c++filt <"$work/raw" >"$work/log"

# "Compiling entry function 'NAME' for 'sm_80'", then its stack and spills, then "Used N registers, ... bytes smem"
awk '
/Compiling entry function/ {
	name = $0
	sub(/.*entry function .*\x27_Z[A-Za-z]*[0-9]*/, "", name)
	sub(/.*entry function \x27/, "", name)
	sub(/\x27 for .*/, "", name)
	sub(/\(anonymous namespace\)::/, "", name)
	sub(/\(.*/, "", name)
}
/bytes stack frame/ { for (i = 1; i <= NF; i++) if ($i == "stack") stack = $(i - 2); else if ($i == "spill" && $(i + 1) == "stores,") spill = $(i - 2) }
/Used [0-9]+ registers/ {
	for (i = 1; i <= NF; i++) { if ($i == "registers,") registers = $(i - 1); if ($i ~ /^smem,?$/) smem = $(i - 2) }
	key = $1 " " $2
	kernels[key]++
	if (!(key in low) || registers < low[key]) low[key] = registers
	if (registers > high[key]) high[key] = registers
	if (stack > frame[key]) frame[key] = stack
	if (smem > shared[key]) shared[key] = smem
	spills[key] += spill
	total += spill
	smem = 0
}
END {
	print "| file | sm | kernels | registers | spilled bytes | stack | static shared |"
	print "|---|---|---|---|---|---|---|"
	for (key in kernels) {
		split(key, part, " ")
		printf "| %s | %s | %d | %d to %d | %d | %d | %d |\n", part[2], part[1], kernels[key], low[key], high[key], spills[key], frame[key], shared[key] | "sort"
	}
	close("sort")
	exit total > 0
}' "$work/log"
