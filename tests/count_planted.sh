# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For scripts that plant faults: count_planted reads lines NAME|FILE|EXPRESSION and calls plant NAME FILE EXPRESSION for
# each, whose status is 0 where the fault shows, 1 where it does not, 2 where nothing could be tried. It prints a verdict
# a line and leaves the sums in passed and failed.
passed=0 failed=0
count_planted() {
	local name file expression verdict
	while IFS='|' read -r name file expression; do
		plant "$name" "$file" "$expression" </dev/null
		case $? in
		0) verdict=caught passed=$((passed + 1)) ;;
		1) verdict=MISSED failed=$((failed + 1)) ;;
		*) verdict=BROKEN failed=$((failed + 1)) ;;
		esac
		printf '%-7s %-21s %s\n' "$verdict" "$name" "$expression"
	done
}
