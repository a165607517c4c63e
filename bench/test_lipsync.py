"""The lip-sync judge tells good talkers from bad ones; Mira is a good one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent / "models" / "motion")]

import visemes  # noqa: E402
from lipsync_eval import evaluate  # noqa: E402
from lipsync_video import read_sound  # noqa: E402

CLIP = BENCH / "speech" / "synth-slt-hts"
SIZE = 160
Floats = NDArray[np.float32]


def mouth(coefficients: Floats) -> NDArray[np.uint8]:
    """A face of three ellipses: skin, lips, and the dark between them."""
    get = lambda name: float(coefficients[visemes.INDEX[name]])  # noqa: E731
    opening = get("jawOpen") + 0.3 * get("mouthLowerDownLeft") + 0.2 * get("mouthUpperUpLeft") - get("mouthClose")
    if get("mouthPressLeft") > 0.2:
        opening = 0.0
    wide = 0.8 + 0.5 * get("mouthStretchLeft") + 0.3 * get("mouthSmileLeft") - 0.5 * get("mouthPucker")
    picture = np.full((SIZE, SIZE, 3), (140, 160, 200), np.uint8)
    for x in (52, 108):
        cv2.circle(picture, (x, 56), 5, (40, 40, 40), -1, cv2.LINE_AA)
    axes = np.round(np.array([24 * wide, 6 + 18 * opening, 20 * wide, 20 * opening]) * 16).astype(int)
    centre = (SIZE * 8, 112 * 16)
    cv2.ellipse(picture, centre, (int(axes[0]), int(axes[1])), 0, 0, 360, (90, 90, 180), -1, cv2.LINE_AA, 4)
    if axes[3] > 4:
        cv2.ellipse(picture, centre, (int(axes[2]), int(axes[3])), 0, 0, 360, (30, 20, 50), -1, cv2.LINE_AA, 4)
    return picture


def film(path: Path, coefficients: Floats, sound: Floats) -> Path:
    """The drawn talker with its sound."""
    with av.open(str(path), "w") as box:
        video = box.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = box.add_stream("aac", rate=16000, layout="mono")
        for index, row in enumerate(coefficients):
            frame = av.VideoFrame.from_ndarray(mouth(row), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
        whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="flt", layout="mono")
        whole.sample_rate, whole.pts = 16000, 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16000)
        for part in [*resampler.resample(whole), *resampler.resample(None)]:
            box.mux(audio.encode(part))
        box.mux(audio.encode(None))
    return path


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Figures of a talker by what is wrong with it."""
    phones = json.loads(CLIP.with_suffix(".json").read_text())
    sound, _ = read_sound(CLIP.with_suffix(".wav"))
    assert sound is not None
    sound = sound.astype(np.float32)
    count = -(-len(sound) // 640)
    right = visemes.film(phones, count).astype(np.float32)
    loud = np.sqrt(np.add.reduceat(sound.astype(np.float64) ** 2, np.arange(count) * 640) / 640)
    flapping = (np.clip(loud / np.percentile(loud, 95), 0, 1)[:, None] * visemes.pose(jawOpen=0.6)).astype(np.float32)
    ajar = right.copy()
    labial = right[:, visemes.INDEX["mouthPressLeft"]] > 0.02
    ajar[labial] = visemes.pose(jawOpen=0.25)
    tracks = {
        "right": right,
        "late": np.concatenate([np.zeros((3, 52), np.float32), right[:-3]]),
        "flapping": flapping,
        "ajar": ajar,
        "frozen": np.zeros_like(right),
    }
    folder = tmp_path_factory.mktemp("talkers")
    done: dict[str, dict[str, Any]] = {}

    def figures(name: str) -> dict[str, Any]:
        if name not in done:
            video = film(folder / f"{name}.mp4", tracks[name], sound)
            done[name] = evaluate(str(video), phones, str(CLIP.with_suffix(".wav")))
        return done[name]

    return figures


def test_a_right_talker_scores_high(judged: Callable[[str], dict[str, Any]]) -> None:
    found = judged("right")
    assert found["score"] > 90
    assert abs(found["offset_ms"]) < 25
    assert found["at_zero_lag"]["closure_recall"] > 0.9
    assert found["rest"]["rest_open_share"] == 0


def test_lateness_is_measured(judged: Callable[[str], dict[str, Any]]) -> None:
    late = judged("late")["offset_ms"] - judged("right")["offset_ms"]
    assert abs(late - 120) < 20
    assert judged("late")["score"] < judged("right")["score"] - 10


@pytest.mark.parametrize("fault", ["flapping", "ajar", "frozen"])
def test_faults_cost(fault: str, judged: Callable[[str], dict[str, Any]]) -> None:
    assert judged(fault)["score"] < judged("right")["score"] - 15


def test_an_open_mouth_has_no_closures(judged: Callable[[str], dict[str, Any]]) -> None:
    assert judged("ajar")["at_zero_lag"]["closure_recall"] < 0.3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mira_follows_speech() -> None:
    command = [sys.executable, str(BENCH / "lipsync.py"), "--speech", str(BENCH / "speech"), "--avatar", "mira"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCH.parent, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
