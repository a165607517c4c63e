"""What the renderer costs in each precision: milliseconds a talking frame by stage, beside fp32 of the same run.

    python bench/render_cost.py [--avatar FILE] [--speech FILE] [--precision fp32 int8] [--frames 200] [--sessions 16]

One thread, no room, no encoder: motion, behaviours, face and composing, all that a step does. Precisions take turns
frame by frame, each with a session of its own. Times are the processor's. Then what a session adds to the process
(USS, read from /proc as in speed.py), and the first talking frame of a session on a renderer that has just been loaded,
as a multiple of later ones.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from lipsync_video import read_sound
from numpy.typing import NDArray
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import RenderInput
from visavis.metrics import MemoryMetrics
from visavis_renderer_onnxruntime import OnnxRuntimeOptions, make

HERE = Path(__file__).resolve().parent
MIRA = HERE.parent / "plugins/store-filesystem/src/visavis_store_filesystem/avatars/mira.hvia"
STAGES = ("motion", "face", "compose")


class Subject:
    """A renderer of one precision with the avatar in memory, and a session that talks."""

    def __init__(self, avatar: Path, precision: str) -> None:
        self.precision = precision
        self.renderer = make(OnnxRuntimeOptions(precision=precision))  # type: ignore[arg-type]
        self.renderer.metrics = self.metrics = MemoryMetrics()
        with open_hvia(avatar) as file:
            self.avatar = self.renderer.load(file)
        self.session = self.avatar.open()
        self.taken: list[float] = []

    def talk(self, pcm: NDArray[np.float32]) -> None:
        """One frame of speech."""
        began = time.thread_time()
        self.renderer.step([self.session], [RenderInput(pcm)])
        self.taken.append(1000 * (time.thread_time() - began))

    def figures(self) -> dict[str, float]:
        """Milliseconds a frame: the whole step, and its stages."""
        found = {"whole": float(np.median(self.taken[10:]))}
        for stage in STAGES:
            count, total, _ = self.metrics.observed[self.metrics.key("visavis_render_seconds", stage=stage)]
            found[stage] = 1000 * total / count
        return found | {"first": self.taken[0] / found["whole"]}


def hops(speech: Path, frames: int, hop: int) -> NDArray[np.float32]:
    """``[frames, hop]`` of a recording at 16 kHz, repeated."""
    sound, _ = read_sound(speech)
    assert sound is not None
    return np.resize(sound.astype(np.float32), (frames, hop))


def costs(avatar: Path, speech: Path, precisions: list[str], frames: int) -> dict[str, dict[str, float]]:
    """The figures of each precision."""
    subjects = [Subject(avatar, precision) for precision in precisions]
    for pcm in hops(speech, frames, subjects[0].avatar.format.hop):
        for subject in subjects:
            subject.talk(pcm)
    return {subject.precision: subject.figures() for subject in subjects}


def session_megabytes(avatar: Path, speech: Path, sessions: int) -> float:
    """MB of private memory that each further session adds, all of them talking in one step."""
    from speed import private_megabytes

    subject = Subject(avatar, "auto")
    sound = hops(speech, 20, subject.avatar.format.hop)

    def talk(own: list[Any]) -> None:
        for start in range(0, len(own), subject.renderer.max_batch):
            some = own[start : start + subject.renderer.max_batch]
            for pcm in sound:
                subject.renderer.step(some, [RenderInput(pcm)] * len(some))

    # The engine's memory for the largest batch is there before: it is the process's, not a session's.
    talk([subject.avatar.open(seed=n) for n in range(min(sessions, subject.renderer.max_batch))])
    gc.collect()
    before = private_megabytes()
    own = [subject.avatar.open(seed=n) for n in range(sessions)]
    talk(own)
    gc.collect()
    return max(0.0, private_megabytes() - before) / sessions


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", type=Path, default=MIRA)
    parser.add_argument("--speech", type=Path, default=HERE / "speech" / "synth-slt.wav")
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=16)
    said = parser.parse_args()
    found = costs(said.avatar, said.speech, said.precision, said.frames)
    base = found[said.precision[0]]["whole"]
    print(f"{'ms a frame':10}" + "".join(f"{name:>10}" for name in ("whole", *STAGES)) + "   ratio   first frame")
    for precision, figures in found.items():
        line = "".join(f"{figures[name]:10.2f}" for name in ("whole", *STAGES))
        print(f"{precision:10}{line}   {figures['whole'] / base:5.2f}   {figures['first']:.2f} times a later one")
    print(f"a further session: {session_megabytes(said.avatar, said.speech, said.sessions):.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
