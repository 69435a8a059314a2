/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/stop.h"

#include <signal.h>
#include <time.h>

static sigset_t before;
static volatile bool requested;
static int depth;

static sigset_t stop_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	return set;
}

void hd_stop_begin(void)
{
	const sigset_t set = stop_signals();
	if (depth++)
		return;
	requested = false;
	pthread_sigmask(SIG_BLOCK, &set, &before);
}

bool hd_stop_requested(void)
{
	const sigset_t set = stop_signals();
	if (sigtimedwait(&set, NULL, &(const struct timespec){0, 0}) > 0)
		requested = true;
	return requested;
}

void hd_stop_end(void)
{
	const sigset_t set = stop_signals();
	if (--depth)
		return;
	while (sigtimedwait(&set, NULL, &(const struct timespec){0, 0}) > 0)
		continue;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
