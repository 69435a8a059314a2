/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IQ recordings in memory and the readers of the formats people have: .npy, WAV (plain, RF64, KiwiSDR), SigMF
 * and bare samples. A format is known by its content; only bare samples need a name for it.
 *
 * A recording is R rows of n interleaved I,Q pairs in native byte order, C order. Full scale of integer
 * formats is 1.0 (`scale` times the stored value; HD_U8 counts from 127.5); floats are taken as they are.
 */
#ifndef HEIMDALL_IQ_H
#define HEIMDALL_IQ_H

#include <stdbool.h>
#include <stdint.h>

#include "heimdall/backend.h"

typedef struct hd_iq {
	int64_t rows;          /* R >= 1 */
	int64_t samples;       /* n >= 1, per row */
	hd_dtype dtype;        /* of one component: HD_F32, HD_F64, HD_I16, HD_I8, HD_U8 */
	float scale;           /* 1, 1/32768, 1/128, 1/127.5 */
	double sample_rate_hz; /* as the file says; 0 where it does not */
	void *data;            /* (R,n,2); owned */
} hd_iq;

/* What a file says of itself beside its samples. */
typedef struct hd_iq_info {
	const char *format; /* "npy", "wav", "kiwisdr", "sigmf", "raw" */
	int64_t rows, samples;
	hd_dtype dtype;                     /* as hd_iq_read gives it */
	double sample_rate_hz;              /* of the header; 0 where it does not say */
	double true_rate_hz;                /* fitted to the file's own time stamps; NaN where it has none */
	double frequency_hz;                /* centre; NaN */
	double start_s;                     /* Unix time of the first sample; NaN */
	double latitude_deg, longitude_deg; /* of the transmitter, from annotations; NaN */
	int64_t stamps;                     /* time stamps in the file */
	int64_t stale_stamps;               /* of those, from before the recording started */
	int64_t gaps;                       /* places where the stamps say that samples are missing */
} hd_iq_info;

/* Formats of bare samples. */
typedef enum hd_raw_format { HD_RAW_AUTO, HD_RAW_CU8, HD_RAW_CS8, HD_RAW_CS16, HD_RAW_CF32 } hd_raw_format;

/*
 * Reads a recording; "-" is standard input. "file.npy#2" takes row 2 of a file of several rows, where no file of
 * the whole name exists. raw: what to take files of no known format for; HD_RAW_AUTO goes by the name's ending
 * (.cu8 .cs8 .cs16 .cf32, and the same with a leading dot-separated part) and refuses others. info may be NULL.
 * HD_E_DATA with the file, the reason and what would be right; HD_E_IO where it cannot be read. A file that is
 * refused costs less than 10 MB of memory, whatever its header promises.
 */
hd_status hd_iq_read(hd_iq *out, hd_iq_info *info, const char *path, hd_raw_format raw);

/* The same without the samples: of a file, as little as its format allows is read. Not for standard input. */
hd_status hd_iq_probe(hd_iq_info *out, const char *path, hd_raw_format raw);

/* Whether the file of a recording, written as for hd_iq_read, is there. */
bool hd_iq_exists(const char *path);

/* Splits "file.npy#2" as hd_iq_read does; row -1 where none is named. */
void hd_iq_split_row(char file[4096], int64_t *row, const char *path);

/* Samples from .. from + count of a row as floats of full scale 1: out (count,2). */
void hd_iq_to_float(float *out, const hd_iq *iq, int64_t row, int64_t from, int64_t count);

void hd_iq_free(hd_iq *iq); /* NULL-safe; leaves zeroes */

/*
 * Writes one .npy (version 1, C order, little endian) of any dtype and up to 4 dimensions, through a
 * temporary file that is renamed. descr: numpy's, such as "<f4", "<i2", "<c8". shape[ndim] in elements of descr.
 */
hd_status hd_npy_write(
        const char *path, const char *descr, const int64_t *shape, int ndim, const void *data, size_t bytes);

#endif
