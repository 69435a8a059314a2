/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES 2048

static _Thread_local char error_text[TEXT_BYTES];

const char *hd_status_text(hd_status status)
{
	switch (status) {
#define X(name, exit_code, text)                                                                                       \
	case HD_##name:                                                                                                \
		return text;
		HD_STATUSES(X)
#undef X
	}
	return "unknown status";
}

int hd_status_exit_code(hd_status status)
{
	switch (status) {
#define X(name, exit_code, text)                                                                                       \
	case HD_##name:                                                                                                \
		return exit_code;
		HD_STATUSES(X)
#undef X
	}
	return 1;
}

hd_status hd_fail(hd_status status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(error_text, sizeof error_text, format, args);
	va_end(args);
	return status;
}

hd_status hd_context(hd_status status, const char *format, ...)
{
	char context[TEXT_BYTES];
	va_list args;
	va_start(args, format);
	int used = vsnprintf(context, sizeof context, format, args);
	va_end(args);
	if (used >= 0 && used < (int)sizeof context - 3) {
		/* A long text loses its end. */
		size_t room = sizeof context - (size_t)used - 3, length = strnlen(error_text, room);
		memcpy(context + used, ": ", 2);
		memcpy(context + used + 2, error_text, length);
		context[(size_t)used + 2 + length] = '\0';
	}
	memcpy(error_text, context, strlen(context) + 1);
	return status;
}

const char *hd_error_text(void)
{
	return error_text;
}
