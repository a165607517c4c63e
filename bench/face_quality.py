"""How true a face graph's pictures are: its lips against rendered sentences it never saw, and a contact sheet.

    python bench/face_quality.py --pictures PICTURES --face avatars/mira.hvia
    python bench/face_quality.py --face avatars/mira.hvia --sheet docs/contact-sheet.jpg

PICTURES holds sets of frames: NNNN.png, coefs.npy, meta.json (models/mira draws them) and lips.npy
(models/face_graph/lips.py). A set's name begins with "sentence" (consecutive frames) or with "quality" (some frames
with many samples a pixel). Sets with the same coefficients belong together: the one with the most samples is the
truth, another is the ceiling: what the renderer's own noise costs. Everything is compared in RGB, after the graph's
YUV 4:2:0 has been turned into colours, inside the lips' bounding box of each frame plus 15 %:

- PSNR over the three colours, mean of the frames; SSIM of luma (Gaussian window, sigma 1.5), mean over the box;
- flicker: mean absolute change from frame to frame in the sentence's union box, the graph's by the truth's.

Needs onnxruntime, numpy and opencv-python-headless.
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_NAMES = """eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight jawForward
jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight
mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower
mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight
mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff
cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut"""
COEFFICIENTS = _NAMES.split()

SHEET: dict[str, dict[str, float]] = {
    "rest": {},
    "p": {"jawOpen": 0.07, "mouthClose": 0.07, "mouthPress": 0.38, "mouthRollLower": 0.16, "mouthRollUpper": 0.12},
    "a": {"jawOpen": 0.60, "mouthLowerDown": 0.24, "mouthUpperUp": 0.14},
    "i": {"jawOpen": 0.10, "mouthLowerDown": 0.24, "mouthUpperUp": 0.14, "mouthStretch": 0.34, "mouthSmile": 0.42},
    "u": {"jawOpen": 0.13, "mouthPucker": 0.80, "mouthFunnel": 0.24},
    "f": {"jawOpen": 0.08, "mouthRollLower": 0.52, "mouthUpperUp": 0.26, "mouthShrugLower": 0.08, "mouthSmile": 0.05},
    "s": {"jawOpen": 0.10, "mouthLowerDown": 0.30, "mouthUpperUp": 0.20, "mouthStretch": 0.18, "mouthSmile": 0.14},
    "th": {"jawOpen": 0.19, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12, "tongueOut": 0.50},
    "blink": {"eyeBlink": 1.0},
}
"""Expressions of the contact sheet; a name without Left or Right means both."""

YUV_TO_RGB = np.array(
    [[1.164384, 0.0, 1.596027], [1.164384, -0.391762, -0.812968], [1.164384, 2.017232, 0.0]], np.float32
)
"""BT.601, limited range."""


class Graph:
    """A face graph on one thread."""

    def __init__(self, path: Path) -> None:
        if path.suffix == ".hvia":
            with zipfile.ZipFile(path) as avatar:
                model = avatar.read(json.loads(avatar.read("manifest.json"))["face"]["graph"])
        else:
            model = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.poses = "pose" in {i.name for i in self.session.get_inputs()}

    def planes(self, rows: Floats) -> list[Bytes]:
        """[B, 52] -> Y [B,1,H,W], UV [B,2,H/2,W/2]."""
        feed = {"expression": rows}
        if self.poses:
            feed["pose"] = np.zeros((len(rows), 3), np.float32)
        out: list[Bytes] = self.session.run(["y", "uv"], feed)
        return out

    def pictures(self, rows: Floats) -> Bytes:
        """[N, 52] -> RGB [N, H, W, 3]."""
        return np.stack([rgb(y[0, 0], uv[0]) for y, uv in (self.planes(rows[k : k + 1]) for k in range(len(rows)))])

    def milliseconds(self, batch: int, rounds: int = 60) -> float:
        """Median processor time of one frame in a batch of so many (it has one thread, so other load hardly counts)."""
        rows, taken = np.zeros((batch, len(COEFFICIENTS)), np.float32), []
        for _ in range(rounds):
            begun = time.thread_time()
            self.planes(rows)
            taken.append(time.thread_time() - begun)
        return float(np.median(taken)) / batch * 1e3


def rgb(y: Bytes, uv: Bytes) -> Bytes:
    """Y [h, w] and UV [2, h/2, w/2] -> RGB [h, w, 3], chroma enlarged linearly as a player does."""
    high, wide = y.shape
    big = [cv2.resize(plane, (wide, high), interpolation=cv2.INTER_LINEAR) for plane in uv]
    yuv = np.stack([y, *big], -1).astype(np.float32) - np.array([16, 128, 128], np.float32)
    colours: Bytes = np.clip(np.rint(yuv @ YUV_TO_RGB.T), 0, 255).astype(np.uint8)
    return colours


@dataclass(frozen=True)
class Frames:
    """One set of consecutive rendered frames."""

    name: str
    samples: int
    rows: Floats
    left: int
    top: int
    rgb: Bytes
    lips: Floats | None


def read(folder: Path) -> Frames:
    """A set of frames, as far as it is complete."""
    meta = json.loads((folder / "meta.json").read_text())
    rows, frames = np.load(folder / "coefs.npy", allow_pickle=False).astype(np.float32), []
    for number in range(len(rows)):
        bgr = cv2.imread(str(folder / f"{number:04d}.png"), cv2.IMREAD_COLOR)
        if bgr is None:
            break
        frames.append(bgr[..., ::-1])
    lips = np.load(folder / "lips.npy", allow_pickle=False)[: len(frames)] if (folder / "lips.npy").exists() else None
    left, top = meta["box"]["x"] - meta["region"]["x"], meta["box"]["y"] - meta["region"]["y"]
    return Frames(folder.name, int(meta["samples"]), rows[: len(frames)], left, top, np.stack(frames), lips)


def sentences(pictures: Path) -> list[tuple[Frames, Frames | None]]:
    """(truth, ceiling) of every sentence: the judged sets, paired by their coefficients."""
    paths = [path for kind in ("sentence", "quality") for path in sorted(pictures.glob(f"{kind}*/coefs.npy"))]
    found = [read(path.parent) for path in paths]
    pairs: list[tuple[Frames, Frames | None]] = []
    for one in sorted(found, key=lambda each: -each.samples):
        size = len(one.rows)
        for k, (truth, ceiling) in enumerate(pairs):
            least = min(size, len(truth.rows))
            if ceiling is None and np.array_equal(truth.rows[:least], one.rows[:least]):
                pairs[k] = truth, one
                break
        else:
            pairs.append((one, None))
    return sorted(pairs, key=lambda pair: pair[0].name)


def psnr(a: Bytes, b: Bytes) -> float:
    """Peak signal to noise ratio in dB over all given pixels."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2)) / 255**2
    return float(-10 * np.log10(max(1e-9, error)))


def ssim_map(a: Bytes, b: Bytes) -> NDArray[np.float64]:
    """[h, w]: structural similarity of two RGB pictures' luma."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (a, b))

    def smooth(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(p, (11, 11), 1.5), np.float64)

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = smooth(x), smooth(y)
    vx, vy, both = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
    found: NDArray[np.float64] = ((2 * mx * my + c1) * (2 * both + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return found


def compare(got: Bytes, truth: Bytes, boxes: NDArray[np.int64]) -> dict[str, float]:
    """Figures of one sentence; `boxes` [N, 4] are left, top, right, bottom in pixels of the pictures."""
    decibels, similar = [], []
    for mine, real, (x0, y0, x1, y1) in zip(got, truth, boxes, strict=True):
        decibels.append(psnr(mine[y0:y1, x0:x1], real[y0:y1, x0:x1]))
        similar.append(float(ssim_map(mine, real)[y0:y1, x0:x1].mean()))
    (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    change = [np.abs(np.diff(p[:, y0:y1, x0:x1].astype(np.float64), axis=0)).mean() for p in (got, truth)]
    return {"psnr": float(np.mean(decibels)), "worst": min(decibels), "ssim": float(np.mean(similar)),
            "flicker": float(change[0] / change[1])}  # fmt: skip


def judge(graph: Graph, pictures: Path) -> list[dict[str, Any]]:
    """Figures of every sentence, the graph's and the ceiling's."""
    rows = []
    for truth, ceiling in sentences(pictures):
        lips = truth.lips if truth.lips is not None else (ceiling.lips if ceiling else None)
        if lips is None:
            raise SystemExit(f"{truth.name} has no lips.npy; run models/face_graph/lips.py on it")
        high, wide = truth.rgb.shape[1:3]
        lips = lips - np.array([truth.left, truth.top] * 2)
        corners = np.concatenate([np.floor(lips[:, :2]), np.ceil(lips[:, 2:])], 1)
        boxes = np.clip(corners, 0, [wide, high] * 2).astype(np.int64)
        got = graph.pictures(truth.rows)[:, truth.top : truth.top + high, truth.left : truth.left + wide]
        count = len(truth.rgb)
        row: dict[str, Any] = {"sentence": truth.name, "frames": count, "samples": truth.samples}
        row |= compare(got, truth.rgb, boxes[:count])
        if ceiling is not None:
            least = min(count, len(ceiling.rgb))
            at_best = compare(ceiling.rgb[:least], truth.rgb[:least], boxes[:least])
            row |= {"ceiling_samples": ceiling.samples} | {f"ceiling_{k}": v for k, v in at_best.items()}
        rows.append(row)
    return rows


def expression(shapes: dict[str, float]) -> Floats:
    """[52] from names; a name without Left or Right sets both."""
    row = np.zeros(len(COEFFICIENTS), np.float32)
    for name, value in shapes.items():
        for full in [name] if name in COEFFICIENTS else [f"{name}Left", f"{name}Right"]:
            row[COEFFICIENTS.index(full)] = value
    return row


def sheet(graph: Graph, out: Path, quality: int = 88) -> None:
    """Write the contact sheet: nine expressions, three a row, each with its name."""
    tiles = []
    for name, picture in zip(SHEET, graph.pictures(np.stack([expression(s) for s in SHEET.values()])), strict=True):
        tile = np.ascontiguousarray(picture[..., ::-1])
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(tile, name, (8, 248), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thick, cv2.LINE_AA)
        tiles.append(tile)
    whole = np.vstack([np.hstack(tiles[k : k + 3]) for k in range(0, len(tiles), 3)])
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if out.suffix in (".jpg", ".jpeg") else []
    cv2.imwrite(str(out), whole, options)


def told(row: dict[str, Any]) -> str:
    """The figures of one sentence, for people."""
    lines = [f"{row['sentence']}: {row['frames']} frames, truth of {row['samples']} samples a pixel"]
    for who, start in (("graph", ""), ("ceiling", "ceiling_")):
        if start + "psnr" not in row:
            continue
        line = f"  {who:8} PSNR {row[start + 'psnr']:.2f} dB (worst frame {row[start + 'worst']:.2f})"
        line += f"  SSIM {row[start + 'ssim']:.4f}"
        if row["sentence"].startswith("sentence"):
            line += f"  flicker {row[start + 'flicker']:.2f}"
        lines.append(line + (f"  ({row['ceiling_samples']} samples a pixel)" if start else ""))
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face", type=Path, required=True, help="face.onnx or an avatar file")
    parser.add_argument("--pictures", type=Path, help="folder of the rendered sets")
    parser.add_argument("--sheet", type=Path, help="write the contact sheet there (.jpg or .png)")
    parser.add_argument("--json", action="store_true", help="one JSON object a sentence")
    said = parser.parse_args()
    graph = Graph(said.face)
    for row in judge(graph, said.pictures) if said.pictures else []:
        if said.json:
            print(json.dumps(row))
            continue
        print(told(row))
    print(f"CPU time: {graph.milliseconds(1):.2f} ms a frame alone, {graph.milliseconds(8):.2f} ms in a batch of 8")
    if said.sheet:
        sheet(graph, said.sheet)
        print(f"{said.sheet}: {said.sheet.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
