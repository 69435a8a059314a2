/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/common/progress.h"

#define DEFAULT_RUNS "runs/"
#define FOLDER_BYTES 4096

static bool in_background; /* nobody waits any more */
static int to_parent = -1; /* of the process in the background, until it has its folder */

/* ---- the process that was called ---- */

/* A name is enough for a run in the folder where runs are looked for. */
static const char *shortest_name(const char *folder)
{
	const char *experiment = folder + strlen(DEFAULT_RUNS), *slash;
	if (strncmp(folder, DEFAULT_RUNS, strlen(DEFAULT_RUNS)) != 0 || getenv("HEIMDALL_RUNS_DIR"))
		return folder;
	slash = strchr(experiment, '/');
	return slash && !strchr(slash + 1, '/') ? slash + 1 : folder;
}

static void tell(const char *folder, pid_t child)
{
	const char *name = shortest_name(folder);
	printf("run %s, process %ld\n", folder, (long)child);
	printf("  heimdall runs tail %s\n", name);
	printf("  heimdall runs stop %s\n", name);
}

/* The status that has a process's exit code. It has said itself what went wrong. */
static hd_status ended(pid_t child)
{
	static const hd_status codes[] = {HD_OK, HD_E_FAILED, HD_E_USAGE, HD_E_DATA, HD_E_INTERRUPTED};
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return hd_fail(HD_E_FAILED, "process %ld: %s", (long)child, strerror(errno));
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM))
		return hd_fail(HD_E_INTERRUPTED, "interrupted before the run began");
	if (WIFSIGNALED(status))
		return hd_fail(HD_E_FAILED, "process %ld in the background ended by signal %d (%s)", (long)child,
		        WTERMSIG(status), strsignal(WTERMSIG(status)));
	size_t code = (size_t)WEXITSTATUS(status);
	hd_status st = code < sizeof codes / sizeof *codes ? codes[code] : HD_E_FAILED;
	return st == HD_OK ? HD_OK : hd_fail(st, "%s", "");
}

/* Until the other end has sent a folder, or has ended without. signals: a signalfd(2) of those to hand on. */
static hd_status wait_for_folder(int from, int signals, pid_t child)
{
	char folder[FOLDER_BYTES];
	struct pollfd fds[] = {{.fd = from, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	ssize_t bytes = 0;
	while (!fds[0].revents) {
		struct signalfd_siginfo signal;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return hd_fail(HD_E_IO, "waiting for process %ld: %s", (long)child, strerror(errno));
		if (fds[1].revents && read(signals, &signal, sizeof signal) == (ssize_t)sizeof signal)
			kill(child, (int)signal.ssi_signo);
	}
	do
		bytes = recv(from, folder, sizeof folder - 1, 0);
	while (bytes < 0 && errno == EINTR);
	if (bytes <= 0)
		return ended(child);
	folder[bytes] = 0;
	tell(folder, child);
	return HD_OK;
}

/* ---- the process in the background ---- */

static hd_status leave_terminal(void)
{
	int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0)
		return hd_fail(HD_E_IO, "/dev/null: %s", strerror(errno));
	close(nothing);
	setsid();
	signal(SIGHUP, SIG_IGN);
	/* who reads what is said before the folder is there may have gone */
	signal(SIGPIPE, SIG_IGN);
	return HD_OK;
}

hd_status hd_detach(bool *child)
{
	hd_status st = HD_OK;
	int ends[2] = {-1, -1}, signals = -1;
	sigset_t handed_on, before;
	sigemptyset(&handed_on);
	sigaddset(&handed_on, SIGINT);
	sigaddset(&handed_on, SIGTERM);
	*child = false;
	fflush(NULL);
	/* of which a write says whether the other end is there, without SIGPIPE, and a read takes all of one */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0 ||
	        (signals = signalfd(-1, &handed_on, SFD_CLOEXEC)) < 0)
		return hd_fail(HD_E_IO, "cannot go into the background: %s", strerror(errno));
	sigprocmask(SIG_BLOCK, &handed_on, &before);
	pid_t pid = fork();
	int error = errno;
	*child = pid == 0;
	close(ends[*child ? 0 : 1]);
	if (pid < 0) {
		st = hd_fail(HD_E_IO, "cannot go into the background: %s", strerror(error));
	} else if (pid == 0) {
		to_parent = ends[1];
		st = leave_terminal();
	} else {
		st = wait_for_folder(ends[0], signals, pid);
		close(ends[0]);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(signals);
	return st;
}

hd_status hd_detached(const char *run_folder)
{
	hd_status st;
	char *path = NULL;
	int log = -1;
	if (to_parent < 0)
		return HD_OK;
	HD_TRY(hd_sprintf(&path, "%s/output.log", run_folder));
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (log < 0) {
		st = hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
		goto done;
	}
	fflush(NULL);
	if (send(to_parent, run_folder, strlen(run_folder), MSG_NOSIGNAL) < 0 && errno != EPIPE) {
		st = hd_fail(HD_E_IO, "%s: cannot tell of it: %s", run_folder, strerror(errno));
		goto done;
	}
	if (dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) {
		st = hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
		goto done;
	}
	/* lines are there for who looks, also while it runs */
	setvbuf(stdout, NULL, _IOLBF, 0);
	close(to_parent);
	to_parent = -1;
	in_background = true;
done:
	if (log >= 0)
		close(log);
	free(path);
	return st;
}

bool hd_is_detached(void)
{
	return in_background;
}
