#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/services/mlflow_control.sh COMMAND...: one command to the control line of the MLflow server's proxy, and its
# answer; for scripts that mlflow.sh runs. `server kill`, `server start`, `fault lost 3/2 POST log-batch`: fault_proxy.py.
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/$HD_MLFLOW_CONTROL"
printf '%s\n' "$*" >&3
while read -r -u 3 line; do
	[ "$line" != . ] || exit 0
	[ "$line" != "what?" ] || {
		echo "the proxy does not know: $*" >&2
		exit 2
	}
	printf '%s\n' "$line"
done
exit 1
