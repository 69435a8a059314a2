/* SPDX-License-Identifier: Apache-2.0 */
/* What measurements of one recording mean. */
#include "heimdall/health.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

#define CLIPPED_SHARE 1e-3      /* one sample in a thousand: its splatter reaches the level of weak signals' noise */
#define SILENT_SHARE 0.5        /* more silence than signal */
#define DROPOUT_S 0.005         /* a lost buffer; noise of a receiver that is on is never 0 for so long */
#define DROPOUT_SAMPLES 64      /* the same at low rates, where 5 ms are few samples */
#define DC_DB (-10.0)           /* a tenth of the power: the line at 0 Hz stands beside the signal */
#define DC_STEADY_SHARE 0.97    /* an offset is always there; a carrier at 0 Hz that is keyed or modulated is not */
#define GAIN_DB 1.0             /* image 25 dB under the signal; receivers that are in order reach 35 */
#define PHASE_DEG 5.0           /* image 27 dB under the signal */
#define IMBALANCE_SAMPLES 4096  /* fewer give such values by chance */
#define DEAD_CHANNEL_DB 40.0    /* I against Q: no imbalance, one wire is off */
#define OVER_SCALE 10.0         /* floats of another unit than full scale = 1 */
#define TRUE_RATE_PPM 1.0       /* what a fit to GPS stamps resolves in half a minute */
#define TRUE_RATE_FAR_PPM 100.0 /* more than any crystal is off: the header or the stamps are wrong */
#define RATE_CONFLICT 1e-3      /* between header and catalogue: one of them names another rate, not a rounded one */

const char *hd_severity_name(hd_severity severity)
{
	static const char *const names[] = {"info", "warn", "sick"};
	return names[severity];
}

typedef struct row {
	hd_severity severity;
	const char *name, *text;
} row;

static const row table[HD_FINDING_COUNT] = {
#define X(name, severity, text) {HD_##severity, #name, text},
        HD_FINDINGS(X)
#undef X
};

hd_severity hd_finding_severity(hd_finding finding)
{
	return table[finding].severity;
}

const char *hd_finding_name(hd_finding finding)
{
	return table[finding].name;
}

const char *hd_finding_text(hd_finding finding)
{
	return table[finding].text;
}

hd_status hd_notes_add(hd_notes *notes, hd_finding finding, const char *format, ...)
{
	hd_status st = hd_grow(&notes->list, &notes->capacity, notes->count + 1, sizeof *notes->list);
	if (st != HD_OK)
		return st;
	hd_note *note = &notes->list[notes->count];
	va_list args;
	va_start(args, format);
	int used = vasprintf(&note->text, format, args);
	va_end(args);
	if (used < 0) {
		note->text = NULL;
		return hd_fail(HD_E_MEMORY, "out of host memory");
	}
	note->finding = finding;
	notes->count++;
	return HD_OK;
}

bool hd_notes_has(const hd_notes *notes, hd_finding finding)
{
	for (size_t i = 0; i < notes->count; i++)
		if (notes->list[i].finding == finding)
			return true;
	return false;
}

bool hd_notes_sick(const hd_notes *notes)
{
	for (size_t i = 0; i < notes->count; i++)
		if (hd_finding_severity(notes->list[i].finding) == HD_SICK)
			return true;
	return false;
}

void hd_notes_free(hd_notes *notes)
{
	if (!notes)
		return;
	for (size_t i = 0; i < notes->count; i++)
		free(notes->list[i].text);
	free(notes->list);
	*notes = (hd_notes){0};
}

double hd_health_rate_hz(const hd_iq_info *info, const hd_expectation *expected)
{
	if (isfinite(info->true_rate_hz) && info->true_rate_hz > 0)
		return info->true_rate_hz;
	if (info->sample_rate_hz > 0)
		return info->sample_rate_hz;
	return expected->catalog_rate_hz > 0 ? expected->catalog_rate_hz : fmax(expected->configured_rate_hz, 0);
}

/* "0.412 s", or samples where the rate is unknown. */
static const char *span_text(char *text, size_t bytes, const hd_health *h, int64_t samples)
{
	if (h->rate_hz > 0)
		snprintf(text, bytes, "%.*f s", samples < h->rate_hz / 10 ? 4 : 2, (double)samples / h->rate_hz);
	else
		snprintf(text, bytes, "%lld samples", (long long)samples);
	return text;
}

static hd_status judge_dropout(hd_notes *notes, const hd_health *h)
{
	char text[48];
	double least = fmax(DROPOUT_SAMPLES, h->rate_hz * DROPOUT_S);
	if ((double)h->longest_zeros < least)
		return HD_OK;
	return hd_notes_add(notes, HD_FOUND_DROPOUT, "run of exact zeros: %s, %.2g %% of all samples are zero",
	        span_text(text, sizeof text, h, h->longest_zeros), 100 * h->zero_share);
}

static hd_status judge_balance(hd_notes *notes, const hd_health *h)
{
	hd_status st = HD_OK;
	bool moments = h->imbalance_sure && h->samples >= IMBALANCE_SAMPLES;
	if (fabs(h->channel_balance_db) >= DEAD_CHANNEL_DB)
		return hd_notes_add(
		        notes, HD_FOUND_ONE_CHANNEL, "only %s carries a signal", h->channel_balance_db > 0 ? "I" : "Q");
	if (h->dc_db > DC_DB && h->dc_steady_share > DC_STEADY_SHARE)
		HD_TRY(hd_notes_add(notes, HD_FOUND_DC_SPIKE, "DC offset: %.1f dB of the whole power", h->dc_db));
	if (moments && (fabs(h->gain_imbalance_db) > GAIN_DB || fabs(h->phase_error_deg) > PHASE_DEG))
		HD_TRY(hd_notes_add(notes, HD_FOUND_IQ_IMBALANCE, "I/Q imbalance: gain %+.2f dB, phase %+.1f degrees",
		        h->gain_imbalance_db, h->phase_error_deg));
done:
	return st;
}

static hd_status judge_signal(hd_notes *notes, const hd_health *h, const hd_expectation *expected)
{
	hd_status st = HD_OK;
	char text[48];
	if (h->nonfinite)
		HD_TRY(hd_notes_add(
		        notes, HD_FOUND_NON_FINITE, "NaN or infinity: %lld values", (long long)h->nonfinite));
	if (h->all_zero && expected->zeros_are_missing)
		return hd_notes_add(notes, HD_FOUND_RECEIVER_MISSING, "all zeros: the receiver is missing");
	if (h->constant)
		return hd_notes_add(notes, HD_FOUND_CONSTANT, "every sample is the same%s", h->all_zero ? ": 0" : "");
	if (h->clipped_share > CLIPPED_SHARE)
		HD_TRY(hd_notes_add(
		        notes, HD_FOUND_CLIPPED, "clipped: %.3g %% of the samples", 100 * h->clipped_share));
	if (h->dead_share > SILENT_SHARE)
		return hd_notes_add(notes, HD_FOUND_SILENT, "silent: %.0f %% of the time, %s on end",
		        100 * h->dead_share, span_text(text, sizeof text, h, h->longest_silence));
	if (h->silent_share > SILENT_SHARE)
		HD_TRY(hd_notes_add(notes, HD_FOUND_FAINT,
		        "faint: %.0f %% of the time under -80 dBFS, where features end", 100 * h->silent_share));
	if (h->jump_db != 0)
		HD_TRY(hd_notes_add(notes, HD_FOUND_LEVEL_JUMP, "level and noise floor jump by %+.0f dB at %s",
		        h->jump_db, span_text(text, sizeof text, h, h->jump_sample)));
	HD_TRY(judge_dropout(notes, h));
	HD_TRY(judge_balance(notes, h));
	if ((h->dtype == HD_F32 || h->dtype == HD_F64) && h->peak > OVER_SCALE)
		HD_TRY(hd_notes_add(notes, HD_FOUND_OVER_SCALE, "values up to %.4g, full scale is 1", h->peak));
done:
	return st;
}

static hd_status judge_true_rate(hd_notes *notes, const hd_iq_info *info)
{
	if (!isfinite(info->true_rate_hz) || !(info->sample_rate_hz > 0))
		return HD_OK;
	double ppm = 1e6 * (info->true_rate_hz / info->sample_rate_hz - 1);
	if (fabs(ppm) < TRUE_RATE_PPM)
		return HD_OK;
	return hd_notes_add(notes, fabs(ppm) > TRUE_RATE_FAR_PPM ? HD_FOUND_TRUE_RATE_FAR : HD_FOUND_TRUE_RATE,
	        "true rate %.2f Hz, header says %.10g Hz (%.0f ppm)", info->true_rate_hz, info->sample_rate_hz, ppm);
}

static hd_status judge_rates(hd_notes *notes, const hd_iq_info *info, const hd_expectation *expected)
{
	hd_status st;
	double header = info->sample_rate_hz, catalog = expected->catalog_rate_hz, want = expected->configured_rate_hz;
	double rate = catalog > 0 ? catalog : header;
	HD_TRY(judge_true_rate(notes, info));
	if (header > 0 && catalog > 0 && fabs(header - catalog) > RATE_CONFLICT * catalog)
		HD_TRY(hd_notes_add(notes, HD_FOUND_RATE_CONFLICT, "header says %.10g Hz, the catalogue %.10g Hz",
		        header, catalog));
	if (!(rate > 0))
		st = want > 0 ? hd_notes_add(
		                        notes, HD_FOUND_RATE_MISSING, "no sample rate given, taken as %.10g Hz", want)
		              : hd_notes_add(notes, HD_FOUND_RATE_MISSING, "no sample rate given");
	else if (want > 0 && !expected->resample && hd_rate_differs(rate, want))
		st = hd_notes_add(notes, HD_FOUND_RATE_OTHER, "rate %.10g Hz, --sample_rate is %.10g Hz, no --resample",
		        rate, want);
done:
	return st;
}

hd_status hd_health_judge(
        hd_notes *notes, const hd_health *health, const hd_iq_info *info, const hd_expectation *expected)
{
	hd_status st;
	HD_TRY(judge_signal(notes, health, expected));
	HD_TRY(judge_rates(notes, info, expected));
	if (info->stale_stamps)
		HD_TRY(hd_notes_add(notes, HD_FOUND_STALE_STAMPS, "stale GPS stamps: the first %lld of %lld",
		        (long long)info->stale_stamps, (long long)info->stamps));
	if (info->gaps)
		HD_TRY(hd_notes_add(
		        notes, HD_FOUND_GAPS, "samples missing by the time stamps: %lld gaps", (long long)info->gaps));
	double rate = hd_health_rate_hz(info, expected), samples = (double)health->samples;
	if (expected->resample && rate > 0)
		samples *= expected->configured_rate_hz / rate;
	if (expected->input_samples && samples < (double)expected->input_samples)
		HD_TRY(hd_notes_add(notes, HD_FOUND_SHORT, "%.0f samples%s, one network input takes %lld", samples,
		        expected->resample ? " at the common rate" : "", (long long)expected->input_samples));
done:
	return st;
}
