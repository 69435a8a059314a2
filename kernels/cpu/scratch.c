/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/scratch.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define ALIGN_BYTES 64

/* In front of each block's memory, in ALIGN_BYTES of its own. */
typedef struct header {
	struct header *next;
	size_t bytes; /* of the memory behind */
} header;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header *idle;
static int holders;

static header *pop(void)
{
	pthread_mutex_lock(&lock);
	header *h = idle;
	if (h)
		idle = h->next;
	pthread_mutex_unlock(&lock);
	return h;
}

hd_status hd_cpu_scratch_take(void **out, size_t bytes)
{
	header *h = pop();
	*out = NULL;
	if (!h || h->bytes < bytes) {
		free(h);
		h = NULL;
		if (bytes <= SIZE_MAX - 2 * ALIGN_BYTES) {
			bytes = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
			h = aligned_alloc(ALIGN_BYTES, bytes + ALIGN_BYTES);
		}
		if (!h)
			return hd_fail(HD_E_MEMORY, "out of memory: %zu bytes for float32 copies", bytes);
		h->bytes = bytes;
	}
	*out = (char *)h + ALIGN_BYTES;
	return HD_OK;
}

void hd_cpu_scratch_give(void *block)
{
	if (!block)
		return;
	header *h = (header *)((char *)block - ALIGN_BYTES);
	pthread_mutex_lock(&lock);
	bool keep = holders > 0;
	if (keep) {
		h->next = idle;
		idle = h;
	}
	pthread_mutex_unlock(&lock);
	if (!keep)
		free(h);
}

void hd_cpu_scratch_hold(void)
{
	pthread_mutex_lock(&lock);
	holders++;
	pthread_mutex_unlock(&lock);
}

void hd_cpu_scratch_let_go(void)
{
	pthread_mutex_lock(&lock);
	header *rest = --holders == 0 ? idle : NULL;
	if (rest)
		idle = NULL;
	pthread_mutex_unlock(&lock);
	while (rest) {
		header *next = rest->next;
		free(rest);
		rest = next;
	}
}
