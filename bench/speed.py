"""What a face costs: milliseconds a frame, first frame, memory; each beside the floor of the same run.

    python bench/speed.py [--speech FILE] [--seconds 60] [--avatar mira] [--json FILE] [--gate]

One thread. The recording is repeated to the wanted length. Times are the processor's, so that a busy neighbour does not
count. ``--gate`` exits 1 where a figure misses its bound. Memory is read from /proc (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import anyio
import av
import numpy as np
from visavis.config import Deployment, default_deployment
from visavis.interfaces.session import SessionRequest
from visavis.measuring import STAGES, measure
from visavis.registry import Registry
from visavis.speaking import Speaker
from visavis.supervisor import Supervisor

HERE = Path(__file__).resolve().parent
BOUNDS = {
    "times real time": (3.0, "at least"),
    "first frame of a warm session, ms": (100.0, "at most"),
    "memory with one avatar, MB": (400.0, "at most"),
    "memory of a second session, MB": (30.0, "at most"),
}


def recording(speech: Path, seconds: float, out: Path) -> None:
    """The recording, repeated or cut to so many seconds, as 16-bit wav."""
    with av.open(str(speech)) as file:
        stream = file.streams.audio[0]
        rate = int(stream.rate)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        parts = [f.to_ndarray()[0] for frame in file.decode(stream) for f in resampler.resample(frame)]
    pcm = np.resize(np.concatenate(parts), int(seconds * rate))
    with av.open(str(out), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def private_megabytes() -> float:
    """USS of this process without the memory-mapped clip cache: private pages of every other mapping, in MB."""
    total, skip = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()
        if "-" in head[0] and ":" not in head[0]:
            skip = line.rstrip().endswith(".i420") or "/clips/" in line
        elif not skip and head[0] in ("Private_Clean:", "Private_Dirty:"):
            total += int(head[1])
    return total / 1024


async def sessions(deployment: Deployment, avatar: str, pcm: np.ndarray, rate: int) -> dict[str, float]:
    """First frame of a warm session, memory with one avatar, memory of a second session beside the first."""
    async with Speaker(avatar) as speaker:
        async for _ in speaker.speak(pcm[: rate * 2], rate):
            pass
        one = private_megabytes()
        firsts = []
        for _ in range(5):
            began = time.perf_counter()
            frames = speaker.speak(pcm[:rate], rate)
            await anext(frames)
            firsts.append(time.perf_counter() - began)
            await frames.aclose()
        first = speaker.speak(pcm[: rate * 2], rate)
        await anext(first)
        before = private_megabytes()
        second = speaker.speak(pcm[: rate * 2], rate)
        await anext(second)
        for _ in range(10):
            await anext(second)
        after = private_megabytes()
        await first.aclose()
        await second.aclose()
    return {
        "first frame of a warm session, ms": 1000 * sorted(firsts)[2],
        "memory with one avatar, MB": one,
        "memory of a second session, MB": max(0.0, after - before),
    }


def cold_start(avatar: str) -> float:
    """Seconds from the start of a process to its first frame (clip cache warm)."""
    code = (
        "import anyio, numpy, visavis, sys\n"
        "async def main():\n"
        f"    frames = visavis.speak({avatar!r}, numpy.zeros(16000, 'f4'), 16000)\n"
        "    await anext(frames); print('frame', flush=True); await frames.aclose()\n"
        "anyio.run(main)\n"
    )
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "frame\n"
        took = time.perf_counter() - began
        child.communicate()
    return took


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    deployment = default_deployment(Registry.discover())
    with tempfile.TemporaryDirectory() as folder:
        wav, out = Path(folder) / "speech.wav", Path(folder) / "out.mp4"
        recording(arguments.speech, arguments.seconds, wav)
        request = SessionRequest(avatar=arguments.avatar, source={"path": str(wav)}, transport={"path": str(out)})
        async with Supervisor(deployment) as supervisor, supervisor.avatar(arguments.avatar):
            pass  # the clip is decoded once a machine: not part of a frame's cost
        whole, floor = await measure(deployment, request)
    rate = 16_000
    pcm = np.random.default_rng(0).normal(0, 0.05, rate * 3).astype(np.float32)
    memory = await sessions(deployment, arguments.avatar, pcm, rate)
    return {
        "frames": whole.frames,
        "stages, ms a frame": {s: round(whole.stages[s], 3) for s in STAGES},
        "whole path, ms a frame": round(whole.frame_ms, 3),
        "floor (ready frames), ms a frame": round(floor.frame_ms, 3),
        "ratio to the floor": round(whole.frame_ms / floor.frame_ms, 2),
        "times real time": round(whole.realtime, 2),
        "times real time, wall clock": round(whole.media / whole.wall, 2),
        "floor, times real time": round(floor.realtime, 2),
        **{k: round(v, 1) for k, v in memory.items()},
        "process start to first frame, s": round(min(cold_start(arguments.avatar) for _ in range(3)), 2),
    }


def main() -> int:
    """Print a table; exit 1 with --gate where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=HERE / "speech" / "synth-slt.wav")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--avatar", default="mira")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--gate", action="store_true")
    arguments = parser.parse_args()
    figures = anyio.run(run, arguments)
    for name, value in figures.items():
        bound = BOUNDS.get(name)
        print(f"{name:42} {value}" + (f"   (bound: {bound[1]} {bound[0]:g})" if bound else ""))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    missed = [n for n, (b, how) in BOUNDS.items() if (figures[n] < b if how == "at least" else figures[n] > b)]
    for name in missed:
        print(f"MISSED: {name}")
    return 1 if arguments.gate and missed else 0


if __name__ == "__main__":
    sys.exit(main())
