#!/usr/bin/env python3
"""How well does an avatar's mouth follow speech? Measured from pictures alone, against controls on the same face.

    lipsync.py --speech DIR --avatar ID_OR_FILE [--precision int8] [--languages en de]
               [--controls oracle energy frozen] [--json OUT.json] [--videos FOLDER]

DIR holds clips.json ([{"id", "lang", ...}]), ID.wav and ID.json (timed phones) for each clip; bench/speech is one.
Every clip is spoken by the installed visavis and drawn by the controls: the oracle (poses from the true phone
times: what this face could show at best), flapping by loudness, and a frozen face. Prints a line a clip, pooled
figures against what they must reach, and exits with 1 if a line fails that the oracle meets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from lipsync_eval import evaluate
from lipsync_figures import pooled, table, verdicts
from lipsync_video import read_sound
from numpy.typing import NDArray
from visavis.hvia import open_hvia
from visavis.media import VideoFrame
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.speaking import Speaker

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "motion"))
import visemes

RATE = 16000
Floats = NDArray[np.float32]
Result = dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """One clip: its sound at 16 kHz and its timed phones."""

    id: str
    language: str
    wav: Path
    sound: Floats
    phones: list[dict[str, Any]]

    def pictures(self, fps: Fraction) -> int:
        """How many pictures it lasts."""
        return math.ceil(len(self.sound) * fps / RATE)


def read_speech(folder: Path, languages: Sequence[str] | None) -> list[Recording]:
    """All clips of a folder, or those in some languages."""
    out = []
    for clip in json.loads((folder / "clips.json").read_text("utf-8")):
        if languages and clip["lang"] not in languages:
            continue
        wav = folder / f"{clip['id']}.wav"
        sound, _ = read_sound(wav)
        if sound is None:
            raise SystemExit(f"{wav} has no sound")
        phones = json.loads((folder / f"{clip['id']}.json").read_text("utf-8"))
        out.append(Recording(clip["id"], clip["lang"], wav, sound.astype(np.float32), phones))
    if not out:
        raise SystemExit(f"no clips in {folder} for {languages or 'any language'}")
    return out


# ------------------------------------------------------------------ who drives the face
def oracle(clip: Recording, fps: Fraction) -> Floats:
    """Poses from the phone times."""
    return np.asarray(visemes.film(clip.phones, clip.pictures(fps), float(fps)), np.float32)


def energy(clip: Recording, fps: Fraction) -> Floats:
    """The jaw flaps with the loudness."""
    edges = [int(k * RATE / fps) for k in range(clip.pictures(fps))]
    loud = np.sqrt(np.add.reduceat(clip.sound.astype(np.float64) ** 2, edges) / float(RATE / fps))
    loud = np.clip(loud / (np.percentile(loud, 95) + 1e-9), 0, 1).astype(np.float32)
    return np.asarray(loud[:, None] * visemes.pose(jawOpen=0.6, mouthLowerDown=0.2)[None], np.float32)


def frozen(clip: Recording, fps: Fraction) -> Floats:
    """Nothing moves."""
    return np.zeros((clip.pictures(fps), len(visemes.ARKIT_52)), np.float32)


CONTROLS: dict[str, Callable[[Recording, Fraction], Floats]] = {"oracle": oracle, "energy": energy, "frozen": frozen}


class Puppet:
    """The avatar's face, driven by coefficients instead of sound."""

    def __init__(self, avatar: str, renderer: str, options: dict[str, str]) -> None:
        registry = Registry.discover()
        record = registry.get(Kind.RENDERER, renderer)
        self._renderer = record.factory(record.config(**options))
        with asyncio.run(_open(registry, avatar)) as file:
            self._avatar = self._renderer.load(file)
            names = tuple(file.manifest.motion.coefficients)
        self.fps = self._avatar.format.video.fps
        self._order = [visemes.INDEX.get(name, -1) for name in names]

    def play(self, coefficients: Floats) -> Iterable[VideoFrame]:
        """Pictures of the coefficients [N, 52], without behaviours."""
        session = self._avatar.open(seed=0)
        rows = np.concatenate([coefficients, np.zeros((len(coefficients), 1), np.float32)], 1)[:, self._order]
        try:
            for row in rows:
                yield session.draw_expression(row)
        finally:
            session.close()

    def close(self) -> None:
        """Let go of the avatar."""
        self._avatar.close()
        self._renderer.close()


async def _open(registry: Registry, avatar: str) -> Any:
    if avatar.endswith(".hvia"):
        return open_hvia(Path(avatar))
    record = registry.get(Kind.STORE, "filesystem")
    store = record.factory(record.config())
    try:
        return await store.open(avatar)
    finally:
        await store.aclose()


async def speak(avatar: str, renderer: str, options: dict[str, str], clips: Sequence[Recording], folder: Path) -> None:
    """Every clip through the whole engine, sound to pictures, into FOLDER/visavis-ID.mp4."""
    async with Speaker(avatar, renderer=renderer, **options) as speaker:
        for clip in clips:
            frames = [frame.video async for frame in speaker.speak(clip.sound, RATE)]
            pictures = [picture for picture in frames if picture is not None]
            write_film(folder / f"visavis-{clip.id}.mp4", pictures, clip.sound, speaker.format.video.fps)


def write_film(path: Path, pictures: Iterable[VideoFrame], sound: Floats, fps: Fraction) -> None:
    """H.264 (crf 18) and AAC: fine enough that the codec hides no closure."""
    with av.open(str(path), "w") as box:
        stream, audio, count = None, None, 0
        for picture in pictures:
            if stream is None:
                stream = box.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "veryfast"})
                stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
                audio = box.add_stream("aac", rate=RATE, layout="mono")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.data), format="yuv420p")
            frame.pts, frame.time_base, count = count, 1 / fps, count + 1
            box.mux(stream.encode(frame))
        if stream is None or audio is None:
            raise SystemExit("the avatar gave no picture")
        box.mux(stream.encode(None))
        whole = av.AudioFrame.from_ndarray(
            (np.clip(sound, -1, 1)[None] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        whole.sample_rate, whole.pts = RATE, 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        for part in [*resampler.resample(whole), *resampler.resample(None)]:
            box.mux(audio.encode(part))
        box.mux(audio.encode(None))


# ------------------------------------------------------------------ the bench
def measure(driver: str, clips: Sequence[Recording], folder: Path) -> dict[str, Result]:
    """Figures of each clip's video, printed as they come."""
    out = {}
    for clip in clips:
        video = folder / f"{driver}-{clip.id}.mp4"
        out[clip.id] = evaluate(str(video), clip.phones, str(clip.wav)) | {"lang": clip.language}
        print(table.row(driver, clip.id, out[clip.id]), flush=True)
    return out


def bench(
    avatar: str,
    renderer: str,
    options: dict[str, str],
    clips: Sequence[Recording],
    controls: Sequence[str],
    folder: Path,
) -> dict[str, dict[str, Result]]:
    """Draw and measure visavis and the controls."""
    print(table.head, flush=True)
    asyncio.run(speak(avatar, renderer, options, clips, folder))
    results = {"visavis": measure("visavis", clips, folder)}
    puppet = Puppet(avatar, renderer, options) if controls else None
    for name in controls:
        assert puppet is not None
        for clip in clips:
            write_film(
                folder / f"{name}-{clip.id}.mp4", puppet.play(CONTROLS[name](clip, puppet.fps)), clip.sound, puppet.fps
            )
        results[name] = measure(name, clips, folder)
    if puppet is not None:
        puppet.close()
    return results


def main() -> int:
    """The command line; 1 if a line fails that the oracle meets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--avatar", required=True)
    parser.add_argument("--renderer", default="onnxruntime")
    parser.add_argument("--precision", help="that option of the renderer, say fp32 or int8")
    parser.add_argument("--languages", nargs="*")
    parser.add_argument("--controls", nargs="*", choices=list(CONTROLS), default=list(CONTROLS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--videos", type=Path, help="keep the videos here")
    o = parser.parse_args()
    clips = read_speech(o.speech, o.languages)
    with tempfile.TemporaryDirectory() as scratch:
        folder = o.videos or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        options = {"precision": o.precision} if o.precision else {}
        results = bench(o.avatar, o.renderer, options, clips, o.controls, folder)
    print()
    for name, figures in results.items():
        print(pooled.line(name, figures))
    print()
    failed = False
    for verdict in verdicts(results):
        print(verdict)
        failed |= verdict.fatal
    if o.json:
        o.json.write_text(json.dumps(results, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
