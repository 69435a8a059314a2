/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status codes and the error text that goes with them.
 *
 * Every fallible function returns hd_status. The first failing layer sets the text with hd_fail();
 * callers may put one line of context in front with hd_context(). The text is kept per thread.
 */
#ifndef HEIMDALL_STATUS_H
#define HEIMDALL_STATUS_H

#include <stddef.h>

/* name, process exit code, short text */
#define HD_STATUSES(X)                                                                                                 \
	X(OK, 0, "ok")                                                                                                 \
	X(E_FAILED, 1, "failed")                                                                                       \
	X(E_USAGE, 2, "wrong usage")                                                                                   \
	X(E_DATA, 3, "bad data")                                                                                       \
	X(E_INTERRUPTED, 4, "interrupted")                                                                             \
	X(E_IO, 1, "input/output error")                                                                               \
	X(E_MEMORY, 1, "out of memory")                                                                                \
	X(E_UNSUPPORTED, 1, "not supported by this back end")                                                          \
	X(E_NONFINITE, 1, "non-finite value")

typedef enum hd_status {
#define X(name, exit_code, text) HD_##name,
	HD_STATUSES(X)
#undef X
} hd_status;

/* Short text of a code; never NULL. */
const char *hd_status_text(hd_status status);

/* Process exit code of a status: 0 done, 1 failed, 2 usage, 3 data, 4 interrupted. */
int hd_status_exit_code(hd_status status);

/* Sets this thread's error text (printf style) and returns `status`. */
hd_status hd_fail(hd_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " in front of this thread's error text and returns `status` unchanged. */
hd_status hd_context(hd_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* This thread's error text, "" when there is none. Valid until the next hd_fail/hd_context here. */
const char *hd_error_text(void);

/*
 * Runs a call inside a function that has `hd_status st` and a label `done:`; leaves to it on failure.
 * The clean-up behind `done:` frees in reverse order and never replaces st.
 */
#define HD_TRY(call)                                                                                                   \
	do {                                                                                                           \
		st = (call);                                                                                           \
		if (st != HD_OK)                                                                                       \
			goto done;                                                                                     \
	} while (0)

#endif
