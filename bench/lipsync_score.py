"""Timed phones against a mouth's opening over time: closures, vowels, shapes, offset, and one score.

Thresholds and weights were set on drawn talkers with known faults; README.md lists what each figure must reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from lipsync_video import Floats, Picture

SR: Final = 200  # Hz, analysis rate

OPENINGS: Final[dict[str, float]] = {
    "AA": 1.0, "AE": 0.95, "AW": 0.9, "AY": 0.9, "AO": 0.8, "AH": 0.6, "EH": 0.65, "EY": 0.55, "OY": 0.65, "OW": 0.55,
    "ER": 0.42, "IH": 0.4, "IY": 0.32, "UH": 0.35, "UW": 0.22, "HH": 0.4, "L": 0.35, "K": 0.3, "G": 0.3, "NG": 0.3,
    "R": 0.25, "Y": 0.25, "TH": 0.25, "DH": 0.25, "T": 0.2, "D": 0.2, "N": 0.2, "S": 0.15, "Z": 0.15, "SH": 0.2,
    "ZH": 0.2, "CH": 0.2, "JH": 0.2, "W": 0.12, "F": 0.07, "V": 0.07, "P": 0.0, "B": 0.0, "M": 0.0, "SIL": 0.0,
}  # fmt: skip
VOWELS: Final = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])
LOW, HIGH = frozenset(("AA", "AE", "AO", "AW", "AY")), frozenset(("IY", "IH", "UW", "UH"))
ROUND, SPREAD = frozenset(("UW", "OW", "W", "UH")), frozenset(("IY", "EH", "EY", "AE", "IH"))
BILABIAL, NEARLY = frozenset(("P", "B", "M")), frozenset(("F", "V", "W", "UW"))

CLOSED, OPENED, MARGIN = 0.15, 0.20, 0.06  # shares of the opening's p95; seconds


class Phone(NamedTuple):
    """A phone and its time on the video's clock (s)."""

    name: str
    start: float
    end: float

    @property
    def hold(self) -> float:
        """How long the lips stay shut in a bilabial (s)."""
        return min(0.6 * (self.end - self.start), 0.09)


# ------------------------------------------------------------------ arithmetic
def gauss(x: Floats, sd: float) -> Floats:
    """Gaussian smoothing at SR, sd in seconds."""
    k = int(4 * sd * SR) + 1
    g = np.exp(-0.5 * (np.arange(-k, k + 1) / (sd * SR)) ** 2)
    return np.convolve(x, g / g.sum(), "same")


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's; 0 where one of them does not move."""
    a, b = a - a.mean(), b - b.mean()
    d = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / d) if d > 1e-9 else 0.0


def cross_correlation(a: Floats, b: Floats, most: int) -> tuple[Floats, Floats]:
    """Correlation of a(t + lag) and b(t) for lags of -most..most samples."""
    lags = range(-most, most + 1)
    r = [correlation(a[max(0, k) : len(a) + min(0, k)], b[max(0, -k) : len(b) - max(0, k)]) for k in lags]
    return np.array(lags, float), np.array(r)


def peak(lags: Floats, r: Floats) -> tuple[float, float]:
    """Place (ms, between samples) and height of the largest value."""
    i = int(np.argmax(r))
    between = 0.0
    if 0 < i < len(r) - 1:
        bend = r[i - 1] - 2 * r[i] + r[i + 1]
        between = float(0.5 * (r[i - 1] - r[i + 1]) / bend) if abs(bend) > 1e-12 else 0.0
    return float(lags[i] + between) * 1000.0 / SR, float(r[i])


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Chance that a positive value exceeds a negative one; None without both."""
    if not len(positive) or not len(negative):
        return None
    p, n = np.asarray(positive)[:, None], np.asarray(negative)[None]
    return float(((p > n) + 0.5 * (p == n)).mean())


def ranks(x: Floats) -> Floats:
    """Rank of each value."""
    return np.argsort(np.argsort(x)).astype(float)


def rounded(x: Any, digits: int = 3) -> float | None:
    """For JSON: None stays None, NaN becomes None."""
    return None if x is None or not np.isfinite(float(x)) else round(float(x), digits)


# ------------------------------------------------------------------ the opening that the phones call for
class _OpeningModels:
    """Two models: steps smoothed by 35 ms, and dominance blending (Cohen & Massaro 1993), closures strong and short."""

    openings = OPENINGS

    def __call__(self, t: Floats, phones: Sequence[Phone]) -> tuple[Floats, Floats]:
        box, pulled, pull = np.zeros(len(t)), np.zeros(len(t)), np.zeros(len(t)) + 1e-6
        for p in phones:
            box[(t >= p.start) & (t < p.end)] = OPENINGS[p.name]
            strength, reach = self._dominance(p.name)
            end = p.start + p.hold if p.name in BILABIAL else p.end
            away = np.maximum(0, np.abs(t - 0.5 * (p.start + end)) - 0.35 * (end - p.start))
            d = strength * np.exp(-away / reach)
            pulled += d * OPENINGS[p.name]
            pull += d
        return gauss(box, 0.035), gauss(pulled / pull, 0.015)

    @staticmethod
    def _dominance(name: str) -> tuple[float, float]:
        if name in BILABIAL:
            return 20, 0.035
        if name in NEARLY:
            return 4, 0.05
        if name in VOWELS:
            return 1.5, 0.07
        return (1.5, 0.09) if name == "SIL" else (0.7, 0.05)


opening_models: Final = _OpeningModels()


# ------------------------------------------------------------------ closures and vowels
class _Track:
    """The opening at SR from time `start`, with the picture's lateness taken out."""

    def __init__(self, opening: Floats, start: float, late: float) -> None:
        self.opening, self.start, self.late = opening, start, late

    def part(self, a: float, b: float) -> Floats:
        """The opening from a to b (s)."""
        i, j = round((a + self.late - self.start) * SR), round((b + self.late - self.start) * SR)
        return self.opening[max(0, i) : max(0, j) + 1]

    def closes(self, a: float, b: float) -> bool | None:
        """Under 15 % inside, with a real opening (20 %) within 0.3 s on one side at least."""
        x = self.part(a, b)
        if not len(x):
            return None
        return bool(x.min() < CLOSED and self.part(a - 0.3, b + 0.3).max() > OPENED)


def _closures(track: _Track, phones: Sequence[Phone]) -> tuple[list[bool], list[float]]:
    """For each bilabial whether the mouth shut, and how far it stayed open."""
    hits, depths = [], []
    for p in phones:
        if p.name in BILABIAL:
            a, b = p.start - MARGIN, p.start + p.hold + MARGIN
            shut = track.closes(a, b)
            if shut is not None:
                hits.append(shut)
                depths.append(float(track.part(a, b).min()))
    return hits, depths


def _false_closures(track: _Track, phones: Sequence[Phone]) -> list[bool]:
    """The same question put to open vowels far from any closure."""
    out = []
    for p in phones:
        if p.name in VOWELS - {"UW", "UH"}:
            m = 0.5 * (p.start + p.end)
            if not any(q.name in BILABIAL | NEARLY | {"SIL"} and q.end > m - 0.2 and q.start < m + 0.2 for q in phones):
                shut = track.closes(m - 0.075, m + 0.075)
                if shut is not None:
                    out.append(shut)
    return out


def _precision(track: _Track, phones: Sequence[Phone]) -> float | None:
    """Share of the closures inside speech that belong to a closing sound."""
    speech = [p for p in phones if p.name != "SIL"]
    first, last = speech[0].start, speech[-1].end
    i0 = max(0, int((first + track.late - track.start) * SR))
    x = track.opening[i0 : int((last + track.late - track.start) * SR)]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (x < CLOSED).astype(int), [0]])))
    right = wrong = 0
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if x[max(0, a - int(0.3 * SR)) : b + int(0.3 * SR)].max() <= OPENED:
            continue
        start, end = first + a / SR, first + b / SR
        near = {q.name for q in phones if q.end > start - MARGIN and q.start < end + MARGIN}
        if near & BILABIAL:
            right += 1
        elif not near & (NEARLY | {"SIL"}):
            wrong += 1
    return right / (right + wrong) if right + wrong else None


def articulation(opening: Floats, phones: Sequence[Phone], start: float, late: float) -> dict[str, Any]:
    """Closures and vowel openings; `opening` in parts of its p95 at SR from time `start`, `late` in seconds."""
    track = _Track(opening, start, late)
    hits, depths = _closures(track, phones)
    false = _false_closures(track, phones)
    recall = float(np.mean(hits)) if hits else None
    heights, wanted, names = [], [], []
    for p in phones:
        length = p.end - p.start
        if p.name in VOWELS and length >= 0.04:
            x = track.part(p.start + 0.2 * length, p.end - 0.2 * length)
            if len(x):
                heights.append(float(x.max()))
                wanted.append(OPENINGS[p.name])
                names.append(p.name)
    varied = len(heights) > 4 and float(np.std(heights)) > 1e-6
    low = [h for h, n in zip(heights, names, strict=True) if n in LOW]
    high = [h for h, n in zip(heights, names, strict=True) if n in HIGH]
    return {
        "closure_recall": recall,
        "closure_false_alarm": float(np.mean(false)) if false else None,
        "closure_precision": _precision(track, phones),
        # false alarms shrunk towards none when few vowels qualify
        "closure_informedness": None if recall is None else recall - sum(false) / (len(false) + 2),
        "closure_depth_median": float(np.median(depths)) if depths else None,
        "n_bilabials": len(hits),
        "n_open_vowels": len(false),
        "vowel_openness_rho": correlation(ranks(np.array(heights)), ranks(np.array(wanted))) if varied else 0.0,
        "vowel_low_high_auc": area_under_curve(low, high) if varied else 0.5,
        "n_vowels": len(heights),
    }


# ------------------------------------------------------------------ shapes
def _thumbnails(crops: Picture, times: Floats, opening: Floats, phones: Sequence[Phone]) -> Floats:
    """Small grey mouths; what the opening alone explains is taken out of every pixel: what is left is shape."""
    grey = [cv2.resize(cv2.cvtColor(c, cv2.COLOR_BGR2GRAY), (20, 12), interpolation=cv2.INTER_AREA) for c in crops]
    out = np.array(grey).astype(np.float32).reshape(len(crops), -1)
    basis = np.stack([np.ones(len(times)), opening, opening**2], 1)
    use = (times >= phones[0].start) & (times <= phones[-1].end)
    if use.sum() > 10 and opening.std() > 1e-6:
        out = out - basis @ np.linalg.lstsq(basis[use], out[use], rcond=None)[0]
    return out


def _leave_one_out(a: Floats, b: Floats) -> float | None:
    """Whether two sets of thumbnails can be told apart along the line between their means."""

    def along(x: Floats, p: Floats, q: Floats) -> float:
        way = p.mean(0) - q.mean(0)
        return float((x - 0.5 * (p.mean(0) + q.mean(0))) @ way / (np.linalg.norm(way) + 1e-6))

    first = [along(a[i], np.delete(a, i, 0), b) for i in range(len(a))]
    second = [along(b[i], a, np.delete(b, i, 0)) for i in range(len(b))]
    return area_under_curve(first, second) if max(np.ptp(first), np.ptp(second)) > 1e-3 else 0.5


def shapes(
    crops: Picture, times: Floats, width: Floats, opening: Floats, phones: Sequence[Phone], late: float
) -> dict[str, Any]:
    """Rounded against spread: width of the inner mouth, and any visible difference at all."""
    pictures: dict[bool, list[Floats]] = {True: [], False: []}
    widths: dict[bool, list[float]] = {True: [], False: []}
    small = _thumbnails(crops, times, opening, phones)
    for p in phones:
        if p.name in ROUND | SPREAD and p.end - p.start >= 0.04:
            m = 0.5 * (p.start + p.end) + late
            i = int(np.argmin(np.abs(times - m)))
            if abs(times[i] - m) > 0.06:
                continue
            pictures[p.name in ROUND].append(small[i])
            if np.isfinite(width[i]) and opening[i] > 0.08:
                widths[p.name in ROUND].append(float(width[i]))
    out: dict[str, Any] = {"n_rounded": len(pictures[True]), "n_spread": len(pictures[False])}
    out |= dict.fromkeys(("width_rounded", "width_spread", "width_dprime", "round_spread_auc"))
    narrow, broad = widths[True], widths[False]
    if len(narrow) >= 2 and len(broad) >= 2:
        sd = float(np.sqrt(0.5 * (np.var(narrow) + np.var(broad)))) + 1e-6
        apart = float(np.mean(broad) - np.mean(narrow)) / max(sd, 0.01)
        out |= {"width_rounded": float(np.mean(narrow)), "width_spread": float(np.mean(broad)), "width_dprime": apart}
    if min(len(pictures[True]), len(pictures[False])) >= 3:
        out["round_spread_auc"] = _leave_one_out(np.array(pictures[True]), np.array(pictures[False]))
    return out


# ------------------------------------------------------------------ one number
WEIGHTS: Final = {"closure": 0.3, "track": 0.25, "vowels": 0.2, "shape": 0.1, "rest": 0.1, "smooth": 0.05}


def _share(value: float | None, low: float, high: float) -> float:
    return 0.0 if value is None else float(np.clip((value - low) / (high - low), 0, 1))


def score(
    found: Mapping[str, Any],
    shape: Mapping[str, Any],
    rest: Mapping[str, Any],
    smooth: Mapping[str, Any],
    lively: float | None,
    offset: float | None,
    height: float,
    moving: bool,
) -> dict[str, Any]:
    """0..100 for ranking: articulation once the offset is taken out, times what the offset costs."""
    seen = [
        _share(v, a, b)
        for v, a, b in ((shape["round_spread_auc"], 0.5, 0.9), (shape["width_dprime"], 0, 1.5))
        if v is not None
    ]
    parts: dict[str, float | None] = {
        "closure": 0.6 * _share(found["closure_informedness"], 0, 0.85)
        + 0.4 * _share(found["closure_precision"], 0.25, 0.8)
        if found["n_bilabials"]
        else None,
        "track": _share(height, 0.2, 0.65),
        "vowels": 0.5 * _share(found["vowel_openness_rho"], 0, 0.6)
        + 0.5 * _share(found["vowel_low_high_auc"], 0.5, 0.9),
        "shape": float(np.mean(seen)) if seen else None,
        "rest": 1 - _share(rest.get("rest_p95", 0 if moving else 1), 0.08, 0.4),
        "smooth": 1
        - max(_share(smooth.get("hf_power_share", 1.0), 0.1, 0.4), _share(smooth.get("reversal_share", 1.0), 0.1, 0.35))
        if moving
        else 0.0,
    }
    known = {k: v for k, v in parts.items() if v is not None}
    total = sum(WEIGHTS[k] * v for k, v in known.items()) / sum(WEIGHTS[k] for k in known) if moving else 0.0
    if lively is not None:
        total *= 0.15 + 0.85 * _share(lively, 1.1, 1.8)
    if offset is None:
        sync = 0.3 if moving else 0.0
    else:
        sync = max(0.2, 1 - max(0.0, offset - 45) / 250 - max(0.0, -offset - 125) / 250)
    return {
        "parts": {k: rounded(v) for k, v in parts.items()},
        "articulation": rounded(100 * total, 1),
        "sync_factor": rounded(sync),
        "score": rounded(100 * total * sync, 1),
    }
