/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/ort_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define NAP_NS 2000000L

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

hd_status hd_ort_spawn(pid_t *out, const char *interpreter, const char *script, const hd_ort_fd *fds, int count)
{
	posix_spawn_file_actions_t actions;
	*out = 0;
	int error = posix_spawn_file_actions_init(&actions);
	if (error)
		return hd_fail(HD_E_MEMORY, "%s: %s", interpreter, strerror(error));
	for (int i = 0; i < count && !error; i++)
		error = fds[i].from < 0 ? posix_spawn_file_actions_addopen(&actions, fds[i].to, "/dev/null", O_RDWR, 0)
		                        : posix_spawn_file_actions_adddup2(&actions, fds[i].from, fds[i].to);
	const char *const argv[] = {interpreter, "-c", script, NULL};
	if (!error)
		error = posix_spawnp(out, interpreter, &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return error ? hd_fail(HD_E_FAILED, "%s: %s", interpreter, strerror(error)) : HD_OK;
}

/* Whether it ended within the limit; *status as waitpid's. */
static bool ended(pid_t child, int64_t until_ms, int *status)
{
	for (;;) {
		pid_t got = waitpid(child, status, WNOHANG);
		if (got == child || (got < 0 && errno != EINTR))
			return true;
		if (now_ms() >= until_ms)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
	}
}

static void end(pid_t child, int *status)
{
	/* 0 and less are groups of processes */
	if (child <= 0)
		return;
	kill(child, SIGKILL);
	while (waitpid(child, status, 0) < 0 && errno == EINTR)
		;
}

void hd_ort_reap(pid_t child, int limit_ms)
{
	int status;
	if (!ended(child, now_ms() + limit_ms, &status))
		end(child, &status);
}

/* Reads until the end, as much as fits is kept; false where the time is up. */
static bool read_all(char *out, size_t bytes, int fd, int64_t until_ms)
{
	size_t used = 0;
	char rest[256];
	for (;;) {
		int64_t left = until_ms - now_ms();
		int ready = left > 0 ? poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, (int)left) : 0;
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return false;
		bool full = used + 1 >= bytes;
		ssize_t got = full ? read(fd, rest, sizeof rest) : read(fd, out + used, bytes - 1 - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += full ? 0 : (size_t)got;
	}
	out[used] = 0;
	return true;
}

hd_status hd_ort_ask(char *out, size_t bytes, const char *interpreter, const char *script, int limit_ms)
{
	int pipe_fds[2], status = 0;
	pid_t child;
	int64_t until = now_ms() + limit_ms;
	*out = 0;
	if (pipe2(pipe_fds, O_CLOEXEC))
		return hd_fail(HD_E_FAILED, "pipe: %s", strerror(errno));
	hd_status st =
	        hd_ort_spawn(&child, interpreter, script, (const hd_ort_fd[]){{pipe_fds[1], 1}, {-1, 0}, {-1, 2}}, 3);
	close(pipe_fds[1]);
	if (st != HD_OK) {
		close(pipe_fds[0]);
		return st;
	}
	bool done = read_all(out, bytes, pipe_fds[0], until) && ended(child, until, &status);
	close(pipe_fds[0]);
	if (!done) {
		end(child, &status);
		return hd_fail(HD_E_FAILED, "%s: no answer within %d s", interpreter, limit_ms / 1000);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return hd_fail(HD_E_FAILED, "%s: cannot be started", interpreter);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0
	               ? HD_OK
	               : hd_fail(HD_E_FAILED, "%s: ended with status %d", interpreter, status);
}
