/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums over processes, for data parallel training: each has a device of its own and holds one rank of a group. A back
 * end that can do it has a table of these functions in its field `collective`.
 *
 * One rank makes an id and hands it to the others by whatever way they have. All ranks queue the same reductions in the
 * same order. Where one of them is gone the others get an error: from check, which asks without waiting, or from wait,
 * which replaces sync on a stream that reductions were queued on, since a device that waits for a rank may wait for
 * ever. After an error a collective can only be closed. One thread at a time per collective.
 */
#ifndef HEIMDALL_COLLECTIVE_H
#define HEIMDALL_COLLECTIVE_H

#include "heimdall/backend.h"

typedef struct hd_collective hd_collective;

/* Of a group; plain bytes, to be copied as they are. */
#define HD_COLLECTIVE_ID_BYTES 128
typedef struct hd_collective_id {
	unsigned char bytes[HD_COLLECTIVE_ID_BYTES];
} hd_collective_id;

typedef struct hd_collective_ops {
	/* "NCCL 2.28.9", or why there is none. Static. */
	const char *(*text)(void);
	/* A new group. HD_E_UNSUPPORTED with the reason where the library that it takes is missing. */
	hd_status (*make_id)(hd_backend *self, hd_collective_id *out);
	/*
	 * Joins the group as rank 0 .. ranks-1 and returns when all have come; HD_E_FAILED where they have not after so
	 * many seconds (> 0), which are the limit of wait too. HD_E_UNSUPPORTED as make_id, HD_E_USAGE for a rank that
	 * cannot be. The caller owns the result and closes it before the back end.
	 */
	hd_status (*open)(
	        hd_backend *self, hd_collective **out, const hd_collective_id *id, int ranks, int rank, double seconds);
	/*
	 * dst[i] = sum over the ranks of their src[i], i < n, queued on the stream. dst, src (n) of HD_F32 or HD_BF16
	 * in device memory, aligned to their elements; dst may be src. The same bits on every rank. HD_E_UNSUPPORTED
	 * for other dtypes.
	 */
	hd_status (*all_reduce)(
	        hd_collective *c, void *dst, const void *src, hd_dtype dt, int64_t n, hd_stream *stream);
	/* What is reduced between these two is queued at the end, all together, which is faster for many small ones. */
	hd_status (*begin_group)(hd_collective *c);
	hd_status (*end_group)(hd_collective *c);
	/* HD_E_FAILED where a reduction has failed or a rank is known to be gone. Does not wait. */
	hd_status (*check)(hd_collective *c);
	/* Returns when all that is queued on the stream is done; HD_E_FAILED as check, or after the seconds. */
	hd_status (*wait)(hd_collective *c, hd_stream *stream);
	/* NULL-safe. Gives up what is under way where there was an error, else waits for it. */
	void (*close)(hd_collective *c);
} hd_collective_ops;

#endif
