"""Phones to face coefficients: the table and the blending that the motion graph is taught with.

A viseme is a mouth pose in ARKit's 52 coefficients. Phones (ARPABET, or IPA for other languages) map to
one viseme, diphthongs to two in a row. `blend` turns timed phones into coefficient tracks: every viseme
pulls with its own strength, which fades with the distance in time (dominance blending), and lips that
must touch are then closed by a gate of their own, because an average of poses never shuts a mouth.

All times are in seconds, all coefficients 0..1. Poses were fitted on the ICT-FaceKit light mesh: the gap
between the inner lips is at or under its resting value for "pbm" and nowhere else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

ARKIT_52: Final[tuple[str, ...]] = tuple(
    """
    eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
    eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight
    jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight
    mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight
    mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper
    mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight
    browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight noseSneerLeft noseSneerRight tongueOut
    """.split()
)
INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(ARKIT_52)}


def pose(**shapes: float) -> Array:
    """A [52] vector; a name without Left/Right sets both sides (mouthSmile=.3)."""
    vector = np.zeros(len(ARKIT_52), np.float32)
    for name, value in shapes.items():
        for full in (name,) if name in INDEX else (f"{name}Left", f"{name}Right"):
            vector[INDEX[full]] = value
    return vector


VISEMES: Final[dict[str, Array]] = {
    "sil": pose(),
    # lips: closed, lower lip under the teeth
    "pbm": pose(jawOpen=0.07, mouthClose=0.07, mouthPress=0.38, mouthRollLower=0.16, mouthRollUpper=0.12),
    "fv": pose(jawOpen=0.08, mouthRollLower=0.52, mouthUpperUp=0.26, mouthShrugLower=0.08, mouthSmile=0.05),
    # open vowels
    "aa": pose(jawOpen=0.60, mouthLowerDown=0.24, mouthUpperUp=0.14),
    "ae": pose(jawOpen=0.50, mouthLowerDown=0.30, mouthUpperUp=0.22, mouthStretch=0.26, mouthSmile=0.14),
    "ah": pose(jawOpen=0.36, mouthLowerDown=0.20, mouthUpperUp=0.10),
    "ao": pose(jawOpen=0.50, mouthFunnel=0.34, mouthPucker=0.20, mouthLowerDown=0.08),
    # spread
    "eh": pose(jawOpen=0.32, mouthLowerDown=0.28, mouthUpperUp=0.16, mouthStretch=0.26, mouthSmile=0.16),
    "ih": pose(jawOpen=0.17, mouthLowerDown=0.22, mouthUpperUp=0.11, mouthStretch=0.24, mouthSmile=0.20),
    "iy": pose(jawOpen=0.10, mouthLowerDown=0.24, mouthUpperUp=0.14, mouthStretch=0.34, mouthSmile=0.42),
    # rounded
    "uw": pose(jawOpen=0.13, mouthPucker=0.80, mouthFunnel=0.24),
    "uh": pose(jawOpen=0.17, mouthPucker=0.50, mouthFunnel=0.22),
    "ow": pose(jawOpen=0.30, mouthPucker=0.55, mouthFunnel=0.34),
    "y": pose(jawOpen=0.12, mouthPucker=0.68, mouthFunnel=0.26, mouthLowerDown=0.06),
    "w": pose(jawOpen=0.10, mouthPucker=0.88, mouthFunnel=0.18),
    "er": pose(jawOpen=0.22, mouthFunnel=0.30, mouthPucker=0.28, mouthLowerDown=0.08),
    "r": pose(jawOpen=0.16, mouthFunnel=0.34, mouthPucker=0.34, mouthUpperUp=0.05),
    "sh": pose(jawOpen=0.11, mouthFunnel=0.52, mouthPucker=0.26, mouthUpperUp=0.16, mouthLowerDown=0.20),
    # the rest of the consonants: never shut, or they would read as p
    "s": pose(jawOpen=0.10, mouthLowerDown=0.30, mouthUpperUp=0.20, mouthStretch=0.18, mouthSmile=0.14),
    "td": pose(jawOpen=0.16, mouthLowerDown=0.22, mouthUpperUp=0.10, mouthStretch=0.06),
    "l": pose(jawOpen=0.24, mouthLowerDown=0.22, mouthUpperUp=0.10, tongueOut=0.25),
    "th": pose(jawOpen=0.19, mouthLowerDown=0.22, mouthUpperUp=0.12, tongueOut=0.50),
    "k": pose(jawOpen=0.22, mouthLowerDown=0.18, mouthUpperUp=0.06),
    "hh": pose(jawOpen=0.26, mouthLowerDown=0.16, mouthUpperUp=0.06),
}
NAMES: Final[tuple[str, ...]] = tuple(VISEMES)
POSES: Final[Array] = np.stack([VISEMES[name] for name in NAMES])
ROW: Final[dict[str, int]] = {name: i for i, name in enumerate(NAMES)}


class Pull(NamedTuple):
    """How strongly a viseme pulls, and how fast that fades before and after it (seconds)."""

    strength: float
    before: float
    after: float


DEFAULT_PULL: Final = Pull(1.0, 0.055, 0.055)
PULLS: Final[dict[str, Pull]] = {
    "pbm": Pull(2.0, 0.045, 0.040),
    "fv": Pull(2.5, 0.050, 0.045),
    "aa": Pull(1.5, 0.060, 0.060),
    "ae": Pull(1.5, 0.060, 0.060),
    "ao": Pull(1.5, 0.070, 0.065),
    "eh": Pull(1.3, 0.060, 0.060),
    "iy": Pull(1.6, 0.065, 0.060),
    "ih": Pull(1.1, 0.055, 0.055),
    # rounding is prepared early
    "uw": Pull(2.0, 0.090, 0.065),
    "uh": Pull(1.5, 0.075, 0.060),
    "ow": Pull(1.7, 0.085, 0.065),
    "y": Pull(1.8, 0.085, 0.065),
    "w": Pull(2.6, 0.085, 0.055),
    "sh": Pull(1.6, 0.070, 0.060),
    "r": Pull(1.0, 0.070, 0.055),
    "s": Pull(1.1, 0.055, 0.050),
    # what the tongue does inside leaves the lips to the neighbours
    "td": Pull(0.7, 0.045, 0.045),
    "l": Pull(0.7, 0.050, 0.050),
    "th": Pull(1.0, 0.050, 0.045),
    "k": Pull(0.45, 0.050, 0.050),
    "hh": Pull(0.35, 0.050, 0.050),
    "ah": Pull(0.9, 0.055, 0.055),
    "sil": Pull(1.6, 0.060, 0.070),
}

ARPABET: Final[dict[str, tuple[str, ...]]] = {
    phone: tuple(visemes.split("+"))
    for row in """
    sil:SIL,PAU,SP,SPN,NSN pbm:P,B,M,EM fv:F,V aa:AA ae:AE ah:AH,AX ao:AO eh:EH ih:IH,IX iy:IY uw:UW uh:UH
    ow+uw:OW aa+uh:AW aa+ih:AY eh+iy:EY ao+iy:OY w:W,WH er:ER,AXR r:R sh:SH,ZH,CH,JH s:S,Z td:T,D,N,DX,NX,EN
    l:L,EL th:TH,DH k:K,G,NG,Q hh:HH,HV ih:Y
    """.split()
    for visemes, phones in [row.split(":")]
    for phone in phones.split(",")
}

# One character of IPA each; length, stress, tone and tie marks are dropped before the look-up.
IPA: Final[dict[str, str]] = {
    symbol: viseme
    for viseme, symbols in {
        "pbm": "pbmʙɓ",
        "fv": "fvɱʋⱱ",
        "w": "wʍɸβ",
        "aa": "aɑɒäɶ",
        "ae": "æɐ",
        "ah": "ʌəɘɤɜɞɨ",
        "ao": "ɔ",
        "eh": "eɛ",
        "ih": "ɪj",
        "iy": "i",
        "uw": "uɥ",
        "uh": "ʊʉɯ",
        "ow": "o",
        "y": "yʏøœɵ",
        "er": "ɚɝ",
        "r": "ɹɻ",
        "sh": "ʃʒʂʐɕʑɧ",
        "s": "sz",
        "td": "tdnɾrʈɖɳȵɽɗ",
        "l": "lɭʎɬɮɺ",
        "th": "θð",
        "k": "kgɡŋxɣcɟɲqɢχʁʀçʝɴɫɰ",
        "hh": "hɦħʕʔ",
    }.items()
    for symbol in symbols
}


class Segment(NamedTuple):
    """A viseme held from start to end (seconds)."""

    viseme: str
    start: float
    end: float


def visemes_of_arpabet(phone: str) -> tuple[str, ...]:
    """Visemes of an ARPABET phone; stress digits are ignored, unknown phones count as a neutral vowel."""
    name = "".join(c for c in phone.upper() if c.isalpha())
    return ARPABET.get(name or "SIL", ("ah",))


def visemes_of_ipa(phone: str) -> tuple[str, ...]:
    """Visemes of an IPA phone ("aɪ" gives two, "tʃ" one); empty or pure marks are silence."""
    plain = unicodedata.normalize("NFD", phone)
    found = ["sh"] if plain.startswith("sx") else [IPA[c] for c in plain if c in IPA]
    if not found:
        return ("sil",)
    if "sh" in found and "td" in found:  # an affricate shows its second half
        return ("sh",)
    if "s" in found and "td" in found:
        return ("s",)
    if len(found) > 1 and "̃" in plain:
        return (found[0],)
    return tuple(dict.fromkeys(found))


def split(parts: Sequence[str], start: float, end: float) -> list[Segment]:
    """One phone's visemes laid into its time: of two the first takes 55 %."""
    share = 0.55 if len(parts) == 2 else 1.0 / len(parts)
    edges = [start + (end - start) * min(1.0, share * i) for i in range(len(parts))] + [end]
    return [Segment(v, a, b) for v, a, b in zip(parts, edges[:-1], edges[1:], strict=True)]


def segments_of(phones: Iterable[Mapping[str, object]], alphabet: str = "arpabet") -> list[Segment]:
    """Segments of `{"phone", "start", "end"}` records; a diphthong becomes two in a row."""
    look_up = visemes_of_arpabet if alphabet == "arpabet" else visemes_of_ipa
    out: list[Segment] = []
    for record in phones:
        start, end = float(str(record["start"])), float(str(record["end"]))
        parts = look_up(str(record["phone"]))
        out += split(parts, start, end)
    return out


def merged_silences(segments: Sequence[Segment]) -> list[Segment]:
    """The same segments with neighbouring silences joined."""
    out: list[Segment] = []
    for s in segments:
        if out and s.viseme == out[-1].viseme == "sil":
            out[-1] = Segment("sil", out[-1].start, s.end)
        else:
            out.append(s)
    return out


def touch_span(segment: Segment) -> tuple[float, float]:
    """When the lips touch for a bilabial or a lip bite: its hold, not its release (start, end in seconds)."""
    return segment.start, segment.start + min(0.75 * (segment.end - segment.start), 0.12)


def gate(segments: Sequence[Segment], viseme: str, times: Array, ramp: float = 0.05) -> Array:
    """[len(times)] 0..1: 1 while the lips must hold `viseme`, raised cosines of `ramp` seconds around it."""
    out = np.zeros(len(times), np.float32)
    for s in segments:
        if s.viseme != viseme:
            continue
        a, b = touch_span(s)
        # a hold shorter than a picture would fall between two of them
        grow = max(0.0, 0.044 - (b - a)) / 2
        lo, hi = np.searchsorted(times, [a - grow - ramp, b + grow + ramp])
        t = times[lo:hi]
        d = np.maximum(np.maximum(a - grow - t, t - b - grow), 0.0)
        out[lo:hi] = np.maximum(out[lo:hi], 0.5 + 0.5 * np.cos(np.pi * np.minimum(d / ramp, 1.0)))
    return out


def dominance(segments: Sequence[Segment], times: Array) -> Array:
    """[len(times), visemes] pulls that sum to 1."""
    segments = merged_silences(segments)
    total = np.full((len(times), len(NAMES)), 0.0, np.float64)
    for s in segments:
        strength, before, after = PULLS.get(s.viseme, DEFAULT_PULL)
        length = s.end - s.start
        if s.viseme == "sil":  # a gap between two words does not let the mouth fall back to rest
            strength *= min(1.0, length / 0.25)
        inset = min(0.2 * length, 0.03)
        lo, hi = np.searchsorted(times, [s.start - 0.5, s.end + 0.5])
        t = times[lo:hi]
        d = np.maximum((s.start + inset - t) / before, (t - s.end + inset) / after)
        total[lo:hi, ROW[s.viseme]] += strength * np.exp(-1.4 * np.maximum(d, 0.0) ** 1.15)
    outside = (times < segments[0].start) | (times > segments[-1].end) if segments else np.ones(len(times), bool)
    total[outside, ROW["sil"]] += 1.0
    return (total / np.maximum(total.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def blend(segments: Sequence[Segment], times: Array) -> Array:
    """Coefficients [len(times), 52] at ascending `times` (seconds)."""
    track = dominance(segments, times) @ POSES
    bite = gate(segments, "fv", times, 0.055)[:, None] * 0.85
    shut = gate(segments, "pbm", times)[:, None]
    track = track * (1 - bite) + POSES[ROW["fv"]] * bite
    closed = np.tile(POSES[ROW["pbm"]], (len(times), 1))
    # lips may already round or spread while they are shut
    for name in ("mouthPucker", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"):
        closed[:, INDEX[name]] = 0.4 * track[:, INDEX[name]]
    return track * (1 - shut) + closed * shut


def frame_times(count: int, fps: float = 25.0, lead: float = 0.010) -> Array:
    """When the pictures of a film are sampled: a picture is on screen for 1/fps, so a little after it appears."""
    return (np.arange(count) / fps + lead).astype(np.float32)


def film(phones: Iterable[Mapping[str, object]], count: int, fps: float = 25.0, alphabet: str = "arpabet") -> Array:
    """Coefficients [count, 52] of a film at `fps` for timed phones, without prosody (see prosody.py)."""
    return blend(segments_of(phones, alphabet), frame_times(count, fps))
