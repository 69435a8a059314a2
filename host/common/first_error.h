/* SPDX-License-Identifier: Apache-2.0 */
/* The first error of threads that work side by side: error texts belong to the thread that set them. */
#ifndef HD_COMMON_FIRST_ERROR_H
#define HD_COMMON_FIRST_ERROR_H

#include "heimdall/status.h"

typedef struct hd_first_error {
	hd_status status; /* HD_OK until there is one */
	char text[2048];
} hd_first_error;

/* Keeps status and the calling thread's error text, where status is an error and none is kept. Any thread. */
void hd_first_error_note(hd_first_error *error, hd_status status);

/* What is kept, as the calling thread's own error; HD_OK where nothing is. After the threads are done. */
hd_status hd_first_error_take(const hd_first_error *error);

#endif
