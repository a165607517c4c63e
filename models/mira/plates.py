"""The still parts of the base clip, drawn once at twice the frame's size.

    python -m mira.plates --ict MESH --out DIR [--samples 28]

Writes person.npz: `picture` [1024, 1024, 3] uint8 RGB (opaque, neutral face), `backdrop` (the same without
Mira), `alpha` [1024, 1024] float32 and `depth` [256, 256] float32 (cm towards the camera, NaN where there
is nobody), and canonical.png: the neutral face in the canonical region, downsampled like the base clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bpy
import cv2
import numpy as np
from numpy.typing import NDArray

from . import garment, hair
from .backdrop import backdrop
from .boxes import FRAME, REGION
from .coefficients import ARKIT_52
from .facekit import SKIN_END, Array
from .scene import CAMERA_DISTANCE, CENTRE_Y, FACE_Z, FRAME_CM, Studio

SCALE = 2
DEPTH_SIZE = 256


def tone_map(light: NDArray[np.float32], scene: bpy.types.Scene, folder: Path) -> NDArray[np.uint8]:
    """[H, W, 3] linear light through the scene's view transform, as uint8 RGB."""
    height, width = light.shape[:2]
    image = bpy.data.images.new("light", width, height, float_buffer=True)
    image.colorspace_settings.name = "Linear Rec.709"
    rgba = np.concatenate([light, np.ones((height, width, 1), np.float32)], -1)[::-1]
    image.pixels.foreach_set(np.ascontiguousarray(rgba, np.float32).ravel())
    image.update()
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGB", "8"
    target = folder / "toned.png"
    image.save_render(str(target), scene=scene)
    bpy.data.images.remove(image)
    toned = cv2.imread(str(target))
    assert toned is not None
    target.unlink()
    return cv2.cvtColor(toned, cv2.COLOR_BGR2RGB).astype(np.uint8)


def project(points: Array) -> NDArray[np.float64]:
    """Frame positions [N, 2] (512-pixel frame, pixel centres at integers + 0) of head points [N, 3]."""
    per_cm = FRAME / FRAME_CM * (CAMERA_DISTANCE - FACE_Z) / (CAMERA_DISTANCE - points[:, 2])
    lens_y = CENTRE_Y + 1.6
    x = FRAME / 2 + points[:, 0] * per_cm
    y = FRAME / 2 - (points[:, 1] - lens_y) * per_cm - 1.6 * FRAME / FRAME_CM
    return np.stack([x - 0.5, y - 0.5], 1)


def depth_map(studio: Studio) -> NDArray[np.float32]:
    """[DEPTH_SIZE, DEPTH_SIZE] nearest z (cm) of Mira's points, NaN elsewhere: splats, closed by dilation."""
    head = studio.face.head
    shown = head[:SKIN_END][~garment.hidden_skin(head[:SKIN_END])]
    strand = hair.grow(studio.face.kit, head).reshape(-1, 3)
    points = np.concatenate([shown, strand, garment.build(head).vertices])
    at = np.round((project(points) + 0.5) / FRAME * DEPTH_SIZE - 0.5).astype(int)
    inside = ((at >= 0) & (at < DEPTH_SIZE)).all(1)
    depth = np.full((DEPTH_SIZE, DEPTH_SIZE), -1e3, np.float32)
    np.maximum.at(depth, (at[inside, 1], at[inside, 0]), points[inside, 2])
    closed = cv2.morphologyEx(depth, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    out: NDArray[np.float32] = np.where(closed < -500, np.nan, closed).astype(np.float32)
    return out


def main() -> None:
    """Draw the plates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ict", type=Path, required=True, help="the mesh file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=28)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    studio = Studio(args.ict, args.threads)
    studio.pose(np.zeros(len(ARKIT_52)))
    light, alpha = studio.light(args.samples, SCALE)
    behind = cv2.resize(backdrop(FRAME), (FRAME * SCALE, FRAME * SCALE), interpolation=cv2.INTER_LINEAR)
    # Cycles gives premultiplied light.
    picture = tone_map(light + (1 - alpha[..., None]) * behind, studio.scene, args.out)
    empty = tone_map(behind, studio.scene, args.out)
    np.savez(args.out / "person.npz", picture=picture, backdrop=empty, alpha=alpha, depth=depth_map(studio))
    small = cv2.resize(picture, (FRAME, FRAME), interpolation=cv2.INTER_AREA)
    r = REGION
    crop = small[r.y : r.y + r.h, r.x : r.x + r.w]
    cv2.imwrite(str(args.out / "canonical.png"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(args.out / "picture.png"), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
