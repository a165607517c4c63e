"""Put the trained graphs, the clip and the preview into mira.hvia.

    python -m mira.pack --face face.onnx --motion motion.onnx --look-ahead 1920 --clips DIR \\
        --picture picture.png --licence ict-facekit-LICENSE.txt --out mira.hvia

Needs `visavis`, `onnx` and OpenCV. Shapes are read from the graphs; the look-ahead is what the motion graph was
trained with (samples at 16 kHz).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import onnx
from visavis.hvia import ARKIT_52, validate_hvia, write_hvia

DESCRIPTION = (
    "A young woman with a brown bob and a sage pullover, drawn by computer. Her head is a random mix of the shape "
    "components of ICT-FaceKit, her skin, hair and clothes are made by formula; she is nobody's likeness."
)
LARGEST = 12 * 1024 * 1024


def dimensions(values: Any) -> dict[str, list[int]]:
    """Shapes of a graph's inputs or outputs; 0 stands for a dynamic axis."""
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def manifest(face: Path, motion: Path, look_ahead: int, frames: int, notice: str) -> dict[str, Any]:
    """The manifest's fields but the members; raises `ValueError` when a graph does not fit the avatar."""
    heard, drawn = onnx.load(motion).graph, onnx.load(face).graph
    ears, looks, shows = dimensions(heard.input), dimensions(drawn.input), dimensions(drawn.output)
    out = dimensions(heard.output)["expression"]
    if out[-1] != len(ARKIT_52) or looks["expression"][-1] != len(ARKIT_52):
        raise ValueError(f"the graphs must speak {len(ARKIT_52)} coefficients, not {out[-1]}/{looks['expression'][-1]}")
    hop = ears["pcm"][-1]
    frames_a_call = hop * 25 // 16_000
    return {
        "name": "Mira",
        "description": DESCRIPTION,
        "author": "The visavis authors",
        "licence": "Apache-2.0",
        "notices": [notice],
        "likeness": {"of": "nobody", "consent": "not applicable: the face is a random mix of shape components"},
        "synthetic": True,
        "video": {"width": 512, "height": 512, "fps": 25},
        "motion": {
            "graph": "graphs/motion.onnx",
            "sample_rate": 16_000,
            "hop": hop,
            "frames": frames_a_call,
            "look_ahead": look_ahead,
            "state": ears["state"][-1],
            "profile": "arkit-52",
            "coefficients": list(ARKIT_52),
        },
        "face": {
            "graph": "graphs/face.onnx",
            "width": shows["y"][-1],
            "height": shows["y"][-2],
            "inputs": [n for n in ("expression", "pose", "base_y", "base_uv") if n in looks],
            "alpha": "alpha" in shows,
            "pose": 3,
        },
        "clips": [
            {
                "id": "idle",
                "kind": "idle",
                "video": "clips/idle.mp4",
                "placement": "clips/idle.json",
                "frames": frames,
            }
        ],
        "preview": "preview.jpg",
    }


def preview(picture: Path) -> bytes:
    """The still picture as a JPEG of 512x512."""
    image = cv2.imread(str(picture))
    if image is None:
        raise ValueError(f"{picture} is no picture")
    image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    assert done
    return data.tobytes()


def main() -> None:
    """Write the avatar file and check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("face", "motion", "clips", "picture", "licence", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--look-ahead", type=int, required=True, help="samples at 16 kHz")
    args = parser.parse_args()
    placement = (args.clips / "idle.json").read_bytes()
    notice = "The head's shapes derive from ICT-FaceKit.\n" + args.licence.read_text().strip()
    frames = len(json.loads(placement)["rect"])
    fields = manifest(args.face, args.motion, args.look_ahead, frames, notice)
    members = {
        "graphs/face.onnx": args.face,
        "graphs/motion.onnx": args.motion,
        "clips/idle.mp4": args.clips / "idle.mp4",
        "clips/idle.json": placement,
        "preview.jpg": preview(args.picture),
    }
    path = write_hvia(args.out, fields, members)
    findings = validate_hvia(path)
    for finding in findings:
        print(finding)
    if any(finding.level == "error" for finding in findings):
        raise SystemExit(f"{path} is not valid")
    size = path.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{path} has {size / 2**20:.1f} MiB: more than {LARGEST / 2**20:.0f}")
    print(f"{path}: {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
