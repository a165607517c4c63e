"""What a talking face's video shows: where the mouth is, how far it is open, how wide.

Works on any video file and knows nothing of how it was made. Used by lipsync_eval.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Picture = NDArray[np.uint8]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Clip:
    """A decoded video: picture times (s), pictures (BGR), sound at 16 kHz or None, and when it starts (s)."""

    times: Floats
    pictures: list[Picture]
    sound: Floats | None
    sound_start: float


def read_sound(path: str | os.PathLike[str]) -> tuple[Floats | None, float]:
    """The first audio track as mono float at 16 kHz, and its first time stamp; None without one."""
    with av.open(os.fspath(path)) as box:
        if not box.streams.audio:
            return None, 0.0
        stream = box.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
        parts, first = [], None
        for frame in box.decode(stream):
            if first is None and frame.pts is not None and stream.time_base is not None:
                first = float(frame.pts * stream.time_base)
            parts += [f.to_ndarray().ravel() for f in resampler.resample(frame)]
        parts += [f.to_ndarray().ravel() for f in resampler.resample(None)]
    return (np.concatenate(parts), first or 0.0) if parts else (None, 0.0)


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Pictures by the file's own time stamps, and the sound."""
    times, pictures = [], []
    with av.open(os.fspath(path)) as box:
        stream = box.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in box.decode(stream):
            if frame.pts is not None and stream.time_base is not None:
                times.append(float(frame.pts * stream.time_base))
                pictures.append(frame.to_ndarray(format="bgr24"))
    sound, start = read_sound(path)
    return Clip(np.array(times), pictures, sound, start)


def locate(sound: Floats, reference: Floats) -> tuple[float, float]:
    """Where `reference` starts in `sound` (s), and the normalised correlation there."""
    n = 1 << int(np.ceil(np.log2(len(sound) + len(reference))))
    c = np.fft.irfft(np.fft.rfft(sound, n) * np.conj(np.fft.rfft(reference, n)), n)
    k = int(np.argmax(np.abs(c)))
    lag = k if k < len(sound) else k - n
    a, b = max(lag, 0), min(lag + len(reference), len(sound))
    norm = np.linalg.norm(sound[a:b]) * np.linalg.norm(reference[a - lag : b - lag])
    return lag / 16000.0, float(abs(c[k]) / (norm + 1e-9))


def shift_between(a: Floats, b: Floats, window: Floats) -> tuple[float, float, float]:
    """How far b is moved against a (x, y in pixels), and how sure that is (0..1).

    OpenCV applies the window in place where a side needs no padding for its FFT, so it gets copies.
    """
    (dx, dy), response = cv2.phaseCorrelate(a.copy(), b.copy(), window)
    return dx, dy, response


# ------------------------------------------------------------------ the mouth's box
def _grey_without_sway(pictures: list[Picture], scale: float) -> Floats:
    """Small grey pictures [N, h, w] with the head's own shift taken out where it can be seen."""
    small = [cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in pictures]
    grey = np.stack(
        [cv2.GaussianBlur(cv2.cvtColor(p, cv2.COLOR_BGR2GRAY), (3, 3), 0).astype(np.float32) for p in small]
    )
    h, w = grey.shape[1:]
    ys, xs = slice(int(0.1 * h), int(0.9 * h)), slice(int(0.2 * w), int(0.8 * w))
    window = cv2.createHanningWindow((len(range(*xs.indices(w))), len(range(*ys.indices(h)))), cv2.CV_32F)
    for i in range(1, len(grey)):
        dx, dy, response = shift_between(grey[0][ys, xs], grey[i][ys, xs], window)
        if response > 0.15 and abs(dx) + abs(dy) < 12:
            move = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)
            grey[i] = cv2.warpAffine(grey[i], move, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return grey


def _change(grey: Floats, step: int, talk: NDArray[np.bool_], rest: NDArray[np.bool_]) -> Floats:
    """How much each place changes within 100 ms of speech, less what changes in silence too.

    A mouth moves often, a blink seldom: the middle of the distribution is taken, not the extremes.
    """
    change = np.abs(grey[step:] - grey[:-step])
    if talk[step:].sum() <= 10:
        return np.asarray(np.percentile(change, 75, axis=0))
    out = np.percentile(change[talk[step:]], 75, axis=0)
    still = rest[step:] & rest[:-step]
    if still.sum() > 5:
        out = np.maximum(0, out - 0.7 * np.percentile(change[still], 75, axis=0))
    return np.asarray(out)


def _lower_face(first: Floats) -> Floats:
    """1 where a mouth may be: the lower part of a face, if a cascade finds one, else of the picture."""
    keep = np.zeros_like(first)
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    cascade = os.path.join(folder, "haarcascade_frontalface_default.xml")
    if folder and os.path.exists(cascade):
        faces = cv2.CascadeClassifier(cascade).detectMultiScale(first.astype(np.uint8), 1.1, 4)
        if len(faces):
            x, y, w, h = max(faces, key=lambda r: r[2] * r[3])
            keep[int(y + 0.5 * h) : int(y + 1.15 * h), x : x + w] = 1
            return keep
    keep[int(0.42 * len(first)) :] = 1
    return keep


def find_mouth(clip: Clip, talk: NDArray[np.bool_], rest: NDArray[np.bool_]) -> Box | None:
    """x, y, w, h in pixels of the largest fast change in the lower face; None where nothing moves."""
    h, w = clip.pictures[0].shape[:2]
    scale = 160.0 / max(h, w)
    grey = _grey_without_sway(clip.pictures, scale)
    change = _change(grey, max(1, round(0.1 / float(np.median(np.diff(clip.times))))), talk, rest)
    lively = cv2.GaussianBlur(change * _lower_face(grey[0]), (0, 0), 2)
    # a live mouth stands out from the sensor or codec noise everywhere else
    if lively.max() < 1.0 or lively.max() < 2.5 * np.median(change):
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats((lively > 0.3 * lively.max()).astype(np.uint8))
    py, px = np.unravel_index(int(np.argmax(lively)), lively.shape)
    x, y, bw, bh = (int(v) for v in stats[labels[py, px]][:4])
    cx, cy = x + bw / 2, y + bh / 2
    wide, tall = max(bw * 1.5, 8), max(bh * 1.6, 6)
    wide, tall = max(wide, tall), max(tall, 0.65 * max(wide, tall))
    cy += 0.06 * tall  # the jaw drops, the upper lip does not rise
    left, top = max(0, int((cx - wide / 2) / scale)), max(0, int((cy - tall / 2) / scale))
    return left, top, min(w - left, int(wide / scale)), min(h - top, int(tall / scale))


def _head_moves(pictures: list[Picture], x: int, w: int, rows: slice) -> Floats:
    """Shift of the band above the mouth [N, 2] in pixels; a stray estimate does not count."""
    window = cv2.createHanningWindow((pictures[0][rows, x : x + w].shape[1], rows.stop - rows.start), cv2.CV_32F)
    reference = cv2.cvtColor(pictures[0][rows, x : x + w], cv2.COLOR_BGR2GRAY).astype(np.float32)
    moves = np.zeros((len(pictures), 2))
    for i, picture in enumerate(pictures):
        grey = cv2.cvtColor(picture[rows, x : x + w], cv2.COLOR_BGR2GRAY).astype(np.float32)
        dx, dy, response = shift_between(reference, grey, window)
        if response > 0.15 and abs(dx) < 0.3 * w and abs(dy) < 0.3 * w:
            moves[i] = dx, dy
    if len(moves) > 5:
        median = np.stack([np.median(moves[max(0, i - 2) : i + 3], axis=0) for i in range(len(moves))])
        stray = np.abs(moves - median).max(1) > 1.5
        moves[stray] = median[stray]
    return moves


def mouth_crops(pictures: list[Picture], box: Box, follow: bool = True) -> Picture:
    """Crops of the mouth's box [N, h, w, 3], about 96 px wide, following the head's shift."""
    x, y, w, h = box
    full_h, full_w = pictures[0].shape[:2]
    scale = min(1.0, 96.0 / w)
    rows = slice(max(0, y - int(1.1 * w)), max(0, y - 2))
    follow = follow and rows.stop - rows.start > 24 and w > 24
    moves = _head_moves(pictures, x, w, rows) if follow else np.zeros((len(pictures), 2))
    out = []
    for picture, (dx, dy) in zip(pictures, moves, strict=True):
        if abs(dx) + abs(dy) > 0.2:
            move = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)
            picture = cv2.warpAffine(
                picture, move, (full_w, full_h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        size = (max(8, int(w * scale)), max(8, int(h * scale)))
        out.append(cv2.resize(picture[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA))
    return np.stack(out).astype(np.uint8)


# ------------------------------------------------------------------ the mouth's opening
LIGHTNESS_STEP, COLOUR_STEP = 12, 6
_NL, _NA = 256 // LIGHTNESS_STEP + 1, 256 // COLOUR_STEP + 1


def _colours(picture: Picture) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, (3, 3), 0), cv2.COLOR_BGR2LAB).astype(np.int32)
    return lab[..., 0] // LIGHTNESS_STEP, lab[..., 1] // COLOUR_STEP, lab[..., 2] // COLOUR_STEP


def _histogram(colours: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]) -> Floats:
    light, a, b = colours
    bins = np.bincount(((light * _NA + a) * _NA + b).ravel(), minlength=_NL * _NA * _NA)
    out = bins.reshape(_NL, _NA, _NA).astype(np.float32)
    for axis in range(3):
        out = 0.5 * out + 0.25 * np.roll(out, 1, axis) + 0.25 * np.roll(out, -1, axis)
    return out / np.float32(light.size)


def aperture_by_colour(crops: Picture, closed: Picture) -> tuple[Floats, Floats]:
    """Share of the box whose colours the closed mouth does not have, and the width of that area (NaN if none).

    Skin and lips that merely move keep the histogram; cavity, teeth and tongue add to it.
    """
    known = np.max([_histogram(_colours(c)) for c in closed], axis=0)
    area, width = np.zeros(len(crops)), np.full(len(crops), np.nan)
    columns = np.arange(crops.shape[2])[None, :]
    for i, crop in enumerate(crops):
        colours = _colours(crop)
        histogram = _histogram(colours)
        excess = np.maximum(0, histogram - 1.15 * known - 2e-4)
        area[i] = excess.sum()
        new = (excess / (histogram + 1e-9))[colours]
        new = new * (new > 0.3)
        total = new.sum()
        if total > 4:
            middle = (new * columns).sum() / total
            width[i] = np.sqrt(12 * (new * (columns - middle) ** 2).sum() / total) / crops.shape[2]
    return area, width


def difference_to(crops: Picture, closed: Picture) -> Floats:
    """Mean absolute difference of each crop to the median closed mouth."""
    rest = np.median(closed.astype(np.float32), axis=0)
    return np.array([np.abs(c.astype(np.float32) - rest).mean() for c in crops])


def aperture_by_projection(crops: Picture, closed: Picture, opened: Picture) -> Floats:
    """Position of each crop between the closed (0) and the wide-open (1) mouth."""
    rest = np.median(closed.astype(np.float32), axis=0)
    way = opened.astype(np.float32) - rest
    return np.array([((c.astype(np.float32) - rest) * way).sum() / ((way * way).sum() + 1e-9) for c in crops])
