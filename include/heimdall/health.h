/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health of recordings: what is measured on one row of IQ, what is wrong with it, with a whole catalogue and with
 * a receiver over time.
 *
 * Decibels are of full scale: 0 dBFS is a complex tone of magnitude 1. Levels end at HD_HEALTH_FLOOR_DB. Functions
 * are thread-safe for different outputs.
 */
#ifndef HEIMDALL_HEALTH_H
#define HEIMDALL_HEALTH_H

#include "heimdall/catalog.h"
#include "heimdall/iq.h"

#define HD_HEALTH_FLOOR_DB (-200.0)

typedef enum hd_severity { HD_INFO, HD_SUSPECT, HD_SICK } hd_severity;

const char *hd_severity_name(hd_severity severity); /* "info", "warn", "sick" */

/* What can be found: name, severity, text of the table. */
#define HD_FINDINGS(X)                                                                                                 \
	X(UNREADABLE, SICK, "file missing or unreadable")                                                              \
	X(ROWS, SICK, "several rows where one is meant")                                                               \
	X(NON_FINITE, SICK, "NaN or infinity among the samples")                                                       \
	X(CONSTANT, SICK, "every sample is the same")                                                                  \
	X(SILENT, SICK, "silent")                                                                                      \
	X(FAINT, SUSPECT, "hardly above silence")                                                                      \
	X(ONE_CHANNEL, SICK, "only one of I and Q carries a signal")                                                   \
	X(CLIPPED, SICK, "clipped")                                                                                    \
	X(LEVEL_JUMP, SICK, "level and noise floor jump")                                                              \
	X(DUPLICATE, SICK, "same content as another recording")                                                        \
	X(RATE_CONFLICT, SICK, "rate of the header differs from the catalogue's")                                      \
	X(POSITION_MISSING, SICK, "position missing or 0,0")                                                           \
	X(POSITION_RANGE, SICK, "position out of range")                                                               \
	X(POSITION_SWAPPED, SICK, "latitude and longitude look swapped")                                               \
	X(POSITION_FAR, SICK, "position far from all others")                                                          \
	X(POSITIONS_DISAGREE, SICK, "position differs within one emission")                                            \
	X(DROPOUT, SUSPECT, "run of exact zeros")                                                                      \
	X(DC_SPIKE, SUSPECT, "DC offset")                                                                              \
	X(IQ_IMBALANCE, SUSPECT, "I/Q imbalance")                                                                      \
	X(OVER_SCALE, SUSPECT, "far above full scale 1.0")                                                             \
	X(GAPS, SUSPECT, "samples missing by the time stamps")                                                         \
	X(RATE_OTHER, SUSPECT, "rate differs from --sample_rate")                                                      \
	X(SHORT, SUSPECT, "shorter than one network input")                                                            \
	X(LENGTH_OTHER, SUSPECT, "length differs from most others")                                                    \
	X(TIME_FUTURE, SUSPECT, "timestamp in the future")                                                             \
	X(TRUE_RATE_FAR, SUSPECT, "true rate far from the header's")                                                   \
	X(TRUE_RATE, INFO, "true rate differs from the header's")                                                      \
	X(STALE_STAMPS, INFO, "stale GPS stamps at the start")                                                         \
	X(RATE_MISSING, INFO, "no sample rate given")                                                                  \
	X(TIME_MISSING, INFO, "timestamp missing")                                                                     \
	X(RECEIVER_MISSING, INFO, "all zeros: receiver missing")

typedef enum hd_finding {
#define X(name, severity, text) HD_FOUND_##name,
	HD_FINDINGS(X)
#undef X
	        HD_FINDING_COUNT
} hd_finding;

hd_severity hd_finding_severity(hd_finding finding);
const char *hd_finding_name(hd_finding finding); /* as in the list: "LEVEL_JUMP" */
const char *hd_finding_text(hd_finding finding); /* "level and noise floor jump" */

/* One thing found: which, and its text with the numbers, such as "clipped: 3.1 % of the samples". */
typedef struct hd_note {
	hd_finding finding;
	char *text; /* owned */
} hd_note;

typedef struct hd_notes {
	hd_note *list;
	size_t count, capacity;
} hd_notes;

hd_status hd_notes_add(hd_notes *notes, hd_finding finding, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
bool hd_notes_has(const hd_notes *notes, hd_finding finding);
bool hd_notes_sick(const hd_notes *notes);
void hd_notes_free(hd_notes *notes); /* NULL-safe; leaves zeroes */

/* Measurements of one row. */
typedef struct hd_health {
	int64_t samples;
	hd_dtype dtype;
	double rate_hz;            /* durations are by this one; 0 = unknown */
	double duration_s;         /* NaN where the rate is unknown */
	int64_t block;             /* samples of one block: 10 ms, at least 64, 2048 where the rate is unknown */
	int64_t nonfinite;         /* components that are NaN or infinite; they count as 0 below */
	bool constant;             /* every sample is the same */
	bool all_zero;             /* every sample is exactly 0 */
	double level_dbfs;         /* mean of I^2 + Q^2 */
	double peak;               /* largest |I| or |Q| */
	double clipped_share;      /* of the samples */
	double silent_share;       /* of the blocks: under -80 dBFS, or one value throughout */
	double dead_share;         /* of the blocks: under -86 dBFS, or one value throughout */
	int64_t longest_silence;   /* samples */
	double zero_share;         /* of the samples: exactly 0 + 0j */
	int64_t longest_zeros;     /* samples */
	double dc_db;              /* power of the mean against the whole power */
	double dc_steady_share;    /* of the blocks: their mean is within half of the whole mean */
	double gain_imbalance_db;  /* of I over Q */
	double phase_error_deg;    /* of the angle between I and Q to 90 degrees */
	bool imbalance_sure;       /* frequencies agree on both */
	double channel_balance_db; /* power of I over Q, mean removed, plain: +-HD_HEALTH_FLOOR_DB where one is dead */
	double jump_db;            /* of the noise floor, at jump_sample; 0 where there is none */
	int64_t jump_sample;
	uint64_t hash; /* of the samples as stored */
} hd_health;

/*
 * Measures one row of a recording. rate_hz: 0 where it is unknown.
 *
 * Clipped: at the ends of an integer type's range; for floats and 16 bits (converters of fewer bits) also runs of
 * 3 or more equal extreme values of I or of Q, unless the magnitude at them stays at that value too (a carrier of
 * constant envelope, without noise, rests there by itself).
 *
 * Imbalance, from second moments: with a = E[I^2], b = E[Q^2], c = E[IQ] the gain is sqrt(a/b) and the sine of the
 * phase error c/sqrt(ab), and E[z^2] = a - b + 2jc. An imbalance gives the same E[Z(f)Z(-f)]/E[|Z|^2] at every
 * frequency (complementary spectrum: Schreier and Scharf, Statistical Signal Processing of Complex-Valued Data, 2010),
 * a signal that lies symmetrically around 0 Hz only at its own. So the median over frequency stands for E[z^2] of
 * unit power; both values are 0 where too few frequencies are within 50 dB of the strongest. It is sure where it is
 * over four times the median deviation of the frequencies from it.
 *
 * Level jump: each block has a level and a noise floor (median over frequency of 64-point periodograms). A place where
 * the medians of the floor over the 5 blocks (50 ms) before and after differ by more than 20 dB is a step. One step in
 * the whole recording is a jump, if the medians over everything before and after it differ by more than 20 dB too, in
 * the floor and in the level. Several steps are bursts, and a signal that is keyed leaves the floor where it is:
 * neither is a jump. A signal that fills the whole band and starts once cannot be told from one.
 */
hd_status hd_health_measure(hd_health *out, const hd_iq *iq, int64_t row, double rate_hz);

/* What a recording is held against. Rates 0: unknown or any. */
typedef struct hd_expectation {
	double catalog_rate_hz;
	double configured_rate_hz;
	bool resample;          /* other rates are brought to the configured one */
	int64_t input_samples;  /* of one network input at the configured rate; 0: any length will do */
	bool zeros_are_missing; /* a row of zeros stands for a receiver that was not there */
} hd_expectation;

/* Rate a recording has: true, of the header, of the catalogue, configured, whichever is known first; 0 if none is. */
double hd_health_rate_hz(const hd_iq_info *info, const hd_expectation *expected);

/* Notes what is wrong with one recording by itself. */
hd_status hd_health_judge(
        hd_notes *notes, const hd_health *health, const hd_iq_info *info, const hd_expectation *expected);

/* A recording of a catalogue, or a file by itself, after it was measured. */
typedef struct hd_checked {
	const hd_recording *recording; /* NULL: a file by itself */
	const char *name;              /* what it is called in notes and tables */
	bool read;                     /* info and health hold something */
	hd_iq_info info;
	hd_health health;
	hd_notes notes;
} hd_checked;

/*
 * Notes what shows only beside the others: duplicates, lengths, positions, timestamps. now_s: Unix time.
 * A length is judged where more than half of the recordings are within 1 % of the median one, positions against the
 * median position where there are 8 or more: further than 100 km and than 5 times the interquartile extent (the 75th
 * percentile of the distances) is far.
 */
hd_status hd_health_compare(hd_checked *checked, size_t count, double now_s);

/* A receiver's recordings together. */
typedef struct hd_receiver_health {
	const char *name;
	size_t recordings, read, sick;
	double level_dbfs, mad_db; /* median level, median absolute deviation; NaN where nothing was read */
	double shift_db;           /* of the level, at shift_s; 0 where it has none */
	double shift_s;            /* Unix time of the first recording after the shift */
} hd_receiver_health;

/*
 * One entry per receiver of a catalogue, in natural order of names; names point into the catalogue. Owned by the
 * caller (free()).
 *
 * Shift: Pettitt's test (A. N. Pettitt, Applied Statistics 28, 1979) on the levels in order of time, with 10
 * recordings or more on both sides: p = 2 exp(-6 K^2 / (n^3 + n^2)) < 0.001, and medians more than 10 dB apart. It
 * says that levels moved, not why: a transmitter that came nearer looks the same.
 */
hd_status hd_health_receivers(hd_receiver_health **out, size_t *out_count, const hd_checked *checked, size_t count);

/* ---- what pictures and the judgement share ---- */

/* 10 log10, not below HD_HEALTH_FLOOR_DB. */
double hd_health_db(double power);

/* Unix time of a recording by the catalogue, else by its file; NaN where neither says. */
double hd_health_time_s(const hd_checked *checked);

#endif
