"""What an avatar's other precisions are worth: pictures and coefficients against fp32's, and milliseconds beside it.

    python bench/variants.py [--avatar FILE] [--speech DIR] [--gate]

Speech goes through the fp32 motion graph, its expressions through every face graph. Pictures are compared with fp32's
in RGB, inside the box in which lips move. Against true renders (face_quality.py) fp32 has a PSNR of TRUTH. A variant's
rounding knows nothing of what fp32 gets wrong, so their mean squares add up, which gives the PSNR against the truth
that is printed as "implied". ``--gate`` exits 1 where a variant loses over LOSS decibels, or coefficients stray by
over STRAY. Times are processor milliseconds a call for a batch of one, in turns, on one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from face_quality import Bytes, Floats, psnr, rgb
from lipsync_video import read_sound
from visavis.hvia import Hvia, Precision, open_hvia
from visavis.hvia.graphs import GraphOffer
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime.renderer import OnnxRuntimeExecutor, best_seconds

HERE = Path(__file__).resolve().parent
MIRA = HERE.parent / "plugins/store-filesystem/src/visavis_store_filesystem/avatars/mira.hvia"
TRUTH = 36.4
"""Decibels of the fp32 graph against true renders: RESULTS.md."""
LOSS = 0.7
STRAY = 0.02
"""Root mean square; coefficients reach from 0 to 1."""
MOVING = 6.0
"""Levels of luma by which a pixel deviates (standard deviation) where lips move."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One variant of one graph beside fp32: ``error`` in decibels (face) or coefficients (motion)."""

    which: str
    precision: Precision
    error: float
    worst: float
    implied_loss: float
    milliseconds: float
    fp32_milliseconds: float

    @property
    def missed(self) -> bool:
        """Whether it falls short."""
        return self.implied_loss > LOSS if self.which == "face" else self.error > STRAY


def executors(avatar: Hvia, which: str) -> dict[Precision, OnnxRuntimeExecutor]:
    """Every variant of a graph, as the renderer executes it."""
    offer = GraphOffer(avatar, which)  # type: ignore[arg-type]
    return {p: OnnxRuntimeExecutor(offer.load(p).data, OnnxRuntimeOptions(), p) for p in offer.precisions}


def stream(motion: OnnxRuntimeExecutor, sound: Floats, hop: int, state: int) -> Floats:
    """Coefficients [N, E] of a recording."""
    at, out = np.zeros((1, state), np.float32), []
    for start in range(0, len(sound) - hop + 1, hop):
        said = motion.run({"pcm": sound[None, start : start + hop], "state": at})
        at = said["state_out"]
        out.append(said["expression"][0, 0])
    return np.stack(out)


def pictures(face: OnnxRuntimeExecutor, rows: Floats) -> tuple[Bytes, Bytes]:
    """Luma [N, H, W] and RGB [N, H, W, 3]."""
    drawn = [face.run({"expression": row[None]}) for row in rows]
    return np.stack([d["y"][0, 0] for d in drawn]), np.stack([rgb(d["y"][0, 0], d["uv"][0]) for d in drawn])


def lips(luma: Bytes) -> tuple[slice, slice]:
    """The box of the region's lower half in which luma moves."""
    moving = luma.astype(np.float32).std(0) > MOVING
    moving[: len(moving) // 2] = False
    rows, columns = (np.flatnonzero(moving.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def implied_loss(errors: Sequence[float]) -> float:
    """Decibels lost against the truth, if the mean squares of both errors add up."""
    square = float(np.mean([10 ** (-error / 10) for error in errors]))
    return TRUTH + 10 * float(np.log10(10 ** (-TRUTH / 10) + square))


def judge(avatar: Hvia, sounds: Sequence[Floats], every: int = 2) -> list[Figures]:
    """Figures of all variants. ``every``: so many pictures are passed over for one that is drawn."""
    said = avatar.manifest.motion
    motions, faces = executors(avatar, "motion"), executors(avatar, "face")
    streams = {p: [stream(m, s, said.hop, said.state) for s in sounds] for p, m in motions.items()}
    rows = np.concatenate(streams["fp32"])[::every]
    luma, truth = pictures(faces["fp32"], rows)
    box = lips(luma)
    figures = []
    for precision, motion in motions.items():
        if precision == "fp32":
            continue
        apart = np.concatenate(streams[precision]) - np.concatenate(streams["fp32"])
        took = best_seconds([motions["fp32"], motion])
        error, worst = float(np.sqrt((apart**2).mean())), float(np.abs(apart).max())
        figures.append(Figures("motion", precision, error, worst, 0.0, 1000 * took[1], 1000 * took[0]))
    for precision, face in faces.items():
        if precision == "fp32":
            continue
        drawn = pictures(face, rows)[1]
        errors = [psnr(mine[box], its[box]) for mine, its in zip(drawn, truth, strict=True)]
        took = best_seconds([faces["fp32"], face])
        loss = implied_loss(errors)
        figures.append(
            Figures("face", precision, float(np.mean(errors)), min(errors), loss, 1000 * took[1], 1000 * took[0])
        )
    return figures


def told(f: Figures) -> str:
    """One line."""
    quality = (
        f"{f.error:.1f} dB against fp32 (worst {f.worst:.1f}), implied against truth {TRUTH - f.implied_loss:.2f} dB "
        f"instead of {TRUTH:g}: {f.implied_loss:.2f} lost"
        if f.which == "face"
        else f"coefficients stray by {f.error:.4f} (worst {f.worst:.3f})"
    )
    ratio = f.milliseconds / f.fp32_milliseconds
    times = f"{f.milliseconds:.2f} ms to {f.fp32_milliseconds:.2f} of fp32: {ratio:.2f}"
    return f"{f.which:7}{f.precision:6}{quality}; {times}"


def read(folder: Path) -> list[Floats]:
    """Every wav of a folder at 16 kHz."""
    found = [read_sound(path)[0] for path in sorted(folder.glob("*.wav"))]
    return [sound.astype(np.float32) for sound in found if sound is not None]


def main() -> int:
    """Print; exit 1 with --gate where a variant falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", type=Path, default=MIRA)
    parser.add_argument("--speech", type=Path, default=HERE / "speech")
    parser.add_argument("--gate", action="store_true")
    said = parser.parse_args()
    with open_hvia(said.avatar) as avatar:
        figures = judge(avatar, read(said.speech))
    for each in figures:
        print(told(each) + ("  MISSED" if each.missed else ""))
    return int(said.gate and any(each.missed for each in figures))


if __name__ == "__main__":
    sys.exit(main())
