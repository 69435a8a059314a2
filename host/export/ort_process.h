/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: started without a shell, waited for with a time limit. */
#ifndef HD_EXPORT_ORT_PROCESS_H
#define HD_EXPORT_ORT_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

#include "heimdall/status.h"

/* A descriptor of this process and the number it has in the child; from -1: /dev/null. */
typedef struct hd_ort_fd {
	int from, to;
} hd_ort_fd;

/* "INTERPRETER -c SCRIPT", looked for in PATH; descriptors that are not named are closed but for those of stdio. */
hd_status hd_ort_spawn(pid_t *out, const char *interpreter, const char *script, const hd_ort_fd *fds, int count);

/* Waits until the child has ended, at most so long, then ends it. */
void hd_ort_reap(pid_t child, int limit_ms);

/* What a script prints, at most bytes - 1, ended by a zero. HD_E_FAILED where it does not end in time or fails. */
hd_status hd_ort_ask(char *out, size_t bytes, const char *interpreter, const char *script, int limit_ms);

#endif
