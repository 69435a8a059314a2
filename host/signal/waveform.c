/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/waveform.h"

#include <string.h>

#define FORMANTS 4
#define LIMIT 0.87f
#define SPEECH_RMS 0.35 /* of full deviation before the limiter, a usual setting of microphone gain */

/* Formants of vowels, Hz: Peterson and Barney 1952, men's averages; the fourth is held. */
static const double vowels[][3] = {{270, 2290, 3010}, {390, 1990, 2550}, {530, 1840, 2480}, {660, 1720, 2410},
        {730, 1090, 2440}, {570, 840, 2410}, {440, 1020, 2240}, {300, 870, 2240}, {640, 1190, 2390}, {490, 1350, 1690}};
#define VOWELS ((int)(sizeof vowels / sizeof *vowels))
static const double bandwidths_hz[FORMANTS] = {60, 90, 150, 200};

hd_signal_type hd_signal_draw(double voice_share, double tone_share, hd_random *random)
{
	double u = hd_random_uniform(random);
	return u < voice_share ? HD_SIGNAL_VOICE : u < voice_share + tone_share ? HD_SIGNAL_TONE : HD_SIGNAL_DTMF;
}

const char *hd_signal_name(hd_signal_type type)
{
	static const char *const names[] = {"voice", "tone", "dtmf"};
	return names[type];
}

/* Resonator y = a x + b y1 + c y2 (Klatt 1980, eq. 1 to 4). */
typedef struct resonator {
	double y1, y2;
} resonator;

static double resonate(resonator *r, double x, double hz, double bandwidth_hz, double rate_hz)
{
	double c = -exp(-2 * M_PI * bandwidth_hz / rate_hz);
	double b = 2 * exp(-M_PI * bandwidth_hz / rate_hz) * cos(2 * M_PI * hz / rate_hz);
	double y = (1 - b - c) * x + b * r->y1 + c * r->y2;
	r->y2 = r->y1;
	r->y1 = y;
	return y;
}

static void scale_to_rms(float *audio, int64_t n, double rms)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += (double)audio[i] * (double)audio[i];
	double scale = sum > 0 ? rms / sqrt(sum / (double)n) : 0;
	for (int64_t i = 0; i < n; i++)
		audio[i] = (float)((double)audio[i] * scale);
}

#define SYLLABLE_S 0.18
#define COEFFICIENT_STEP 32 /* samples between new formant positions */

static void render_voice(float *audio, int64_t n, double rate_hz, hd_random *random)
{
	resonator chain[FORMANTS] = {{0, 0}};
	double pitch_hz = hd_random_between(random, 90, 220), period = 0,
	       breath = hd_random_between(random, 0.02, 0.15);
	int from = (int)(hd_random_uniform(random) * VOWELS), to = (int)(hd_random_uniform(random) * VOWELS);
	double at = hd_random_uniform(random), loud = 1, previous = 0;
	double hz[FORMANTS] = {500, 1500, 2500, 3500};
	for (int64_t i = 0; i < n; i++) {
		at += 1 / (SYLLABLE_S * rate_hz);
		if (at >= 1) {
			at -= 1;
			from = to;
			to = (int)(hd_random_uniform(random) * VOWELS);
			loud = hd_random_uniform(random) < 0.1 ? 0.02 : hd_random_between(random, 0.5, 1);
		}
		if (i % COEFFICIENT_STEP == 0)
			for (int f = 0; f < FORMANTS - 1; f++)
				hz[f] = vowels[from][f] + (vowels[to][f] - vowels[from][f]) * at;
		period -= 1;
		double pulse = 0;
		if (period <= 0) {
			pulse = 1;
			period += rate_hz / (pitch_hz * hd_random_between(random, 0.97, 1.03));
		}
		/* two leaky steps give the glottal pulse its fall of 12 dB per octave */
		double source = pulse + breath * 0.1 * (hd_random_uniform(random) - 0.5);
		previous += 0.1 * (source * loud - previous);
		double y = previous;
		for (int f = 0; f < FORMANTS; f++)
			if (hz[f] < rate_hz / 2)
				y = resonate(&chain[f], y, hz[f], bandwidths_hz[f], rate_hz);
		audio[i] = (float)y;
	}
	scale_to_rms(audio, n, SPEECH_RMS);
}

static void render_tones(float *audio, int64_t n, double rate_hz, const double hz[2], hd_random *random)
{
	double start[2] = {hd_random_between(random, 0, 2 * M_PI), hd_random_between(random, 0, 2 * M_PI)};
	double height = hz[1] > 0 ? 0.45 : 0.7;
	for (int64_t i = 0; i < n; i++) {
		double y = sin(start[0] + 2 * M_PI * hz[0] * (double)i / rate_hz);
		if (hz[1] > 0)
			y += sin(start[1] + 2 * M_PI * hz[1] * (double)i / rate_hz);
		audio[i] = (float)(height * y);
	}
}

void hd_audio_render(float *audio, int64_t n, double rate_hz, hd_signal_type type, hd_random *random)
{
	/* ITU-T Q.23: rows and columns of the keypad */
	static const double rows_hz[4] = {697, 770, 852, 941}, columns_hz[4] = {1209, 1336, 1477, 1633};
	double hz[2] = {0, 0};
	switch (type) {
	case HD_SIGNAL_VOICE:
		render_voice(audio, n, rate_hz, random);
		return;
	case HD_SIGNAL_TONE:
		hz[0] = hd_random_between(random, 300, 2500);
		break;
	case HD_SIGNAL_DTMF:
		hz[0] = rows_hz[hd_random_word(random) % 4];
		hz[1] = columns_hz[hd_random_word(random) % 4];
		break;
	}
	render_tones(audio, n, rate_hz, hz, random);
}

/* Second-order low-pass section of quality q, by the bilinear transform, in place. */
static void low_pass(float *x, int64_t n, double rate_hz, double hz, double q)
{
	double k = tan(M_PI * fmin(hz, 0.45 * rate_hz) / rate_hz), norm = 1 / (1 + k / q + k * k);
	double b0 = k * k * norm, a1 = 2 * (k * k - 1) * norm, a2 = (1 - k / q + k * k) * norm;
	double x1 = 0, x2 = 0, y1 = 0, y2 = 0;
	for (int64_t i = 0; i < n; i++) {
		double y = b0 * ((double)x[i] + 2 * x1 + x2) - a1 * y1 - a2 * y2;
		x2 = x1;
		x1 = (double)x[i];
		y2 = y1;
		y1 = y;
		x[i] = (float)y;
	}
}

void hd_fm_phase(double *phase, float *audio, int64_t n, double rate_hz, double deviation_hz, double pre_emphasis_us,
        hd_random *random)
{
	double slope = pre_emphasis_us * 1e-6 * rate_hz, before = n ? (double)audio[0] : 0, sum = 0, squares = 0;
	for (int64_t i = 0; i < n; i++) {
		double x = (double)audio[i];
		squares += x * x;
		audio[i] = (float)(x + slope * (x - before));
		before = x;
	}
	/* pre-emphasis lifts high tones; the gain is set back so that the limiter works as on the plain audio */
	scale_to_rms(audio, n, n ? sqrt(squares / (double)n) : 0);
	/* the low-pass behind the limiter overshoots by about 15 %: limited a little lower, deviation_hz is the peak */
	for (int64_t i = 0; i < n; i++)
		audio[i] = fminf(fmaxf(audio[i], -LIMIT), LIMIT);
	low_pass(audio, n, rate_hz, HD_AUDIO_TOP_HZ, 0.54119610); /* 1/(2 cos(pi/8)) and 1/(2 cos(3 pi/8)) */
	low_pass(audio, n, rate_hz, HD_AUDIO_TOP_HZ, 1.30656296);
	sum = hd_random_between(random, 0, 2 * M_PI);
	for (int64_t i = 0; i < n; i++) {
		sum += 2 * M_PI * deviation_hz / rate_hz * (double)audio[i];
		phase[i] = sum;
	}
}
