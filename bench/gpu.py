"""What a GPU draws, and how much of it: every backend that works here, beside ONNX Runtime on the processor.

    python bench/gpu.py parity      pictures of each backend against the processor's, in dB; exit 1 if one is off
    python bench/gpu.py capacity    sessions by step time, and memory of the device, for each backend

Without a GPU both say so and end with status 77. `make test-gpu` and `make bench-gpu` run them.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from visavis.errors import VisavisError
from visavis.hvia import open_hvia
from visavis.hvia.graphs import GraphOffer
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderInput
from visavis.testing.parity import FP16, FP32, Film, compare, filmed
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime import make as make_onnxruntime
from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt import make as make_tensorrt

NO_GPU = 77
"""What test runners take for "skipped"."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
STEPS = 60
SHARE = 0.8
"""How much of its time a renderer may be busy, as admission reckons."""
CARDS = (6, 12, 24)
RESERVED = 0.6
"""GB of a card that the driver and a desktop keep."""
LEAST = {"fp32": FP32, "fp16": FP16}


@dataclass(frozen=True)
class Backend:
    """One way to draw: its name, the precision of its graphs, and how it is made."""

    name: str
    precision: str
    make: Callable[[], Renderer]


def gpus() -> int:
    """How many GPUs NVIDIA's driver offers; 0 without a driver."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            cuda = ctypes.CDLL(library)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def backends(avatar: Path) -> Iterator[Backend]:
    """Whatever may work on a GPU, in every precision that the avatar brings."""
    with open_hvia(avatar) as file:
        precisions = GraphOffer(file, "face").precisions
    on_cuda = OnnxRuntimeOptions(device="cuda:0", max_batch=64, precision="fp32")
    yield Backend("onnxruntime cuda:0", "fp32", partial(make_onnxruntime, on_cuda))
    for engine in ("tensorrt", "tensorrt-rtx"):
        for precision in precisions:
            said: dict[str, Any] = {"engine": engine, "precision": precision, "max_batch": 64}
            yield Backend(engine, precision, partial(make_tensorrt, TensorRTOptions(**said)))


def parity(avatar: Path) -> int:
    """Compare every backend with the processor, picture for picture."""
    truth = filmed(lambda: make_onnxruntime(OnnxRuntimeOptions(precision="fp32")), avatar)
    worked, fine = 0, True
    for backend in backends(avatar):
        label = f"{backend.name:20} {backend.precision:5}"
        try:
            found = compare(truth, _film(backend, avatar))
        except VisavisError as error:
            print(f"{label} not here: {error}")
            continue
        least = LEAST.get(backend.precision)
        good = least is None or found.worst_db >= least
        worked, fine = worked + 1, fine and good
        said = "measured" if least is None else f"{'ok' if good else 'FAIL'}, {least:g} dB wanted"
        print(f"{label} {found}: {said}")
    print(f"{worked} backends compared on {avatar.stem}")
    return 0 if worked and fine else 1


def _film(backend: Backend, avatar: Path) -> Film:
    return filmed(backend.make, avatar)


def capacity(avatar: Path) -> int:
    """Print what each backend can take on. The processor's own row stands beside them."""
    rows = [
        Backend("onnxruntime cpu", "fp32", lambda: make_onnxruntime(OnnxRuntimeOptions(max_batch=64, precision="fp32")))
    ]
    heads = ["backend", "precision", *(f"batch {size}" for size in BATCHES), "sessions by step time"]
    heads += ["device MB", "MB a session", *(f"sessions on {gb} GB" for gb in CARDS)]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    worked = 0
    for backend in [*rows, *backends(avatar)]:
        try:
            print(_row(backend, avatar), flush=True)
        except VisavisError as error:
            print(f"{backend.name} {backend.precision}: not here: {error}", file=sys.stderr)
            continue
        worked += backend not in rows
    print("\nbatch N: milliseconds of a step in which N sessions speak, median")
    return 0 if worked else 1


def _row(backend: Backend, avatar: Path) -> str:
    before = used()
    renderer = backend.make()
    with ExitStack() as stack:
        stack.callback(renderer.close)
        with open_hvia(avatar) as file:
            loaded = renderer.load(file)
        stack.callback(loaded.close)
        times = {BATCHES[0]: _step(renderer, loaded, 1)}
        alone = used() - before
        times.update({size: _step(renderer, loaded, size) for size in BATCHES[1:]})
        each = max(0.0, (used() - before - alone) / (BATCHES[-1] - 1))
        sessions = _sessions(times, float(loaded.format.video.fps))
    cells = [f"{1000 * times[size]:.2f}" for size in BATCHES]
    cards = [str(_on_card(gb, sessions, alone, each)) for gb in CARDS]
    return (
        "| "
        + " | ".join([backend.name, backend.precision, *cells, str(sessions), f"{alone:.0f}", f"{each:.2f}", *cards])
        + " |"
    )


def _step(renderer: Renderer, loaded: LoadedAvatar, count: int) -> float:
    """Median seconds of a step with so many who speak."""
    chance, hop = np.random.default_rng(0), loaded.format.hop
    opened = [loaded.open(seed=seed) for seed in range(count)]
    took = []
    for _ in range(STEPS + 20):  # the first ones settle in, and are recorded
        sounds = chance.normal(0.0, 0.1, (count, hop)).astype(np.float32)
        began = time.perf_counter()
        renderer.step(opened, [RenderInput(pcm) for pcm in sounds])
        took.append(time.perf_counter() - began)
    for session in opened:
        session.close()
    return statistics.median(took[20:])


def _sessions(times: dict[int, float], fps: float) -> int:
    """How many could all speak at once: as many as the best size of batch gets through in a picture's time."""
    room = SHARE / fps
    return max(int(room / seconds * size) for size, seconds in times.items() if seconds <= room or size == 1)


def _on_card(gb: int, sessions: int, alone: float, each: float) -> int:
    """The same on a card with so much memory and this one's speed."""
    room = 1000 * (gb - RESERVED) - alone
    if room <= 0:
        return 0
    return sessions if each <= 0 else min(sessions, int(room / each) + 1)


def used() -> float:
    """MB of the first GPU that are in use, by whomever."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0.0
    asked = [tool, "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])


def main() -> int:
    """Run one of the two."""
    told = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    told.add_argument("what", choices=("parity", "capacity"))
    told.add_argument("--avatar", type=Path, help="an .hvia file (default: the sample avatar)")
    given = told.parse_args()
    if not gpus():
        print("no NVIDIA GPU and driver were found here, so nothing was run on one", file=sys.stderr)
        return NO_GPU
    avatar = given.avatar
    if avatar is None:
        import visavis_store_filesystem

        avatar = Path(visavis_store_filesystem.__file__).parent / "avatars" / "mira.hvia"
    return parity(avatar) if given.what == "parity" else capacity(avatar)


if __name__ == "__main__":
    sys.exit(main())
