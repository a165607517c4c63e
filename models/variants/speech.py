"""What calibrates: real speech through the shipped motion graph, and expressions that speech seldom makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Feeds = dict[str, Floats]
RATE = 16_000


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """ONNX Runtime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sound(path: Path) -> Floats:
    """A recording, mono at 16 kHz."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        parts = [out.to_ndarray()[0] for frame in file.decode(stream) for out in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32)


def recordings(folders: Sequence[Path]) -> list[Floats]:
    """Every wav of some folders. Raises SystemExit if there is none."""
    found = [sound(path) for folder in folders for path in sorted(folder.glob("*.wav"))]
    if not found:
        raise SystemExit(f"no wav in {', '.join(map(str, folders))}")
    return found


def calls(motion: ort.InferenceSession, pcm: Floats) -> Iterator[tuple[Feeds, Floats]]:
    """Every call of the motion graph for a recording: what goes in, and the coefficients [E] that come out."""
    hop, size = (motion.get_inputs()[k].shape[1] for k in (0, 1))
    state = np.zeros((1, size), np.float32)
    for at in range(0, len(pcm) - hop + 1, hop):
        feeds = {"pcm": pcm[None, at : at + hop], "state": state}
        expression, state = motion.run(["expression", "state_out"], feeds)
        yield feeds, expression[0, 0]


def expressions(motion: ort.InferenceSession, sounds: Sequence[Floats]) -> Floats:
    """[N, E] of some recordings."""
    return np.stack([spoken for pcm in sounds for _, spoken in calls(motion, pcm)])


def seldom(count: int, size: int, seed: int = 0) -> Floats:
    """[N, E]: rest, each coefficient alone at its fullest, and ``count`` mixtures of a few."""
    rng = np.random.default_rng(seed)
    mixed = (rng.random((count, size)) < 0.2) * rng.random((count, size))
    return np.concatenate([np.zeros((1, size)), np.eye(size), mixed]).astype(np.float32)
