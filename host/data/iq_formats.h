/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the readers of recordings share: the bytes of a source, and where the samples lie in them. A reader checks
 * a file and describes it; nothing is allocated for samples before all of it has been found right.
 * Messages of the readers do not name the file: hd_iq_read puts its name in front. Thread-safe.
 */
#ifndef HD_DATA_IQ_FORMATS_H
#define HD_DATA_IQ_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/iq.h"

#define HD_HOST_BIG_ENDIAN (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

/* All bytes of a file (mapped) or of a pipe (read to its end, owned). */
typedef struct hd_source {
	const unsigned char *data;
	size_t bytes;
	size_t dropped; /* bytes from the start whose pages were given back */
	bool stream;    /* from a pipe: sizes in it may be missing, and its last sample may be cut */
} hd_source;

/*
 * Gives back the pages of a mapped file before `at`, so that walking a large file does not fill memory with it.
 * They stay readable. Does nothing for pipes and for steps of less than 4 MiB.
 */
void hd_source_forget(hd_source *source, size_t at);

/* A run of samples that belong together although other bytes lie between it and the next. */
typedef struct hd_piece {
	const unsigned char *data;
	int64_t samples;
} hd_piece;

/* Where the samples lie: component c of sample i of row r at data + r*row_step + i*sample_step + c*part_step. */
typedef struct hd_layout {
	hd_dtype dtype; /* of a component in memory */
	float scale;
	int stored_bytes; /* of a component in the file; 3 or 4 with widen */
	bool swap;        /* stored in the other byte order */
	bool widen;       /* signed integers of 3 or 4 bytes, to HD_F32 or HD_F64 with full scale 1 */
	int64_t rows, samples;
	int64_t row_step, sample_step, part_step; /* bytes */
	const unsigned char *data;
	hd_piece *pieces; /* in place of data for one row in several runs; owned, NULL otherwise */
	size_t piece_count;
} hd_layout;

/* The usual layout: pairs of components one behind the other, rows one behind the other. */
void hd_layout_pairs(hd_layout *l, hd_dtype dtype, int64_t rows, int64_t samples, const unsigned char *data);

/* 1/32768, 1/128, 1/127.5, or 1 for floats. */
float hd_iq_scale(hd_dtype dtype);

/* Little-endian integers at any address. */
uint16_t hd_le16(const unsigned char *p);
uint32_t hd_le32(const unsigned char *p);
uint64_t hd_le64(const unsigned char *p);

/*
 * The readers. *l and *info come with zeroes and NaN and are filled; samples false: pieces are not wanted.
 * HD_E_DATA with what is wrong and what would be right.
 */
hd_status hd_npy_parse(hd_layout *l, hd_iq_info *info, const hd_source *source);
hd_status hd_wav_parse(hd_layout *l, hd_iq_info *info, hd_source *source, bool samples);
hd_status hd_raw_parse(hd_layout *l, hd_iq_info *info, const hd_source *source, hd_raw_format raw);

/* meta: the metadata, in the file meta_path; the file of samples is mapped into *data, which the caller closes. */
hd_status hd_sigmf_parse(hd_layout *l, hd_iq_info *info, hd_source *data, hd_source *meta, const char *meta_path);

/* The ending's format; HD_RAW_AUTO where it says none. */
hd_raw_format hd_raw_of_name(const char *path);

/*
 * The metadata of a SigMF recording named as people do: NAME.sigmf-meta, NAME.sigmf-data, or NAME where both
 * files exist and NAME does not. False where the name is none of those.
 */
bool hd_sigmf_meta_path(char meta[4096], const char *path);

#endif
