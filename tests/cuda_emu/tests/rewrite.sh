#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Forms that the rewriter must refuse, each with file, line and what is wrong. Usage: rewrite.sh REWRITER
set -u
rewriter=$1
folder=$(mktemp -d "${TMPDIR:-/tmp}/rewrite.XXXXXX")
trap 'rm -rf "$folder"' EXIT
bad=0
cases=0

# refused LINE TEXT SOURCE: the source is refused at this line with this text
refused() {
	cases=$((cases + 1))
	printf '%s\n' "$3" >"$folder/k.cu"
	local said
	if said=$("$rewriter" "$folder/k.cu" 2>&1 >/dev/null); then
		echo "not ok: accepted: $3"
		bad=$((bad + 1))
	elif [[ $said != "$folder/k.cu:$1: error: "*"$2"* ]]; then
		echo "not ok: $3"
		echo "  got:    $said"
		echo "  wanted: k.cu:$1: error: ...$2..."
		bad=$((bad + 1))
	fi
}

# keeps SOURCE WANTED: the source is accepted, has as many lines as before, and contains WANTED
keeps() {
	cases=$((cases + 1))
	printf '%s\n' "$1" >"$folder/k.cu"
	local out
	if ! out=$("$rewriter" "$folder/k.cu"); then
		echo "not ok: refused: $1"
		bad=$((bad + 1))
	elif [ "$(printf '%s\n' "$out" | wc -l)" -ne $(($(wc -l <"$folder/k.cu") + 1)) ]; then
		echo "not ok: lines are lost: $1"
		bad=$((bad + 1))
	elif [[ $out != *"$2"* ]]; then
		echo "not ok: $1"
		echo "  got:    $out"
		echo "  wanted: $2"
		bad=$((bad + 1))
	fi
}

refused 2 "one variable per __shared__" $'void f() {\n__shared__ float a[4], b[4];\n}'
refused 1 "no initialiser" '__shared__ int a = 3;'
refused 1 "not known" '__shared__ float (*a)[4];'
refused 1 "not known" '__shared__ float f(int);'
refused 1 "not known" '__shared__ a;'
refused 1 "nothing before" 'static __shared__ float a[4];'
refused 1 "nothing else before" '__shared__ static float a[4];'
refused 1 "without a size" 'extern __shared__ float a[4];'
refused 1 "without a size" 'extern __shared__ float a;'
refused 1 "needs 'extern'" '__shared__ float a[];'
refused 2 "ends with ';'" $'\n__shared__ float a[4]'
refused 1 "'<<<' without '>>>'" 'k<<<1, 2>>(x);'
refused 3 "expected '('" $'\n\nk<<<1, 2>>>;'
refused 1 "inside a launch" 'k<<<1, f<<<2>>>>>>(x);'
refused 1 "at least the grid" 'k<<<>>>(x);'
refused 1 "does not follow" 'x = <<<1, 2>>>(x);'
refused 1 "raw string" 'const char *s = R"(<<<)";'
refused 1 "without an end" '/* <<<'
refused 1 "without an end" 'char c = "abc'

keeps 'k<<<g, b>>>(x);' '->* ::hd_emu::configure(g, b).named(HD_EMU_TEXT(k))(x);'
keeps 'ns::k<T, 2> <<<dim3(1, n >> 2), f(b[3]), 0, s>>> (x);' 'configure(dim3(1, n >> 2), f(b[3]), 0, s).named(HD_EMU_TEXT(ns::k<T, 2>))(x);'
keeps $'k\n<<<g,\n b>>>\n\n(x);' '.named(HD_EMU_TEXT(k))'
keeps $'#define L(k) k<<<1, \\\n 2>>> \\\n (x)\nL(f);' $'2\\\n).named(HD_EMU_TEXT(k))(x)'
keeps $'__shared__ float\na[2]\n[3];' 'float (&a)[2] [3]'
keeps '__shared__ std::pair<int, T> p;' 'std::pair<int, T> &p'
keeps 'extern __shared__ __align__(16) char raw[];' 'char *raw = (char *)::hd_emu::shared_dynamic()'
keeps $'// k<<<1, 2>>>(x)\n/* __shared__ int a = 1; */' '/* __shared__ int a = 1; */'
keeps 'f("<<<", 1 << 2, a >> 3, 1'"'"'000, '"'"'"'"'"');' 'f("<<<", 1 << 2, a >> 3'
keeps 'int my__shared__x, extern_y;' 'int my__shared__x, extern_y;'

echo "cuda_emu rewriter: $cases cases, $bad not as expected"
exit $((bad != 0))
