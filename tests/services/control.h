/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all tests against real servers share: variables of the script that starts the servers (run.sh, mlflow.sh), and
 * the control line of its proxy (fault_proxy.py). Include once per test program.
 */
#ifndef HD_TESTS_SERVICES_CONTROL_H
#define HD_TESTS_SERVICES_CONTROL_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GOOD(call)                                                                                                     \
	do {                                                                                                           \
		hd_status good_ = (call);                                                                              \
		cr_assert_eq(good_, HD_OK, "%s: %s", #call, hd_error_text());                                          \
	} while (0)

static char proxy_text[262144]; /* the control line's last answer */

static inline const char *variable(const char *name)
{
	const char *value = getenv(name);
	cr_assert(value && *value, "%s is not set; run this through run.sh or mlflow.sh of tests/services", name);
	return value;
}

/* One command to the proxy whose control line is at the port that a variable names; its answer is in proxy_text. */
static inline void control_at(const char *port_variable, const char *format, ...)
{
	char command[1024];
	size_t used = 0;
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command - 1, format, args);
	va_end(args);
	strcat(command, "\n");
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(variable(port_variable)))};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	cr_assert_eq(write(fd, command, strlen(command)), (ssize_t)strlen(command));
	for (;;) {
		ssize_t got = read(fd, proxy_text + used, sizeof proxy_text - 1 - used);
		cr_assert_gt(got, 0);
		used += (size_t)got;
		proxy_text[used] = 0;
		if (!strcmp(proxy_text, ".\n") || (used > 3 && !strcmp(proxy_text + used - 3, "\n.\n")))
			break;
	}
	close(fd);
	cr_assert(!strstr(proxy_text, "what?"), "the proxy does not know: %s", command);
}

#endif
