/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ONNX Runtime opened at run time: its C library and Python's package give the same answers and the same errors.
 * Models: tests/golden/make_runtime.py.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/folder.h"
#include "tests/onnxruntime.h"

#if __has_include(<onnxruntime/onnxruntime_c_api.h>)
#include <onnxruntime/onnxruntime_c_api.h>
#define HAVE_HEADER 1
#endif

#define MODEL "tests/golden/runtime.onnx"
#define TWO_INPUTS "tests/golden/two_inputs.onnx"
#define WHOLE_NUMBERS "tests/golden/whole_numbers.onnx"

#ifdef HAVE_HEADER
#define HD_ORT(slot, name, result, parameters)                                                                         \
	_Static_assert(offsetof(OrtApi, name) == (slot) * sizeof(void *), "slot of " #name);
#include "host/export/ort_api.def"
#undef HD_ORT
_Static_assert(HD_ORT_LOG_ERROR == ORT_LOGGING_LEVEL_ERROR, "severity");
_Static_assert(ORT_ENABLE_ALL == 99 && ORT_ENABLE_EXTENDED == 2 && ORT_ENABLE_BASIC == 1, "levels");
_Static_assert(ORT_NO_SUCHFILE == 3 && ORT_INVALID_ARGUMENT == 2 && ORT_NOT_IMPLEMENTED == 9, "codes");
#endif

Test(runtime, slots_are_those_of_the_header)
{
#ifndef HAVE_HEADER
	cr_skip_test("no onnxruntime/onnxruntime_c_api.h (libonnxruntime-dev) to compare the table's slots with");
#endif
	/* compared when this file was compiled */
	cr_assert(true);
}

static hd_session *open_model(hd_runtime *runtime, const char *path, hd_runtime_level level)
{
	hd_session *session;
	cr_assert_eq(hd_session_open(&session, runtime, path, level, 1), HD_OK, "%s", hd_error_text());
	return session;
}

static void expect_error(hd_status got, hd_status want, const char *words)
{
	cr_expect_eq(got, want, "%s: %s", hd_status_text(got), hd_error_text());
	cr_expect_not_null(strstr(hd_error_text(), words), "no '%s' in: %s", words, hd_error_text());
}

/* y and z of runtime.onnx in double, rows of x counting up. */
static void expect_answer(const hd_run_tensor out[2], const float *x, int64_t N)
{
	static const double w[3][2] = {{1, 0.5}, {-2, 0.25}, {3, 4}}, b[2] = {0.125, -1};
	cr_assert_eq(out[0].ndim, 2);
	cr_assert_eq(out[0].shape[0], N);
	cr_assert_eq(out[0].shape[1], 2);
	cr_assert_eq(out[1].shape[0], N);
	cr_assert_eq(out[1].shape[1], 3);
	for (int64_t n = 0; n < N; n++) {
		for (int j = 0; j < 2; j++) {
			double want = b[j], terms = fabs(b[j]);
			for (int i = 0; i < 3; i++) {
				want += (double)x[3 * n + i] * w[i][j];
				terms += fabs((double)x[3 * n + i] * w[i][j]);
			}
			double error = fabs((double)out[0].data[2 * n + j] - want);
			cr_assert(error <= 4 * 0x1p-24 * terms, "y[%ld,%d]: error %g", (long)n, j, error);
		}
		for (int i = 0; i < 3; i++) {
			double v = (double)x[3 * n + i], want = v / (1 + fabs(v));
			double error = fabs((double)out[1].data[3 * n + i] - want);
			cr_assert(error <= 3 * 0x1p-24 * fabs(want), "z[%ld,%d]: error %g", (long)n, i, error);
		}
	}
}

static void run_all(hd_runtime *runtime)
{
	static const int64_t sizes[] = {1, 2, 7, 32, 1031};
	for (hd_runtime_level level = 0; level < HD_RUNTIME_LEVELS; level++) {
		hd_session *session = open_model(runtime, MODEL, level);
		for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			int64_t N = sizes[k];
			float *x = calloc((size_t)(3 * N), sizeof *x);
			hd_run_tensor out[2];
			for (int64_t i = 0; i < 3 * N; i++)
				x[i] = sinf((float)(i + k)) * 4;
			cr_assert_eq(hd_session_run(session, &(hd_run_tensor){2, {N, 3}, x}, out), HD_OK, "%s: %s",
			        hd_runtime_level_name(level), hd_error_text());
			expect_answer(out, x, N);
			free(out[0].data);
			free(out[1].data);
			free(x);
		}
		hd_session_close(session);
	}
}

static void describe(hd_runtime *runtime)
{
	hd_session *session = open_model(runtime, MODEL, HD_RUNTIME_ALL);
	int count;
	const hd_port *port = hd_session_inputs(session, &count);
	cr_assert_eq(count, 1);
	cr_expect_str_eq(port->name, "x");
	cr_expect_eq(port->type, HD_ONNX_F32);
	cr_assert_eq(port->ndim, 2);
	cr_expect_eq(port->shape[0], -1);
	cr_expect_eq(port->shape[1], 3);
	port = hd_session_outputs(session, &count);
	cr_assert_eq(count, 2);
	cr_expect_str_eq(port[0].name, "y");
	cr_expect_str_eq(port[1].name, "z");
	cr_expect_eq(port[1].shape[1], 3);
	cr_assert_not_null(hd_session_metadata(session, "heimdall.format"));
	cr_expect_str_eq(hd_session_metadata(session, "heimdall.format"), "1");
	cr_expect_str_eq(hd_session_metadata(session, "greeting"), "grüße, 你好");
	cr_expect_null(hd_session_metadata(session, "nothing"));
	hd_session_close(session);
	cr_expect_not_null(strstr(hd_runtime_name(runtime), "ONNX Runtime 1."), "%s", hd_runtime_name(runtime));
}

static void refuse(hd_runtime *runtime)
{
	float data[16] = {0};
	hd_run_tensor out[2];
	hd_session *session = open_model(runtime, MODEL, HD_RUNTIME_ALL);
	expect_error(hd_session_run(session, &(hd_run_tensor){2, {2, 4}, data}, out), HD_E_DATA,
	        MODEL ": input 'x' is (2,4), the model takes (?,3)");
	expect_error(hd_session_run(session, &(hd_run_tensor){3, {1, 2, 3}, data}, out), HD_E_DATA, "(1,2,3)");
	/* the session is as good as before */
	cr_assert_eq(hd_session_run(session, &(hd_run_tensor){2, {2, 3}, data}, out), HD_OK, "%s", hd_error_text());
	expect_answer(out, data, 2);
	free(out[0].data);
	free(out[1].data);
	hd_session_close(session);

	/* sizes that fit each by itself and not together are found by the run */
	session = open_model(runtime, TWO_INPUTS, HD_RUNTIME_ALL);
	const hd_run_tensor apart[2] = {{2, {2, 3}, data}, {2, {4, 2}, data}};
	cr_expect_neq(hd_session_run(session, apart, out), HD_OK);
	cr_expect_not_null(strstr(hd_error_text(), TWO_INPUTS ": "), "%s", hd_error_text());
	cr_expect_null(out[0].data);
	const hd_run_tensor together[2] = {{2, {2, 3}, data}, {2, {3, 2}, data}};
	cr_expect_eq(hd_session_run(session, together, out), HD_OK, "%s", hd_error_text());
	free(out[0].data);
	hd_session_close(session);

	session = open_model(runtime, WHOLE_NUMBERS, HD_RUNTIME_ALL);
	cr_expect_neq(hd_session_run(session, &(hd_run_tensor){2, {2, 3}, data}, out), HD_OK);
	cr_expect_not_null(strstr(hd_error_text(), "no float tensor"), "%s", hd_error_text());
	hd_session_close(session);
}

static void refuse_files(hd_runtime *runtime)
{
	char bytes[1024];
	hd_session *session;
	expect_error(
	        hd_session_open(&session, runtime, file_in("none.onnx"), HD_RUNTIME_ALL, 1), HD_E_IO, "none.onnx: ");
	cr_expect_null(session);
	FILE *from = fopen(MODEL, "rb"), *to = fopen(file_in("cut.onnx"), "wb");
	cr_assert(from && to);
	size_t got = fread(bytes, 1, sizeof bytes, from);
	fwrite(bytes, 1, got / 2, to);
	fclose(to);
	fclose(from);
	expect_error(
	        hd_session_open(&session, runtime, file_in("cut.onnx"), HD_RUNTIME_ALL, 1), HD_E_DATA, "cut.onnx: ");
	cr_expect_null(session);
	to = fopen(file_in("text.onnx"), "w");
	cr_assert_not_null(to);
	fputs("this is no model\n", to);
	fclose(to);
	expect_error(
	        hd_session_open(&session, runtime, file_in("text.onnx"), HD_RUNTIME_ALL, 1), HD_E_DATA, "text.onnx: ");
}

typedef void (*check)(hd_runtime *runtime);

static void with_runtime(bool python, check what)
{
	hd_runtime *runtime;
	if (!open_runtime(&runtime, python))
		return;
	what(runtime);
	hd_runtime_close(runtime);
}

Test(runtime, library_runs_models_at_every_level)
{
	with_runtime(false, run_all);
}

Test(runtime, python_runs_models_at_every_level)
{
	with_runtime(true, run_all);
}

Test(runtime, library_describes_models)
{
	with_runtime(false, describe);
}

Test(runtime, python_describes_models)
{
	with_runtime(true, describe);
}

Test(runtime, library_refuses_what_does_not_fit)
{
	with_runtime(false, refuse);
}

Test(runtime, python_refuses_what_does_not_fit)
{
	with_runtime(true, refuse);
}

Test(runtime, library_refuses_what_is_no_model, .init = start, .fini = stop)
{
	with_runtime(false, refuse_files);
}

Test(runtime, python_refuses_what_is_no_model, .init = start, .fini = stop)
{
	with_runtime(true, refuse_files);
}

/* Several sessions of one runtime at a time, closed in any order. */
static void side_by_side(hd_runtime *runtime)
{
	float data[6] = {1, 2, 3, 4, 5, 6};
	hd_run_tensor out[2];
	hd_session *first = open_model(runtime, MODEL, HD_RUNTIME_ALL);
	hd_session *second = open_model(runtime, TWO_INPUTS, HD_RUNTIME_DISABLED);
	hd_session_close(first);
	first = open_model(runtime, MODEL, HD_RUNTIME_BASIC);
	const hd_run_tensor both[2] = {{2, {2, 3}, data}, {2, {3, 2}, data}};
	cr_assert_eq(hd_session_run(second, both, out), HD_OK, "%s", hd_error_text());
	cr_expect_eq(out[0].data[0], 22.0f);
	cr_expect_eq(out[0].data[3], 64.0f);
	free(out[0].data);
	cr_assert_eq(hd_session_run(first, &(hd_run_tensor){2, {2, 3}, data}, out), HD_OK, "%s", hd_error_text());
	expect_answer(out, data, 2);
	free(out[0].data);
	free(out[1].data);
	hd_session_close(second);
	hd_session_close(first);
}

Test(runtime, library_has_several_sessions)
{
	with_runtime(false, side_by_side);
}

Test(runtime, python_has_several_sessions)
{
	with_runtime(true, side_by_side);
}

/* ---- where there is none ---- */

Test(runtime, a_named_library_is_taken_or_refused)
{
	hd_runtime *runtime;
	expect_error(hd_runtime_open(&runtime, "/nowhere/libonnxruntime.so"), HD_E_UNSUPPORTED,
	        "/nowhere/libonnxruntime.so");
	cr_expect_null(runtime);
	cr_expect_not_null(strstr(hd_error_text(), "pip install onnxruntime"), "%s", hd_error_text());
	setenv("HEIMDALL_ONNXRUNTIME", "/nowhere/else.so", 1);
	expect_error(hd_runtime_open(&runtime, ""), HD_E_UNSUPPORTED, "/nowhere/else.so");
	/* a library of another kind */
	expect_error(hd_runtime_open(&runtime, "libm.so.6"), HD_E_UNSUPPORTED, "no OrtGetApiBase");
}

Test(runtime, all_that_was_tried_is_named)
{
	hd_runtime *runtime;
	setenv("HEIMDALL_PYTHON", "/nowhere/python3", 1);
	unsetenv("HEIMDALL_ONNXRUNTIME");
	if (hd_runtime_open(&runtime, "") == HD_OK) {
		hd_runtime_close(runtime);
		cr_skip_test("this machine's loader has an ONNX Runtime");
	}
	expect_error(HD_E_UNSUPPORTED, HD_E_UNSUPPORTED, "no ONNX Runtime: ");
	static const char *const words[] = {
	        "libonnxruntime.so.1", "/nowhere/python3", "pip install onnxruntime", "--onnxruntime"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		cr_expect_not_null(strstr(hd_error_text(), words[i]), "no '%s' in: %s", words[i], hd_error_text());
}

/* A script in the folder that stands for an interpreter. */
static const char *script(const char *words)
{
	static char path[512];
	snprintf(path, sizeof path, "%s", file_in("python"));
	FILE *to = fopen(path, "w");
	cr_assert_not_null(to);
	fprintf(to, "#!/bin/sh\n%s\n", words);
	fclose(to);
	cr_assert_eq(chmod(path, 0755), 0);
	return path;
}

Test(runtime, an_interpreter_without_the_package, .init = start, .fini = stop)
{
	hd_runtime *runtime;
	setenv("HEIMDALL_PYTHON", script("exit 0"), 1);
	if (hd_runtime_open(&runtime, "") == HD_OK) {
		hd_runtime_close(runtime);
		cr_skip_test("this machine's loader has an ONNX Runtime");
	}
	cr_expect_not_null(strstr(hd_error_text(), "/python has no package onnxruntime"), "%s", hd_error_text());
}

Test(runtime, a_child_that_dies_gives_its_last_words, .init = start, .fini = stop)
{
	hd_runtime *runtime;
	expect_error(hd_runtime_open_python(&runtime, script("echo one >&2; echo 'ImportError: two' >&2; exit 1")),
	        HD_E_UNSUPPORTED, "ImportError: two");
	cr_expect_null(strstr(hd_error_text(), "one\n"));
	expect_error(hd_runtime_open_python(&runtime, script("exit 3")), HD_E_UNSUPPORTED, "without a word");
	cr_expect_null(runtime);
}

/* Killed between two requests: an error, no signal, and closing does not wait. */
Test(runtime, a_child_that_is_killed_is_an_error, .init = start, .fini = stop, .timeout = 60)
{
	hd_runtime *runtime;
	char words[1024], pid[32] = "";
	float data[3] = {0};
	hd_run_tensor out[2];
	const char *path = interpreter();
	if (!path)
		cr_skip_test("no build/python and no HEIMDALL_PYTHON");
	snprintf(words, sizeof words, "echo $$ > '%s'\nexec '%s' \"$@\"", file_in("pid"), path);
	hd_status st = hd_runtime_open_python(&runtime, script(words));
	if (st == HD_E_UNSUPPORTED)
		cr_skip_test("%s has no package onnxruntime", path);
	cr_assert_eq(st, HD_OK, "%s", hd_error_text());
	hd_session *session = open_model(runtime, MODEL, HD_RUNTIME_ALL);
	FILE *from = fopen(file_in("pid"), "r");
	cr_assert(from && fgets(pid, sizeof pid, from));
	fclose(from);
	cr_assert_eq(kill((pid_t)atol(pid), SIGKILL), 0);
	/* gone, and left for the runtime to collect: what is sent from here on has no reader */
	siginfo_t info;
	cr_assert_eq(waitid(P_PID, (id_t)atol(pid), &info, WEXITED | WNOWAIT), 0);
	for (int i = 0; i < 2; i++)
		cr_expect_eq(hd_session_run(session, &(hd_run_tensor){2, {1, 3}, data}, out), HD_E_FAILED);
	cr_expect_not_null(strstr(hd_error_text(), "Python's onnxruntime: "), "%s", hd_error_text());
	hd_session_close(session);
	hd_runtime_close(runtime);
}
