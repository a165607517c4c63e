"""A reader of avatar files written from docs/hvia.md alone: checks a file and draws one frame of a given expression.

python independent_reader.py mira.hvia out.png --frame 12 --set jawOpen=0.8 --set eyeBlinkLeft=1
"""

import argparse
import hashlib
import io
import json
import re
import zipfile

import av
import cv2
import numpy as np
import onnxruntime

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
MIB = 1 << 20


class RefusedError(ValueError):
    """The file is not an hvia/1 avatar; says why."""


def need(condition, reason):
    if not condition:
        raise RefusedError(reason)


def once(pairs):
    need(len({key for key, _ in pairs}) == len(pairs), "a key occurs twice")
    return dict(pairs)


def never(word):
    raise RefusedError(f"JSON does not know {word}")


def parsed(data):
    return json.loads(data, object_pairs_hook=once, parse_constant=never)


def open_avatar(path):
    """The manifest, and every member's bytes by path."""
    need(zipfile.is_zipfile(path), "not a zip archive: perhaps another vendor's encrypted avatar")
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        need(len(infos) <= 256 and sum(info.file_size for info in infos) <= 1024 * MIB, "too large")
        need(infos and infos[0].filename == "manifest.json", "manifest.json is not the first member")
        need(len({info.filename.lower() for info in infos}) == len(infos), "a member occurs twice")
        for info in infos:
            need(not info.flag_bits & 0x2041, "an encrypted avatar of another vendor")
            need(NAME.fullmatch(info.filename) and len(info.filename) <= 128, f"the name {info.filename!r}")
            need((info.external_attr >> 28) in (0, 8), f"{info.filename} is no plain file")
            need(info.file_size <= 256 * MIB, f"{info.filename} is too large")
        files = {}
        for info in infos:
            with archive.open(info) as member:
                files[info.filename] = member.read(info.file_size + 1)
    manifest = parsed(files.pop("manifest.json"))
    files.pop("manifest.json.sig", None)
    need(manifest["format"] == "hvia/1" and manifest["engine"] == "graphs/1", "another format or engine")
    listed = {member["path"]: member for member in manifest["members"]}
    need(listed.keys() == files.keys(), "the manifest lists other members")
    for name, data in files.items():
        need(len(data) == listed[name]["size"], f"{name} has another size")
        need(hashlib.sha256(data).hexdigest() == listed[name]["sha256"], f"{name} has another hash")
    video, motion = manifest["video"], manifest["motion"]
    need(video["fps"] * motion["hop"] == motion["sample_rate"] * motion.get("frames", 1), "the hop does not fit")
    need(any(clip["kind"] == "idle" for clip in manifest["clips"]), "no idle clip")
    return manifest, files


def base_frame(manifest, files, index):
    """Planes Y [h, w] and UV [2, h/2, w/2] of an idle frame, its affine [2, 3], rect and pose."""
    clip = next(clip for clip in manifest["clips"] if clip["kind"] == "idle")
    video = manifest["video"]
    w, h = video["width"], video["height"]
    placement = parsed(files[clip["placement"]])
    need(all(len(placement[key]) == clip["frames"] for key in ("affine", "rect", "pose")), "rows and frames differ")
    with av.open(io.BytesIO(files[clip["video"]])) as container:
        pictures = [picture.to_ndarray() for picture in container.decode(video=0)]
    need(len(pictures) == clip["frames"] and pictures[0].shape == (h * 3 // 2, w), "the clip has another shape")
    x, y, rw, rh = rect = placement["rect"][index]
    need(all(n % 2 == 0 for n in rect) and 0 <= x <= x + rw <= w and 0 <= y <= y + rh <= h, "rect")
    planes = pictures[index]
    affine = np.array(placement["affine"][index], float).reshape(2, 3)
    need(np.isfinite(affine).all() and abs(np.linalg.det(affine[:, :2])) >= 0.001, "affine")
    return planes[:h].copy(), planes[h:].reshape(2, h // 2, w // 2).copy(), affine, rect, placement["pose"][index]


def of_chroma(affine):
    """The same affine between chroma pixels, which lie in the middle of 2x2 luma pixels."""
    return np.column_stack([affine[:, :2], (affine[:, :2] @ (0.5, 0.5) + affine[:, 2] - 0.5) / 2])


def run_face(manifest, files, coefficients, y, uv, affine, pose):
    """What the face graph puts out: y [H, W], uv [2, H/2, W/2], alpha [H, W]."""
    face, names = manifest["face"], manifest["motion"]["coefficients"]
    size, half = (face["width"], face["height"]), (face["width"] // 2, face["height"] // 2)
    need(set(coefficients) <= set(names), "no such coefficient")

    def seen(plane, matrix, size, how):
        return cv2.warpAffine(plane, matrix, size, flags=how | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)

    given = {
        "expression": np.array([[coefficients.get(name, 0.0) for name in names]], np.float32),
        "pose": np.array([pose], np.float32),
        "base_y": seen(y, affine, size, cv2.INTER_CUBIC)[None, None],
        "base_uv": np.stack([seen(plane, of_chroma(affine), half, cv2.INTER_LINEAR) for plane in uv])[None],
    }
    engine = onnxruntime.InferenceSession(files[face["graph"]], providers=["CPUExecutionProvider"])
    need({item.name for item in engine.get_inputs()} == set(face["inputs"]), "the graph has other inputs")
    wanted = ["y", "uv", "alpha"] if face["alpha"] else ["y", "uv"]
    out = dict(zip(wanted, engine.run(wanted, {name: given[name] for name in face["inputs"]}), strict=True))
    alpha = out["alpha"][0, 0] if face["alpha"] else np.full((size[1], size[0]), 255, np.uint8)
    return out["y"][0, 0], out["uv"][0], alpha


def lay(base, plane, matrix, alpha, at, how):
    """base + alpha * (region - base) / 255 in the rectangle ``at`` (slices of rows and columns)."""
    size = base.shape[1], base.shape[0]
    over = cv2.warpAffine(plane, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    mixed = base + alpha * (over.astype(float) - base) / 255
    base[at] = np.rint(mixed[at]).astype(np.uint8)


def draw(manifest, files, coefficients, index=0):
    """One picture, RGB uint8 [height, width, 3]."""
    y, uv, affine, (x, top, w, h), pose = base_frame(manifest, files, index)
    face_y, face_uv, alpha = run_face(manifest, files, coefficients, y, uv, affine, pose)
    thick = cv2.warpAffine(alpha, affine, (y.shape[1], y.shape[0]), flags=cv2.INTER_LINEAR).astype(float)
    thin = cv2.resize(thick, (y.shape[1] // 2, y.shape[0] // 2), interpolation=cv2.INTER_AREA)
    lay(y, face_y, affine, thick, (slice(top, top + h), slice(x, x + w)), cv2.INTER_CUBIC)
    half = slice(top // 2, (top + h) // 2), slice(x // 2, (x + w) // 2)
    for base, plane in zip(uv, face_uv, strict=True):
        lay(base, plane, of_chroma(affine), thin, half, cv2.INTER_LINEAR)
    return cv2.cvtColor(np.concatenate([y, uv.reshape(-1, y.shape[1])]), cv2.COLOR_YUV2RGB_I420)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("avatar")
    parser.add_argument("picture")
    parser.add_argument("--frame", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    chosen = {name: float(value) for name, value in (item.split("=") for item in options.set)}
    cv2.imwrite(options.picture, draw(*open_avatar(options.avatar), chosen, options.frame)[..., ::-1])
