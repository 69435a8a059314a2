/* SPDX-License-Identifier: Apache-2.0 */
/* What the transmitter says: audio of voice, tone or DTMF, and the phase of the FM carrier it makes. */
#ifndef HD_SIGNAL_WAVEFORM_H
#define HD_SIGNAL_WAVEFORM_H

#include <stdint.h>

#include "host/signal/random.h"

/* Audio bandwidth of the transmitter. */
#define HD_AUDIO_TOP_HZ 3000.0

typedef enum hd_signal_type { HD_SIGNAL_VOICE, HD_SIGNAL_TONE, HD_SIGNAL_DTMF } hd_signal_type;

const char *hd_signal_name(hd_signal_type type); /* "voice", "tone", "dtmf" */

/* Draws a type: voice and tone with their shares, DTMF with the rest. */
hd_signal_type hd_signal_draw(double voice_share, double tone_share, hd_random *random);

/*
 * Audio of n samples at rate_hz, about -1..1. Voice is source and filter (Fant 1960): glottal pulses with
 * jitter and breath through four formant resonators (Klatt 1980) that glide between vowels, with pauses.
 */
void hd_audio_render(float *audio, int64_t n, double rate_hz, hd_signal_type type, hd_random *random);

/*
 * Carrier phase in radians of an FM transmitter: audio is pre-emphasised (time constant in us), limited to the
 * peak deviation and low-passed at 3 kHz (Butterworth, 4th order). phase (n) starts at a random value. audio is
 * overwritten with the modulating signal, within -1..1 up to the low-pass's overshoot.
 */
void hd_fm_phase(double *phase, float *audio, int64_t n, double rate_hz, double deviation_hz, double pre_emphasis_us,
        hd_random *random);

#endif
