/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime in tests: that of HEIMDALL_PYTHON or of this build's Python. Include once per test program. */
#ifndef HD_TESTS_ONNXRUNTIME_H
#define HD_TESTS_ONNXRUNTIME_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/export/ort.h"

/* The interpreter whose package is used; NULL where there is none. */
static inline const char *interpreter(void)
{
	static char path[512];
	const char *build = getenv("BUILD"), *named = getenv("HEIMDALL_PYTHON");
	snprintf(path, sizeof path, "%s/python/bin/python", build ? build : "build");
	if (named && *named)
		return named;
	return access(path, X_OK) ? NULL : path;
}

/* Opens the library or (python) the child; false, and the test is skipped, where there is none. */
static inline bool open_runtime(hd_runtime **out, bool python)
{
	static char reason[1024];
	hd_status st = HD_E_UNSUPPORTED;
	const char *path = interpreter();
	if (path)
		setenv("HEIMDALL_PYTHON", path, 1);
	if (!path && python)
		snprintf(reason, sizeof reason, "no build/python and no HEIMDALL_PYTHON");
	else if ((st = python ? hd_runtime_open_python(out, path) : hd_runtime_open(out, "")) != HD_OK)
		snprintf(reason, sizeof reason, "%s", hd_error_text());
	cr_assert(st == HD_OK || st == HD_E_UNSUPPORTED, "%s", hd_error_text());
	if (st != HD_OK)
		cr_skip_test("%s", reason);
	return st == HD_OK;
}

#endif
