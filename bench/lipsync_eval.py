#!/usr/bin/env python3
"""Lip-sync metrics from a rendered video alone (no internal coefficients).

    lipsync_eval.py VIDEO --align ALIGN.json [--wav CLIP.wav] [--roi x,y,w,h]
                    [--closed CLOSED.png] [--open OPEN.png] [--series OUT.json]

VIDEO     any file PyAV reads; picture times are taken from its time stamps.
ALIGN     list of {phone, start, end} (ARPABET, silence = SIL), seconds in the clip.
--wav     the clip that was sent: its place in the video's own sound track is found by correlation, so that the
          figures are what a viewer of VIDEO sees. Without it the clip is taken to start with the sound track.
--roi     mouth box in pixels; found by itself when left out.
--closed  still of the resting, closed mouth; else the pictures in silence are used.
--open    still of the wide-open mouth; with it the aperture is the projection on the closed->open direction
          instead of the colour-histogram excess.

offset_ms > 0: the picture is LATE (sound leads), as in ITU-R BT.1359. Needs numpy, av, opencv (headless).
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from lipsync_score import (
    SR,
    Phone,
    articulation,
    correlation,
    cross_correlation,
    gauss,
    opening_models,
    peak,
    rounded,
    score,
    shapes,
)
from lipsync_video import (
    Box,
    Clip,
    Floats,
    Picture,
    aperture_by_colour,
    aperture_by_projection,
    difference_to,
    find_mouth,
    locate,
    mouth_crops,
    read_clip,
    read_sound,
)
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Result = dict[str, Any]
SILENT = ("", "SP", "SPN", "<S>")
OTHER_SILENCE = ("NSN", "PAU", "SILENCE")
SLOWEST = int(0.5 * SR)  # the largest offset looked for, in samples


def phones_on_clock(records: Sequence[Mapping[str, Any]], zero: float) -> list[Phone]:
    """Records of {phone, start, end} with plain ARPABET names, on the video's clock."""
    known = opening_models.openings
    out = []
    for r in records:
        name = str(r["phone"]).upper()
        name = "SIL" if name in SILENT else "".join(c for c in name if c.isalpha())
        if name not in known:
            name = "SIL" if name in OTHER_SILENCE else "AH"
        out.append(Phone(name, float(r["start"]) + zero, float(r["end"]) + zero))
    return out


def resting(times: Floats, phones: Sequence[Phone]) -> Bools:
    """Pictures inside silences of 0.3 s or more, clear of the neighbours' movements.

    The picture may be up to 0.3 s late, so the first 0.4 s after speech are left out.
    """
    silences: list[list[float]] = []
    for p in phones:
        if p.name == "SIL":
            if silences and abs(silences[-1][1] - p.start) < 0.02:
                silences[-1][1] = p.end
            else:
                silences.append([p.start, p.end])
    rest = np.zeros(len(times), bool)
    for start, end in silences:
        first, last = start <= phones[0].start + 0.01, end >= phones[-1].end - 0.01
        a = start + (0.0 if first else 0.4)
        b = end - (0.0 if last else 0.2) - (0.15 if first else 0)
        if first:
            a = min(a, float(times[0])) if times[0] < a else a
        if b - a > 0.08:
            rest |= (times >= a) & (times <= b)
    return rest


@dataclass(frozen=True)
class Mouth:
    """The mouth over time: opening in parts of its 95th percentile in speech, width of the opening, crops."""

    opening: Floats
    width: Floats
    crops: Picture
    method: str
    top: float
    agreement: float
    moving: bool


def closed_mouths(crops: Picture, rest: Bools, still: str | Picture | None, box: Box) -> Picture:
    """Crops of the mouth at rest."""
    if still is not None:
        picture = cv2.imread(still) if isinstance(still, str) else still
        if picture is None:
            raise SystemExit(f"cannot read {still}")
        return mouth_crops([picture.astype(np.uint8)], box, False)
    if rest.sum() >= 3:
        quiet = crops[rest]
        # the pictures nearest to the median rest, so that a mouth that flaps in silence is still seen to flap
        d = difference_to(quiet, quiet)
        return quiet[np.argsort(d)[: max(3, min(30, len(quiet) // 2))]]
    d = difference_to(crops, crops)
    return crops[np.argsort(d)[: max(3, len(crops) // 10)]]


def measure(
    crops: Picture, closed: Picture, opened: Picture | None, rest: Bools, talk: Bools, found: bool, auto: bool
) -> Mouth:
    """Aperture by colour (or projection), brought to 0 at rest and 1 at the 95th percentile of speech."""
    area, width = aperture_by_colour(crops, closed)
    change = difference_to(crops, closed)
    method = "histogram excess"
    if opened is not None:
        area, method = aperture_by_projection(crops, closed, opened), "projection"
    if rest.sum() >= 3:
        area, change = area - np.median(area[rest]), change - np.median(change[rest])
    else:
        area, change = area - np.percentile(area, 2), change - np.percentile(change, 2)
    area = np.maximum(area, 0)
    top = float(np.percentile(area[talk], 95))
    floor = 0.03 if opened is not None else 0.004
    if top < 0.004 and opened is None and np.percentile(change[talk], 95) > 2.5:
        area, method, floor = np.maximum(change, 0), "difference to rest", 1.5
        top = float(np.percentile(change[talk], 95))
    # in a mouth, new colours and plain difference rise together; in an eye or an edge they do not
    agreement = correlation(area, change)
    moving = top > floor and found and (agreement > 0.4 or not auto)
    opening = area / top if moving else np.zeros(len(area))
    return Mouth(opening, width, crops, method, top, agreement, moving)


@dataclass(frozen=True)
class Offset:
    """How late the picture is (ms), how sure that is, and the same for each half."""

    raw: float | None
    peak: float
    confidence: float
    halves: list[float]
    at_zero: float
    at_best: float

    @property
    def trusted(self) -> bool:
        """Whether the peak stands out from what chance gives."""
        return self.raw is not None and self.peak > 0.33 and self.confidence > 2.2


def _both(a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """Lags, mean correlation of two series and of their speeds, and of the series alone."""
    lags, plain = cross_correlation(a, b, SLOWEST)
    _, speed = cross_correlation(np.diff(a), np.diff(b), SLOWEST)
    return lags, 0.5 * (plain + speed), plain


def offset_of(t: Floats, opening: Floats, phones: Sequence[Phone], window: Bools, moving: bool) -> Offset:
    """The aperture and its rate of change, against the same of the opening that the phones call for."""
    seen = gauss(opening, 0.02)[window]
    tries = [(_both(seen, model[window]), model[window]) for model in opening_models(t, phones)]
    (lags, mean, plain), model = max(tries, key=lambda c: float(c[0][1].max()))
    if not moving:
        return Offset(None, 0.0, 0.0, [], 0.0, 0.0)
    at, height = peak(lags, mean)
    half = len(seen) // 2
    halves = [peak(*_both(seen[s], model[s])[:2])[0] for s in (slice(0, half), slice(half, None))]
    sure = float((height - np.median(mean)) / (np.std(mean) + 1e-9))
    return Offset(at, height, sure, halves, float(plain[SLOWEST]), float(plain.max()))


def offset_by_sound(clip: Clip, t: Floats, opening: Floats, window: Bools) -> tuple[float, float]:
    """Offset (ms) and peak against the loudness of the sound: needs no phones, errs by 20-100 ms."""
    assert clip.sound is not None
    energy = np.sqrt(np.convolve(clip.sound**2, np.ones(320) / 320, "same"))
    energy = np.log10(1e-3 + energy / (np.percentile(energy, 99) + 1e-9)) + 3
    loud = np.interp(t, clip.sound_start + np.arange(len(energy)) / 16000.0, energy)
    lags, mean, _ = _both(gauss(opening, 0.02)[window], gauss(loud, 0.035)[window])
    return peak(lags, mean)


def rest_figures(opening: Floats, rest: Bools, moving: bool) -> Result:
    """How far open and how restless the mouth is in silence."""
    out: Result = {"rest_frames": int(rest.sum())}
    if rest.sum() > 5 and moving:
        quiet, steps = opening[rest], np.abs(np.diff(opening))[rest[1:] & rest[:-1]]
        out["rest_mean"] = rounded(quiet.mean())
        out["rest_p95"] = rounded(np.percentile(quiet, 95))
        out["rest_jitter_p95"] = rounded(np.percentile(steps, 95) if len(steps) else 0)
        out["rest_open_share"] = rounded((quiet > 0.15).mean())
    return out


def smoothness(mouth: Mouth, talk: Bools, fps: float) -> Result:
    """Trembling, pops and repeated pictures while speaking."""
    if not mouth.moving:
        return {}
    s, crops = mouth.opening[talk], mouth.crops
    d, n = np.diff(s), len(s)
    f = np.fft.rfftfreq(n, 1 / fps)
    power = np.abs(np.fft.rfft((s - s.mean()) * np.hanning(n))) ** 2
    turns = (d[1:] * d[:-1] < 0) & (np.minimum(abs(d[1:]), abs(d[:-1])) > 0.08)
    openings = np.sum((s[1:] > 0.4) & (s[:-1] <= 0.4)) / (n / fps)
    same = np.mean([np.array_equal(crops[i], crops[i - 1]) for i in range(1, len(crops)) if talk[i]])
    return {
        "hf_power_share": rounded(power[f > 8].sum() / (power[f > 0.3].sum() + 1e-12)),
        "step_p95": rounded(np.percentile(np.abs(d), 95)),
        "pop_share": rounded((np.abs(d) > 0.6).mean()),
        "reversal_share": rounded(np.mean(turns)),
        "openings_per_s": rounded(openings, 2),
        "repeated_frame_share": rounded(same),
    }


def liveliness(opening: Floats, rest: Bools, talk: Bools, moving: bool) -> float | None:
    """How much more the mouth moves in speech than at rest."""
    if not moving or rest.sum() <= 5:
        return None
    d = np.abs(np.diff(opening))
    return float(d[talk[1:]].mean() / (d[rest[1:] & rest[:-1]].mean() + 1e-3))


def evaluate(
    video: str,
    records: Sequence[Mapping[str, Any]],
    wav: str | None = None,
    roi: Box | None = None,
    closed: str | Picture | None = None,
    opened: str | Picture | None = None,
    follow: bool = True,
    series: str | None = None,
) -> Result:
    """All figures of one video against the timed phones of its speech (see the module's text)."""
    clip = read_clip(video)
    if len(clip.pictures) < 10:
        raise SystemExit("too few frames")
    where, match = 0.0, None
    if wav is not None and clip.sound is not None:
        reference, _ = read_sound(wav)
        if reference is None:
            raise SystemExit(f"no sound in {wav}")
        where, match = locate(clip.sound, reference)
    zero, times = clip.sound_start + where, clip.times  # the clip's zero on the video's clock
    phones = phones_on_clock(records, zero)
    speech = [p for p in phones if p.name != "SIL"]
    rest = resting(times, phones)
    fps, auto = 1 / float(np.median(np.diff(times))), roi is None
    talk = (times >= speech[0].start) & (times <= speech[-1].end)
    box = roi or find_mouth(clip, talk, rest)
    height, width = clip.pictures[0].shape[:2]
    # nothing moves: look where a mouth would be
    place = box or (int(width * 0.3), int(height * 0.5), int(width * 0.4), int(height * 0.25))
    crops = mouth_crops(clip.pictures, place, follow)
    opened = cv2.imread(opened) if isinstance(opened, str) else opened
    wide = None if opened is None else mouth_crops([opened], place, False)[0]
    talk = (times >= speech[0].start) & (times <= speech[-1].end + 0.1)
    mouth = measure(crops, closed_mouths(crops, rest, closed, place), wide, rest, talk, box is not None, auto)
    head: Result = {
        "video": video,
        "frames": len(times),
        "fps": rounded(fps, 2),
        "clip_start_s": rounded(zero),
        "audio_match": rounded(match),
        "roi": box,
        "roi_auto": auto,
    }
    if rest.sum() < 3 and closed is None:
        head["note"] = "no silence long enough: resting mouth taken from the quietest frames; give --closed"
    if series:
        with open(series, "w") as f:
            json.dump(
                {
                    "t": times.round(4).tolist(),
                    "aperture": mouth.opening.round(4).tolist(),
                    "width": [rounded(v) for v in mouth.width],
                },
                f,
            )
    return head | judge(clip, mouth, phones, rest, talk, fps)


def judge(clip: Clip, mouth: Mouth, phones: Sequence[Phone], rest: Bools, talk: Bools, fps: float) -> Result:
    """The figures of a measured mouth."""
    times = clip.times
    t = np.arange(times[0], times[-1], 1.0 / SR)
    even = np.interp(t, times, mouth.opening)
    speech = [p for p in phones if p.name != "SIL"]
    window = (t >= speech[0].start - 0.35) & (t <= speech[-1].end + 0.35)
    offset = offset_of(t, even, phones, window, mouth.moving)
    by_sound: tuple[float | None, float | None] = (None, None)
    if clip.sound is not None and mouth.moving:
        by_sound = offset_by_sound(clip, t, even, window)
    late = offset.raw / 1000.0 if offset.trusted and offset.raw is not None else 0.0
    at_zero, at_best = articulation(even, phones, float(t[0]), 0.0), articulation(even, phones, float(t[0]), late)
    shape = shapes(mouth.crops, times, mouth.width, mouth.opening, phones, late)
    quiet, smooth = rest_figures(mouth.opening, rest, mouth.moving), smoothness(mouth, talk, fps)
    lively = liveliness(mouth.opening, rest, talk, mouth.moving)
    plain = lambda d: {k: rounded(v) if isinstance(v, float) else v for k, v in d.items()}  # noqa: E731
    return {
        "aperture": mouth.method,
        "moving": mouth.moving,
        "speech_to_rest_motion": rounded(lively, 2),
        "aperture_p95": rounded(mouth.top, 4),
        "aperture_agreement": rounded(mouth.agreement),
        "offset_ms": rounded(offset.raw, 1) if offset.trusted else None,
        "offset_raw_ms": rounded(offset.raw, 1),
        "offset_peak": rounded(offset.peak),
        "offset_confidence": rounded(offset.confidence, 2),
        "offset_trusted": offset.trusted,
        "offset_halves_ms": [rounded(h, 0) for h in offset.halves],
        "offset_sound_only_ms": rounded(by_sound[0], 1),
        "offset_sound_only_peak": rounded(by_sound[1]),
        "openness_r_lag0": rounded(offset.at_zero),
        "openness_r_best": rounded(offset.at_best),
        "at_zero_lag": plain(at_zero),
        "at_best_lag": plain(at_best),
        "shape": plain(shape),
        "rest": quiet,
        "smooth": smooth,
        **score(
            at_best, shape, quiet, smooth, lively, offset.raw if offset.trusted else None, offset.peak, mouth.moving
        ),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--align", required=True)
    parser.add_argument("--wav")
    parser.add_argument("--roi", type=lambda s: tuple(int(v) for v in s.split(",")))
    parser.add_argument("--closed")
    parser.add_argument("--open")
    parser.add_argument("--series")
    parser.add_argument("--no-stabilise", action="store_true")
    o = parser.parse_args()
    with open(o.align) as f:
        records = json.load(f)
    print(
        json.dumps(evaluate(o.video, records, o.wav, o.roi, o.closed, o.open, not o.no_stabilise, o.series), indent=1)
    )


if __name__ == "__main__":
    main()
