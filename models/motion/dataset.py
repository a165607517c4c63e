"""Training batches: synthetic speech with its targets, and everything that real recordings do to speech."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import phonesets
import torch
import visemes
from network import mel_matrix
from sizes import BEHIND, EXTRA, LABELS, OUTPUTS, RATE
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
SECONDS = 4.0
SAMPLES = int(SECONDS * RATE)
STEPS = int(SECONDS * 50)
TRACK_RATE = 100
TRACKS = OUTPUTS
BEFORE = 7  # steps that describe a time before the first sample
WARPS = np.linspace(0.84, 1.19, 21)


# ------------------------------------------------------------------ reading
def retimed(name: str, phones: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Phone times brought to one convention: a stop begins when its closure does.

    Measured by where the energy falls after a vowel: most engines 10-20 ms after the label, the Russian
    unit-selection voice 5 ms before it, espeak-ng 40 ms before it (it labels the burst).
    """
    if name.startswith("msu_ru"):
        return [(p, max(0.0, s - 0.018), max(0.0, e - 0.018)) for p, s, e in phones]
    if not name.startswith("espeak"):
        return phones
    starts = [max(0.0, s - 0.010) for _, s, _ in phones]
    for i, (phone, _, _) in enumerate(phones):
        if i and phone[:1] in tuple("ptkcqʈ") and phones[i - 1][0]:
            room = starts[i] - starts[i - 1]
            starts[i] -= min(0.045, 0.5 * room)
    ends = [*starts[1:], phones[-1][2]]
    return [(p, s, e) for (p, _, _), s, e in zip(phones, starts, ends, strict=True)]


def pitch_track(pcm: Array, count: int) -> Array:
    """Fundamental in semitones over 55 Hz at 100 Hz, 0 where there is no voice (autocorrelation of 40 ms)."""
    x = np.pad(pcm, (320, 1024))
    frames = np.lib.stride_tricks.sliding_window_view(x, 640)[::160][:count] * np.hanning(640)
    spectrum = np.abs(np.fft.rfft(frames, 1280)) ** 2
    spectrum[:, 100:] = 0  # under 1250 Hz
    r = np.fft.irfft(spectrum)[:, 40:260]
    energy = spectrum.sum(1) * 2 / 1280 + 1e-6
    best = r.argmax(1)
    voiced = r.max(1) > 0.45 * energy
    f0 = RATE / (best + 40.0)
    return np.where(voiced, 12 * np.log2(f0 / 55), 0).astype(np.float32)


def smooth(x: Array, sigma: float) -> Array:
    """Gaussian smoothing, sigma in samples."""
    k = np.arange(-int(3 * sigma), int(3 * sigma) + 1)
    g = np.exp(-0.5 * (k / sigma) ** 2)
    return np.convolve(np.pad(x, len(k) // 2, mode="edge"), g / g.sum(), "valid").astype(np.float32)[: len(x)]


def brow_track(pcm: Array, count: int) -> Array:
    """Brow lift 0..1 from loud syllables and pitch peaks, at 100 Hz."""
    x = np.pad(pcm, (0, 1600))
    power = np.convolve(x**2, np.ones(640) / 640, "same")[::160][:count]
    loud = 10 * np.log10(power + 1e-7)
    speech = loud > loud.max() - 25
    if speech.sum() < 20:
        return np.zeros(count, np.float32)
    stress = np.clip((loud - np.percentile(loud[speech], 75)) / 6, 0, 1)
    pitch = pitch_track(pcm, count)
    voiced = pitch > 0
    rise = np.zeros(count)
    if voiced.sum() > 20:
        rise = np.clip((pitch - np.median(pitch[voiced]) - 2) / 5, 0, 1) * voiced
    return np.clip(smooth((0.25 * stress + 0.45 * rise).astype(np.float32), 9), 0, 0.5)


def blink_track(segments: list[visemes.Segment], times: Array) -> Array:
    """A blink 0..1 at the end of every phrase: 0.1 s after the last phone, 60 ms down, 160 ms up."""
    out = np.zeros(len(times), np.float32)
    for s in visemes.merged_silences(segments):
        if s.viseme == "sil" and s.end - s.start > 0.28 and s.start > 0.6:
            t = times - (s.start + 0.10)
            out = np.maximum(out, np.clip(np.minimum(t / 0.06, (0.26 - t) / 0.16), 0, 1))
    return out


@dataclass(frozen=True)
class Utterance:
    """Sound and its tracks [T, LABELS + 4] at 100 Hz (dominance, shut, bite, brow, blink)."""

    pcm: NDArray[np.int16]
    tracks: NDArray[np.float16]


def tracks_of(segments: list[visemes.Segment], pcm: Array) -> NDArray[np.float16]:
    """What the network shall say, at 100 Hz from the start of the sound."""
    count = len(pcm) // 160 + 1
    times = (np.arange(count) / TRACK_RATE).astype(np.float32)
    out = np.zeros((count, TRACKS), np.float32)
    out[:, :LABELS] = visemes.dominance(segments, times)
    out[:, LABELS] = visemes.gate(segments, "pbm", times)
    out[:, LABELS + 1] = visemes.gate(segments, "fv", times, 0.055)
    out[:, LABELS + 2] = brow_track(pcm, count)
    out[:, LABELS + 3] = blink_track(segments, times)
    return out.astype(np.float16)


def load_voice(path: Path, limit: int | None = None) -> list[Utterance]:
    """All sentences of a voice made by synthesise.py."""
    z = np.load(path)
    pcm, offsets, phoneset = z["pcm"], z["offsets"], str(z["phoneset"])
    out = []
    for i, phones in enumerate(json.loads(str(z["phones"]))[:limit]):
        sound = pcm[offsets[i] : offsets[i + 1]]
        segments: list[visemes.Segment] = []
        for phone, s, e in retimed(path.stem, phones):
            segments += visemes.split(phonesets.visemes_of(phoneset, phone), s, e)
        out.append(Utterance(sound, tracks_of(segments, sound.astype(np.float32) / 32768)))
    return out


def through_codec(pcm: NDArray[np.int16], codec: str, bit_rate: int) -> NDArray[np.int16]:
    """PCM after a lossy codec, its delay taken out by correlation."""
    buffer = io.BytesIO()
    rate = 48000 if codec == "libopus" else RATE
    with av.open(buffer, "w", format="ogg" if codec == "libopus" else "mp3") as box:
        stream = box.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bit_rate
        resampler = av.AudioResampler(format=stream.codec_context.format or "fltp", layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[None]), format="s16", layout="mono")
        frame.sample_rate = RATE
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            box.mux(stream.encode(part))
        box.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as box:
        back = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        parts = [g.to_ndarray().ravel() for f in box.decode(audio=0) for g in back.resample(f)]
        parts += [g.to_ndarray().ravel() for g in back.resample(None)]
    out = np.concatenate(parts)
    n = 1 << int(np.ceil(np.log2(len(out) + len(pcm))))
    c = np.fft.irfft(np.fft.rfft(out.astype(np.float32), n) * np.conj(np.fft.rfft(pcm.astype(np.float32), n)), n)
    lag = int(np.argmax(c[:4000]))
    out = out[lag : lag + len(pcm)]
    return np.pad(out, (0, len(pcm) - len(out)))


# ------------------------------------------------------------------ noises
def noise_pool(rng: np.random.Generator, voices: list[Utterance], seconds: int = 60) -> list[Array]:
    """Noises of unit power: coloured, hum, babble, rumble, chords, crackle."""
    n = seconds * RATE
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    pool: list[Array] = []
    for slope in (0.0, 0.25, 0.5, 0.75, 1.0, 1.3):
        pool.append(np.fft.irfft(np.fft.rfft(rng.normal(size=n)) / f**slope, n))
    t = np.arange(n) / RATE
    for base in (50, 60, 100, 120):
        hum = sum(rng.uniform(0.1, 1) / k**0.7 * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) for k in range(1, 20))
        pool.append(hum + 0.1 * rng.normal(size=n))
    for count in (4, 8, 12):
        mix = np.zeros(n)
        for _ in range(count):
            at = 0
            while at < n:
                x = voices[rng.integers(len(voices))].pcm.astype(np.float32)
                m = min(len(x), n - at)
                mix[at : at + m] += x[:m] / (x.std() + 1)
                at += m
        pool.append(mix)
    for _ in range(3):
        pool.append(_chords(rng, n))
    clicks = np.zeros(n)
    clicks[rng.integers(0, n, seconds * 12)] = rng.normal(size=seconds * 12) * 30
    pool.append(np.convolve(clicks, rng.normal(size=60) * np.exp(-np.arange(60) / 12), "same") + 0.2 * rng.normal(size=n))
    slow = np.abs(smooth(rng.normal(size=n // 1600).astype(np.float32), 4))
    pool.append(np.fft.irfft(np.fft.rfft(rng.normal(size=n)) / f**0.6, n) * np.interp(np.arange(n) / 1600, np.arange(len(slow)), slow))
    return [(x / (x.std() + 1e-9)).astype(np.float32) for x in pool]


def _chords(rng: np.random.Generator, n: int) -> Array:
    """Music-like: chords of harmonic tones with attack and decay, and a beat of noise."""
    out = np.zeros(n, np.float32)
    beat = int(rng.uniform(0.2, 0.6) * RATE)
    for at in range(0, n, beat):
        m = min(n - at, int(beat * 2.5))
        t = np.arange(m) / RATE
        envelope = np.exp(-t / rng.uniform(0.15, 0.8)) * np.minimum(1, t / 0.01)
        for _ in range(rng.integers(1, 5)):
            base = 110 * 2 ** (rng.integers(0, 36) / 12)
            for k in range(1, 9):
                if base * k < 7800:
                    out[at : at + m] += (envelope * rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * base * k * t)).astype(np.float32)
        if rng.random() < 0.5:
            m = min(m, 3000)
            out[at : at + m] += (rng.normal(size=m) * np.exp(-np.arange(m) / 500) * rng.uniform(0.2, 2)).astype(np.float32)
    return out


def room_pool(rng: np.random.Generator, count: int, size: int) -> Tensor:
    """Spectra of room responses [count, size / 2 + 1], direct sound at time 0."""
    out = []
    for _ in range(count):
        t60 = rng.uniform(0.12, 0.7)
        n = int(min(0.5, t60) * RATE)
        tail = rng.normal(size=n) * np.exp(-6.9 * np.arange(n) / (t60 * RATE))
        tail[: rng.integers(8, 100)] = 0
        for _ in range(rng.integers(2, 8)):  # early reflections
            tail[rng.integers(20, 800)] += rng.normal() * 6
        response = tail * rng.uniform(0.15, 1.0) / (np.linalg.norm(tail) + 1e-9)
        response[0] = 1
        out.append(np.fft.rfft(response, size).astype(np.complex64))
    return torch.from_numpy(np.stack(out))


# ------------------------------------------------------------------ batches
class Batches:
    """Endless augmented batches. `groups`: voices with the weight with which each is heard."""

    SIZE = 73728  # FFT length: SAMPLES and half a second of room

    def __init__(self, groups: list[tuple[list[Utterance], float]], seed: int, clean: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.groups = [u for u, _ in groups]
        weights = np.array([w for _, w in groups])
        self.chance = weights / weights.sum()
        self.clean = clean
        everyone = [u for g in self.groups for u in g[:40]]
        self.noises = noise_pool(self.rng, everyone)
        self.rooms = room_pool(self.rng, 150, self.SIZE)
        self.mels = torch.from_numpy(np.stack([mel_matrix(w) for w in WARPS]))
        self.codecs = [u for g in self.groups for u in g]

    def timeline(self) -> tuple[Array, Array]:
        """One clip of SAMPLES and its targets [STEPS, TRACKS]: sentences of one voice with pauses, at a varying pace."""
        rng = self.rng
        voice = self.groups[rng.choice(len(self.groups), p=self.chance)]
        pcm, y = np.zeros(SAMPLES, np.float32), np.zeros((STEPS, TRACKS), np.float32)
        y[:, 0] = 1.0
        at = -rng.uniform(-1.0, 3.0)  # where the sentence starts on the clip's clock
        while at < SECONDS - 0.3:
            u = voice[rng.integers(len(voice))]
            rate = float(np.exp(rng.normal(0, 0.11))) if not self.clean else 1.0
            length = len(u.pcm) / RATE
            # source time as a function of clip time: pace `rate`, wandering by some per cent
            knots = np.arange(0, length / rate + 1.0, 0.35)
            pace = rate * (1 + (0.06 * rng.normal(size=len(knots)) if not self.clean else 0))
            source = np.concatenate([[0], np.cumsum(np.clip(pace, 0.6, 1.6) * 0.35)])
            clock = np.arange(len(source)) * 0.35
            end = float(np.interp(length, source, clock))
            if at + end > 0.2:
                self._place(u, pcm, y, at, end, clock, source)
            at += end + (rng.uniform(0.0, 1.2) if rng.random() < 0.5 else rng.uniform(0.0, 0.15))
        # before the stream began there is rest
        y[:BEFORE], y[:BEFORE, 0] = 0, 1
        return pcm, y

    @staticmethod
    def _place(u: Utterance, pcm: Array, y: Array, at: float, end: float, clock: Array, source: Array) -> None:
        i0, i1 = max(0, int(np.ceil(at * RATE))), min(SAMPLES, int((at + end) * RATE))
        where = np.interp(np.arange(i0, i1) / RATE - at, clock, source) * RATE
        k = np.minimum(where.astype(np.int64), len(u.pcm) - 2)
        part = (where - k).astype(np.float32)
        x = u.pcm.astype(np.float32)
        pcm[i0:i1] = (x[k] * (1 - part) + x[k + 1] * part) / 32768
        # step n describes the mouth at 20 (n + 1) ms - BEHIND
        t = (np.arange(STEPS) + 1) / 50 - BEHIND - at
        inside = (t >= 0) & (t < end)
        row = np.minimum(np.interp(t[inside], clock, source) * TRACK_RATE, len(u.tracks) - 1.001)
        a = row.astype(np.int64)
        f = (row - a)[:, None].astype(np.float32)
        y[inside] = u.tracks[a].astype(np.float32) * (1 - f) + u.tracks[a + 1].astype(np.float32) * f

    def next(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """PCM [B, SAMPLES], a mel matrix each [B, 201, MELS], targets [B, STEPS, TRACKS]."""
        rng = self.rng
        clips = [self.timeline() for _ in range(size)]
        x = torch.from_numpy(np.stack([c[0] for c in clips]))
        y = torch.from_numpy(np.stack([c[1] for c in clips]))
        warp = rng.integers(len(WARPS), size=size) if not self.clean else np.full(size, len(WARPS) // 2 - 1)
        mel = self.mels[torch.from_numpy(warp)]
        if self.clean:
            return x, mel, y
        silent = torch.from_numpy(rng.random(size) < 0.05)  # noise alone
        x[silent] = 0
        y[silent] = 0
        y[silent, :, 0] = 1
        x = self._whisper(x)
        level = torch.sqrt((x**2).sum(1) / ((x.abs() > 1e-3).sum(1) + 1600)) + 1e-4
        level[silent] = 0.05
        x = self._channel(x / level[:, None])
        x = self._noise(x, silent)
        return self._loudness(x), mel, y

    def _whisper(self, x: Tensor) -> Tensor:
        """One in eight is breathy: part of it excited by noise."""
        rng = self.rng
        pick = torch.from_numpy(np.flatnonzero(rng.random(len(x)) < 0.12))
        if len(pick):
            size = int(rng.choice([96, 160, 256]))
            window = torch.hann_window(size)
            s = torch.stft(x[pick], size, size // 4, window=window, return_complex=True)
            phase = torch.rand(s.shape) * 2 * torch.pi
            breath = torch.istft(torch.polar(s.abs(), phase), size, size // 4, window=window, length=x.shape[1])
            share = torch.from_numpy(rng.uniform(0.2, 1.0, (len(pick), 1)).astype(np.float32))
            x[pick] = x[pick] * (1 - share) + breath * share * 1.5
        return x

    def _channel(self, x: Tensor) -> Tensor:
        """Room, equalisation, band limits: one product in the spectrum."""
        rng, size = self.rng, len(x)
        bins = self.SIZE // 2 + 1
        hz = np.linspace(0, 8000, bins)
        gain = np.zeros((size, bins), np.float32)
        points = np.linspace(0, 8000, 400)
        for b in range(size):
            curve = np.zeros(400)
            if rng.random() < 0.85:
                at = np.sort(rng.uniform(0, 8000, 6))
                curve = np.interp(points, at, rng.normal(0, 5.5, 6)) + rng.normal(0, 4) * (points / 4000 - 1)
            if rng.random() < 0.25:
                curve -= np.clip((points - rng.uniform(3000, 6500)) / 300, 0, 1) * rng.uniform(20, 60)
            if rng.random() < 0.3:
                curve -= np.clip((rng.uniform(60, 350) - points) / 60, 0, 1) * rng.uniform(10, 40)
            gain[b] = np.interp(hz, points, 10 ** (curve / 20))
        s = torch.fft.rfft(x, self.SIZE) * torch.from_numpy(gain)
        room = torch.from_numpy(np.flatnonzero(rng.random(size) < 0.45))
        s[room] *= self.rooms[torch.from_numpy(rng.integers(len(self.rooms), size=len(room)))]
        return torch.fft.irfft(s, self.SIZE)[:, :SAMPLES].contiguous()

    def _noise(self, x: Tensor, silent: Tensor) -> Tensor:
        rng = self.rng
        for b in range(len(x)):
            alone = bool(silent[b])
            if alone and rng.random() < 0.25:
                continue  # digital silence
            for chance in (0.75, 0.15):
                if rng.random() < chance or (alone and chance > 0.5):
                    kind = rng.integers(len(self.noises))
                    noise = self.noises[kind]
                    at = rng.integers(len(noise) - SAMPLES)
                    low = 14 if 10 <= kind <= 12 else 4
                    decibels = rng.uniform(-10, 40) if alone else rng.triangular(low, 30, 55)
                    x[b] += torch.from_numpy(noise[at : at + SAMPLES]) * float(10 ** (-decibels / 20))
        return x

    def _loudness(self, x: Tensor) -> Tensor:
        """Level -34..-8 dB and sometimes much lower, some with drift, some clipped."""
        rng, size = self.rng, len(x)
        decibels = np.where(rng.random((size, 1)) < 0.2, rng.uniform(-52, -34, (size, 1)), rng.uniform(-34, -8, (size, 1)))
        gain = 10 ** (decibels / 20)
        drift = 10 ** (np.cumsum(rng.normal(0, 1.2, (size, 9)), 1) * (rng.random((size, 1)) < 0.3) / 20)
        drift = torch.nn.functional.interpolate(torch.from_numpy(drift.astype(np.float32))[:, None], SAMPLES, mode="linear")[:, 0]
        x = x * torch.from_numpy(gain.astype(np.float32)) * drift
        loud = torch.from_numpy(rng.random(size) < 0.08)
        x[loud] = torch.clamp(x[loud] * 12, -1, 1) * 0.5
        return torch.clamp(x, -1, 1)


def disturb(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Natural variety that synthesizers lack: smooth random gains over time and frequency, masks, grain."""
    b, t, c = features.shape
    field = torch.from_numpy(rng.normal(0, 1, (b, 1, t // 25, 7)).astype(np.float32))
    field = torch.nn.functional.interpolate(field, (t, c), mode="bilinear", align_corners=True)[:, 0]
    strength = torch.from_numpy(rng.uniform(0, 0.35, (b, 1, 1)).astype(np.float32))
    grain = torch.randn(b, t, c) * torch.from_numpy(rng.uniform(0, 0.22, (b, 1, 1)).astype(np.float32))
    out = features + field * strength + grain
    for k in range(b):
        if rng.random() < 0.4:
            a, w = rng.integers(c - 1), rng.integers(2, 9)
            out[k, :, a : a + w] = out[k, :, a : a + w].mean()
        if rng.random() < 0.25:
            a, w = rng.integers(t - 10), rng.integers(2, 7)
            out[k, a : a + w] = 0
    return out


__all__ = ["EXTRA", "Batches", "Utterance", "disturb", "load_voice", "through_codec"]
