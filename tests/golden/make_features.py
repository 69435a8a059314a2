#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes features.safetensors: IQ, power spectrograms and mel levels in dB, computed in double precision.

Debian's python3-numpy and python3-scipy. The scipy convention is scipy.signal.stft itself; the librosa one
(center=True, pad_mode="constant") and the mel filters follow their definitions. Each case has four tensors:
NAME.settings (rate, n_fft, hop, n_mels, f_min, f_max, convention, mel scale, mel norm; the last three as the C
enumerations number them), NAME.iq (R,n,2), NAME.power (R,T,F) and NAME.db (R,M,T).
"""
import pathlib

import numpy as np
from scipy import signal

import safetensors_file

SCIPY, LIBROSA = 0, 1
HTK, SLANEY = 0, 1
NONE, SLANEY_NORM = 0, 1
FLOOR = 1e-9
FULL_SCALE = {"float32": 1.0, "float64": 1.0, "int16": 32768.0}

# name: IQ dtype, R, n, settings
CASES = {
    # hop does not divide n
    "scipy_complex64": ("float32", 3, 1000, (12000, 256, 64, 32, 0, 0, SCIPY, HTK, NONE)),
    # hop divides n, but not n_fft
    "scipy_int16_slaney": ("int16", 2, 960, (12000, 128, 48, 24, 100, 5000, SCIPY, SLANEY, SLANEY_NORM)),
    # n < n_fft
    "scipy_short": ("float64", 2, 100, (12000, 256, 64, 20, 0, 0, SCIPY, HTK, NONE)),
    "scipy_one_sample": ("float64", 1, 1, (12000, 64, 16, 8, 0, 0, SCIPY, HTK, NONE)),
    # hop equal to n_fft
    "scipy_no_overlap": ("float32", 1, 500, (48000, 64, 64, 12, 300, 20000, SCIPY, SLANEY, NONE)),
    # the sizes of a normal run
    "scipy_default": ("int16", 1, 5001, (192000, 2048, 512, 128, 0, 0, SCIPY, HTK, NONE)),
    "librosa_complex64": ("float32", 2, 777, (22050, 256, 100, 40, 0, 0, LIBROSA, SLANEY, SLANEY_NORM)),
    "librosa_whole_hops": ("float64", 1, 512, (22050, 128, 64, 16, 50, 8000, LIBROSA, HTK, SLANEY_NORM)),
    "librosa_short": ("int16", 2, 60, (12000, 128, 32, 10, 0, 0, LIBROSA, HTK, NONE)),
}


def make_iq(rng, dtype, rows, n, rate):
    """Amplitude- and frequency-modulated carriers in noise; the last of three rows is silent."""
    t = np.arange(n) / rate
    iq = np.empty((rows, n), complex)
    for r in range(rows):
        envelope = 0.5 + 0.3 * np.cos(2 * np.pi * rate / (11 + 7 * r) * t) * np.exp(-3 * t / t[-1] if n > 1 else 0)
        phase = 2 * np.pi * 0.11 * rate * t + 4 * np.sin(2 * np.pi * 0.01 * rate * t)
        noise = rng.normal(0, 0.03, n) + 1j * rng.normal(0, 0.03, n)
        iq[r] = envelope * np.exp(1j * phase) + noise if r < 2 else 0
    pairs = np.stack([iq.real, iq.imag], -1) * FULL_SCALE[dtype]
    return np.rint(pairs).astype(dtype) if dtype == "int16" else pairs.astype(dtype)


def power_scipy(x, n_fft, hop):
    n = x.shape[-1]
    frames = -(-n // hop) + 1
    # scipy would shorten the window to a shorter signal; zeros behind it are what its boundary holds anyway
    x = np.pad(x, ((0, 0), (0, max(0, n_fft - n))))
    z = signal.stft(x, 1.0, "hann", n_fft, n_fft - hop, boundary="zeros", padded=True, return_onesided=True)[2]
    return (np.abs(z) ** 2).transpose(0, 2, 1)[:, :frames]


def power_librosa(x, n_fft, hop):
    frames = x.shape[-1] // hop + 1
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    x = np.pad(x, ((0, 0), (n_fft // 2, n_fft // 2)))
    blocks = np.stack([x[:, t * hop:t * hop + n_fft] for t in range(frames)], 1)
    return np.abs(np.fft.rfft(blocks * window)) ** 2


def hz_to_mel(hz, scale):
    if scale == HTK:
        return 2595 * np.log10(1 + hz / 700)
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def mel_to_hz(mel, scale):
    if scale == HTK:
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, 200 * mel / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def mel_filters(rate, n_fft, n_mels, f_min, f_max, scale, norm):
    """(M,F) triangles between points equally spaced in mel."""
    top = f_max if f_max > 0 else rate / 2
    edges = mel_to_hz(np.linspace(hz_to_mel(f_min, scale), hz_to_mel(top, scale), n_mels + 2), scale)
    f = np.fft.rfftfreq(n_fft, 1 / rate)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.maximum(0, np.minimum((f - low) / (middle - low), (high - f) / (high - middle)))
    return filters * (2 / (high - low) if norm == SLANEY_NORM else 1)


def main():
    rng = np.random.default_rng(11)
    out = {}
    for name, (dtype, rows, n, settings) in CASES.items():
        rate, n_fft, hop, n_mels, f_min, f_max, convention, scale, norm = settings
        iq = make_iq(rng, dtype, rows, n, rate)
        pairs = iq.astype(float) / FULL_SCALE[dtype]
        x = np.hypot(pairs[..., 0], pairs[..., 1])
        power = power_scipy(x, n_fft, hop) if convention == SCIPY else power_librosa(x, n_fft, hop)
        filters = mel_filters(rate, n_fft, n_mels, f_min, f_max, scale, norm)
        db = 10 * np.log10(np.einsum("mf,rtf->rmt", filters, power) + FLOOR)
        out[name + ".settings"] = np.array(settings, dtype=float)
        out[name + ".iq"] = iq
        out[name + ".power"] = power.astype(np.float32)
        out[name + ".db"] = db.astype(np.float32)
        print(f"{name}: power {power.shape}, {db.min():.1f} to {db.max():.1f} dB, "
              f"{np.sum(filters.sum(1) == 0)} empty filters")
    path = pathlib.Path(__file__).with_name("features.safetensors")
    safetensors_file.write(path, out)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
