/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of choices: lines of fields apart by tabs, those that start with # left alone.
 *   machine  operation  dtype  sizes  way  microseconds of ours  of the way
 * A time is "-" where nothing was measured. The first line with the first four fields whose way is there counts. Text
 * that was there stays.
 */
#ifndef HD_KERNELS_CUDA_TUNE_FILE_H
#define HD_KERNELS_CUDA_TUNE_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Of HEIMDALL_TUNING and the cache folder as in tune.h. false: no file, as there is no home folder. */
bool hd_cuda_tune_file_name(char *path, size_t bytes);

/*
 * key: the first four fields with their tabs. way: out, of line number nth (from 0) with that key, "" where it is
 * longer than `bytes`. false: there are no more.
 */
bool hd_cuda_tune_file_find(const char *path, const char *key, int nth, char *way, size_t bytes);

/*
 * Adds a line (without its end), making folders that are missing. The file is replaced as a whole, so that a reader
 * sees the old or the new one. false with the reason in why.
 */
bool hd_cuda_tune_file_add(const char *path, const char *line, char *why, size_t bytes);

/*
 * Lets one process in at a time, so that several which start together make one choice: waits up to a minute. Returns
 * what _unlock takes; -1 where it went on without, for which _unlock does nothing.
 */
int hd_cuda_tune_file_lock(const char *path);
void hd_cuda_tune_file_unlock(int lock);

#endif
