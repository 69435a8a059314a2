/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall export: a checkpoint as an ONNX model, validated. Also the end of train. */
#include <stdio.h>
#include <stdlib.h>

#include "heimdall/export.h"
#include "host/cli/cli.h"
#include "host/cli/result.h"

hd_status hd_cli_export(const hd_settings *given, const char **files, int count)
{
	(void)files;
	(void)count;
	hd_status st;
	hd_export_result result = {0};
	if (!given->checkpoint[0])
		return hd_fail(HD_E_USAGE, "--checkpoint: name the checkpoint to export");
	HD_TRY(hd_export(&result, given, given->checkpoint, given->out[0] ? given->out : NULL, NULL, NULL));
	printf("onnx_path        %s\n", result.onnx_path);
	HD_TRY(hd_write_result(given->json, json_incref(result.report)));
done:
	hd_export_result_free(&result);
	return st;
}
