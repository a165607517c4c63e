"""What a recording says: offsets, gaps, rates, durations, onsets, tones, colours.

Times are ``time.monotonic`` seconds, durations and offsets seconds unless a name says otherwise. The A/V offset is
positive where the picture is late. Judge it against the floor of the same run: at a subscriber of the SDK sound comes
some tens of milliseconds after its picture, because a jitter buffer stands in its way alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visavis.testing.livekit.recording import RATE, Pictures, Recording, Sound, Times

LEVEL: Final = 0.04
"""Sound is what is above this (of full scale 1)."""
PAUSE: Final = 0.02
"""A shorter silence does not end a sound: that of a wave's zero crossings, of a lost block."""
WINDOW: Final = 0.2
"""Seconds before and after a block within which its clock is taken from the promptest block."""


@dataclass(frozen=True)
class Span:
    """A stretch of sound. ``begin`` and ``end`` are times, ``first`` and ``last`` sample indices (last exclusive)."""

    begin: float
    end: float
    first: int
    last: int

    @property
    def seconds(self) -> float:
        """How long it is in samples, which is what an ear hears."""
        return (self.last - self.first) / RATE


def clock(sound: Sound) -> Times:
    """When each block's first sample was heard: arrival times without the jitter of the viewer's own loop.

    Blocks are handed over every 10 ms and can only be late, so each takes the least delay of its neighbours.
    """
    nominal = sound.starts / RATE
    delay = sound.times - nominal
    if not len(delay):
        return nominal
    half = max(1, round(WINDOW / 0.01))
    padded = np.pad(delay, half, mode="edge")
    least = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).min(axis=1)
    smooth: Times = least + nominal
    return smooth


def spans(sound: Sound, *, level: float = LEVEL, pause: float = PAUSE) -> list[Span]:
    """The stretches of sound above ``level``; silences shorter than ``pause`` are bridged."""
    if not len(sound.pcm):
        return []
    loud = np.flatnonzero(np.abs(sound.pcm.astype(np.int32)) > level * 32768)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > pause * RATE)
    firsts, lasts = loud[np.concatenate([[0], breaks + 1])], loud[np.concatenate([breaks, [len(loud) - 1]])] + 1
    begins, ends = at(sound, firsts), at(sound, lasts)
    return [
        Span(float(begin), float(end), int(first), int(last))
        for begin, end, first, last in zip(begins, ends, firsts, lasts, strict=True)
    ]


def at(sound: Sound, samples: NDArray[np.int64]) -> Times:
    """When the samples of these indices were heard."""
    starts = sound.starts
    block = np.clip(np.searchsorted(starts, samples, side="right") - 1, 0, len(starts) - 1)
    times: Times = clock(sound)[block] + (samples - starts[block]) / RATE
    return times


def flashes(pictures: Pictures) -> Times:
    """When the pictures of the flash renderer turned white."""
    return _rises(pictures, _flash(pictures))


def mouth_opens(pictures: Pictures) -> Times:
    """When the mouth of the flash renderer opened."""
    return _rises(pictures, mouth(pictures))


def mouth_shuts(pictures: Pictures) -> Times:
    """When it shut: the times of the first pictures that show it shut."""
    return _rises(pictures, ~mouth(pictures))


def mouth(pictures: Pictures) -> NDArray[np.bool_]:
    """Whether each picture of the flash renderer shows its mouth open."""
    return _is_bright(pictures.blocks[:, 4, 3:5].mean(axis=1))


def numbers(pictures: Pictures) -> NDArray[np.int64]:
    """The number (0..255) that each picture of the flash renderer carries."""
    bits = pictures.blocks[:, 7, :] > 128
    return np.asarray((bits << np.arange(8)).sum(axis=1), np.int64)


def _flash(pictures: Pictures) -> NDArray[np.bool_]:
    return _is_bright(pictures.blocks[:, 1, 2:6].mean(axis=1))


def _is_bright(luma: NDArray[Any]) -> NDArray[np.bool_]:
    bright: NDArray[np.bool_] = luma > 128
    return bright


def _rises(pictures: Pictures, state: NDArray[np.bool_]) -> Times:
    rises: Times = pictures.times[1:][state[1:] & ~state[:-1]]
    return rises


@dataclass(frozen=True)
class Offsets:
    """A/V offsets in milliseconds, each with the time at which its sound was heard; ``unmatched`` found no partner."""

    at: Times
    ms: Times
    unmatched: int

    @property
    def median(self) -> float:
        """The median, in ms."""
        return float(np.median(self.ms)) if len(self.ms) else float("nan")

    def percentile(self, share: float) -> float:
        """A percentile, in ms."""
        return float(np.percentile(self.ms, share)) if len(self.ms) else float("nan")


def offsets(pictures: Pictures, sound: Sound, *, stalls: Times | None = None, reach: float = 0.45) -> Offsets:
    """Each flash against the beginning of the sound next to it; pairs in a stall of the viewer are left out."""
    begins = np.array([span.begin for span in spans(sound, pause=0.25)])
    seen = flashes(pictures)
    when, ms = [], []
    unmatched = 0
    for flash in seen:
        near = begins[np.abs(begins - flash) < reach]
        if not len(near):
            unmatched += 1
            continue
        begin = float(near[np.argmin(np.abs(near - flash))])
        if stalls is None or not _stalled(min(begin, flash) - 0.05, max(begin, flash) + 0.05, stalls):
            when.append(begin)
            ms.append(1000 * (flash - begin))
    return Offsets(np.array(when), np.array(ms), unmatched + max(0, len(begins) - len(seen)))


def drift(when: Times, ms: Times) -> float:
    """Milliseconds a minute by which a figure drifts: the slope of a robust line (Theil and Sen's)."""
    if len(when) < 4:
        return float("nan")
    i, j = np.triu_indices(len(when), max(1, len(when) // 4))
    return float(60 * np.median((ms[j] - ms[i]) / (when[j] - when[i])))


def _stalled(begin: float, end: float, stalls: Times) -> bool:
    return bool(len(stalls)) and bool(np.any((stalls[:, 0] < end) & (stalls[:, 1] > begin)))


@dataclass(frozen=True)
class Gaps:
    """How evenly pictures came. ``excused``: gaps over the bound that fall into a stall of the viewer itself."""

    fps: float
    largest: float
    over: int
    excused: int


def gaps(pictures: Pictures, *, stalls: Times | None = None, bound: float = 0.12) -> Gaps:
    """The rate of pictures, the largest gap in seconds, how many are over ``bound``; the viewer's stalls left out."""
    times = pictures.times
    if len(times) < 2:
        return Gaps(0.0, float("inf"), 0, 0)
    widths = np.diff(times)
    mine = np.array([stalls is not None and _stalled(a, b, stalls) for a, b in pairwise(times)])
    own = widths[~mine]
    fps = (len(times) - 1) / float(times[-1] - times[0])
    largest = float(own.max()) if len(own) else float("nan")
    return Gaps(fps, largest, int((own > bound).sum()), int((widths[mine] > bound).sum()))


def sizes(pictures: Pictures) -> dict[tuple[int, int], int]:
    """How many pictures of each size came."""
    found, counts = np.unique(pictures.sizes, axis=0, return_counts=True)
    return {(int(w), int(h)): int(n) for (w, h), n in zip(found, counts, strict=True)}


def jitter_buffer(recording: Recording, identity: str, begin: float = 0.0) -> tuple[Times, NDArray[np.float64]]:
    """Milliseconds that sound waited in the receiver's jitter buffer, a figure for each second after ``begin``.

    Returns the ends of these seconds and the figures. The wait is part of every offset and latency, and follows how
    evenly packets came: a busy machine makes it grow.
    """
    rows = [row for row in _receiver(recording, identity) if row["t"] >= begin]
    when = np.array([row["t"] for row in rows], np.float64)
    delay = np.array([row["jitter_buffer_delay"] for row in rows], np.float64)
    count = np.array([row["jitter_buffer_emitted_count"] for row in rows], np.float64)
    emitted = np.diff(count)
    some = emitted > 0
    return when[1:][some], 1000 * np.diff(delay)[some] / emitted[some]


def _receiver(recording: Recording, identity: str) -> list[Mapping[str, Any]]:
    """What the viewer noted of its jitter buffer, each second."""
    return [e for e in recording.events if e["event"] == "receiver" and e["identity"] == identity]


def waited(recording: Recording, identity: str, at: Times) -> NDArray[np.float64]:
    """Milliseconds that sound waited in the receiver's jitter buffer in the second of each time; NaN where untold."""
    ends, waits = jitter_buffer(recording, identity)
    second = np.searchsorted(ends, at)
    return np.append(waits, np.nan)[second]


def as_sent(offsets: Offsets, recording: Recording, identity: str) -> Offsets:
    """The offsets without what the sound waited in the receiver's jitter buffer in the second of each.

    What is left is the sender's, the way's, and what pictures waited. Offsets of a time without figures are left out.
    """
    waits = waited(recording, identity, offsets.at)
    told = ~np.isnan(waits)
    return Offsets(offsets.at[told], offsets.ms[told] + waits[told], offsets.unmatched)


def squeezed(recording: Recording, identity: str, begin: float, end: float) -> float:
    """Seconds of sound that the receiver's jitter buffer took out between two times, to within its notes' second.

    What it took out has arrived: it is missing in what was heard, and was not lost.
    """
    taken = [(row["t"], row["removed_samples_for_acceleration"]) for row in _receiver(recording, identity)]
    before = max((samples for t, samples in taken if t <= begin), default=0)
    after = min((samples for t, samples in taken if t >= end), default=taken[-1][1] if taken else 0)
    return float(after - before) / RATE


def heard(sound: Sound, begin: float, end: float, *, level: float = LEVEL) -> Span | None:
    """From the first to the last sound within begin..end: an utterance with its pauses. None if there was none."""
    inside = [span for span in spans(sound, level=level) if span.end > begin and span.begin < end]
    if not inside:
        return None
    return Span(inside[0].begin, inside[-1].end, inside[0].first, inside[-1].last)


def tone(sound: Sound, begin: float, end: float) -> float:
    """The strongest frequency in Hz between two times; 0 for silence."""
    first, last = np.searchsorted(clock(sound), [begin, end])
    starts = sound.starts
    if last <= first:
        return 0.0
    part = sound.pcm[starts[first] : starts[last - 1]].astype(np.float64)
    if len(part) < RATE // 50 or float(np.abs(part).max()) < LEVEL * 32768:
        return 0.0
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 4 * len(part)))
    return float(np.argmax(spectrum) * RATE / (4 * len(part)))


def strength(sound: Sound, begin: float, end: float, frequencies: Sequence[float]) -> NDArray[np.float64]:
    """The amplitude (0..1) of each of these frequencies between two times."""
    first, last = np.searchsorted(clock(sound), [begin, end])
    starts = sound.starts
    part = sound.pcm[starts[first] : starts[max(first, last - 1)]].astype(np.float64) / 32768
    window = np.hanning(len(part))
    turns = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(len(part)) / RATE))
    return np.asarray(2 * np.abs(turns @ (part * window)) / max(1.0, float(window.sum())), np.float64)


def colour(pictures: Pictures) -> tuple[float, float]:
    """The mean U and V of all pictures."""
    u, v = pictures.chroma.astype(np.float64).mean(axis=0)
    return float(u), float(v)


# -- sounds to send


def beeps(
    seconds: float, rate: int, *, every: float = 1.0, length: float = 0.1, first: float = 0.0, tone: float = 1000.0
) -> NDArray[np.int16]:
    """Silence with a beep each ``every`` seconds from ``first`` on, int16 ``[n]``. They begin at full loudness."""
    pcm = np.zeros(round(seconds * rate), np.float64)
    wave = 0.5 * np.cos(2 * np.pi * tone * np.arange(round(length * rate)) / rate)
    when = first
    while (start := round(when * rate)) + len(wave) <= len(pcm):
        pcm[start : start + len(wave)] = wave
        when += every
    return np.round(pcm * 32767).astype(np.int16)


def steady(seconds: float, rate: int, *, tone: float = 440.0, level: float = 0.4) -> NDArray[np.int16]:
    """A tone from the first sample to the last, int16 ``[n]``."""
    wave = level * np.cos(2 * np.pi * tone * np.arange(round(seconds * rate)) / rate)
    return np.round(wave * 32767).astype(np.int16)
