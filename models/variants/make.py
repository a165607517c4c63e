"""An avatar file with its graphs in other precisions.

    python models/variants/make.py mira.hvia --speech bench/speech MORE_SPEECH --out mira.hvia

Speech (folders of wav) calibrates; half of it is kept apart and tells what the result is worth. Everything else of the
file stays as it is. Needs onnx, onnxruntime, av, opencv-python-headless and visavis.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graphs import Array, constants, named, pruned, replaced, stored_half, stored_int8
from half import end_of, halved
from int8 import quantised
from onnx import NodeProto, helper, numpy_helper
from speech import Feeds, Floats, calls, expressions, recordings, seldom, session
from visavis.hvia import open_hvia, validate_hvia, write_hvia
from visavis.hvia.graphs import face_contract, load_graphs, motion_contract, tidy_graph

LARGEST = 12_000_000
PEAKS = 99.99
"""Percent of the face graph's activations that its int8 ranges reach to; its features have rare, high peaks."""
CALIBRATION = 160
MIXTURES = 60


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The face graph less what it computes for nothing: one Slice for two axes, alpha without a whole plane of zeros.

    One of patches has none of it.
    """
    if not convolutions(model):
        return model
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    known = constants(model)
    merged: dict[str, NodeProto] = {}

    def join(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Slice":
            return None
        before = merged.pop(node.input[0], None)
        parts = [known[name] for name in node.input[1:]]
        if before is not None:
            parts = [np.concatenate(pair) for pair in zip((known[n] for n in before.input[1:]), parts, strict=True)]
        names = [f"{node.output[0]}.{part}" for part in ("starts", "ends", "axes", "steps")]
        for name, value in zip(names, parts, strict=True):
            known[name] = value
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        source = before.input[0] if before is not None else node.input[0]
        whole = helper.make_node("Slice", [source, *names], list(node.output), name=node.name)
        following = readers.get(node.output[0], [])
        if len(following) == 1 and following[0].op_type == "Slice":
            merged[node.output[0]] = whole
        return [whole]

    def one_zero(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Mul" or node.input[1] not in known or known[node.input[1]].any():
            return None
        rows = helper.make_node("ReduceMax", ["expression"], ["rows"], axes=[1], keepdims=1)
        shape = numpy_helper.from_array(np.array([-1, 1, 1, 1], np.int64), "rows.shape")
        model.graph.initializer.append(shape)
        flat = helper.make_node("Reshape", ["rows", "rows.shape"], ["rows.flat"])
        return [rows, flat, helper.make_node("Mul", ["rows.flat", node.input[1]], list(node.output), name=node.name)]

    return pruned(replaced(replaced(model, join), one_zero))


def channels(name: str, value: Array) -> int | None:
    """Along which axis the channels of a face graph's constant lie, if it may be stored in int8."""
    if name.endswith((".gain", ".offset")):
        return 1
    if ".patterns." in name:  # every one of them reaches to 1
        return 0
    if name.startswith("branches.") and ".perceptron." in name and value.ndim == 2:
        return 0
    return 0 if value.ndim == 4 and name.endswith(".weight") else None


def patches(name: str, value: Array) -> int | None:
    """The same for what is executed in fp32: a patch's patterns, of which each is a small part of its picture."""
    return channels(name, value) if ".patterns." in name else None


def convolutions(model: onnx.ModelProto) -> list[str]:
    """The names of the 3x3 ones; a graph without any is not worth an int8 variant."""
    kernels = {node.name: [list(a.ints) for a in node.attribute if a.name == "kernel_shape"] for node in model.graph.node}
    return [name for name, kernel in kernels.items() if kernel == [[3, 3]]]


def face_int8(model: onnx.ModelProto, rows: Floats) -> onnx.ModelProto:
    """Every 3x3 convolution: nearly all of the work. What draws pixels, and the little before it, stays as it is."""
    nodes = convolutions(model)
    made = quantised(model, nodes, [{"expression": row[None]} for row in rows], PEAKS)
    return stored_half(stored_int8(made, channels))


def face_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """All in half precision until the boxes are in their places: the last sums' rounding would be seen."""
    exact = end_of(model, lambda node: node.op_type == "Pad")
    return stored_half(stored_int8(halved(model, exact, channels), channels))


def motion_int8(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> onnx.ModelProto:
    """The network's large products; what listens to the sound and what mixes the poses stays as it is."""
    known, width = constants(model), 168
    nodes = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in known and known[node.input[1]].shape[1:] == (width,)
    ]
    return stored_half(quantised(model, nodes, feeds))


def parted(sounds: Sequence[Floats]) -> tuple[list[Floats], list[Floats]]:
    """What calibrates and what is kept apart."""
    return list(sounds[::2]), list(sounds[1::2])


def variants(motion: onnx.ModelProto, face: onnx.ModelProto, sounds: Sequence[Floats]) -> dict[str, onnx.ModelProto]:
    """All graphs by the member's name less its ending."""
    hears = session(motion)
    feeds = [feeds for pcm in sounds for feeds, _ in list(calls(hears, pcm))[::5]]
    spoken = expressions(hears, sounds)
    few = np.random.default_rng(0).permutation(len(spoken))[:CALIBRATION]
    rows = np.concatenate([spoken[few], seldom(MIXTURES, spoken.shape[1])])

    def copy(model: onnx.ModelProto) -> onnx.ModelProto:
        return named(onnx.load_model_from_string(model.SerializeToString()))

    made = {
        "motion": stored_half(copy(motion)),
        "motion.int8": motion_int8(copy(motion), feeds),
        "face": stored_half(stored_int8(copy(face), patches), lambda name: name.endswith((".gain", ".offset", ".shares.weight"))),
        "face.fp16": face_fp16(copy(face)),
    }
    if convolutions(copy(face)):
        made["face.int8"] = face_int8(copy(face), rows)
    return made


def bytes_of(model: onnx.ModelProto) -> bytes:
    """A file that says nothing of who wrote it."""
    for field in ("metadata_props", "producer_version", "doc_string"):
        model.ClearField(field)
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
    del model.graph.value_info[:]
    standard = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", standard[0]))
    model.ir_version, model.producer_name = 8, "visavis"
    return bytes(model.SerializeToString(deterministic=True))


def repacked(avatar: Path, graphs: Mapping[str, bytes], out: Path) -> None:
    """The file with these graphs, everything else as it was."""
    with open_hvia(avatar) as file:
        fields: dict[str, Any] = file.manifest.model_dump(mode="json", exclude_none=True)
        replaced_ones = {fields["motion"]["graph"], fields["face"]["graph"]}
        for part in ("motion", "face"):
            replaced_ones.update((fields[part].get("variants") or {}).values())
        members: dict[str, bytes] = {m.path: file.read(m.path) for m in file.manifest.members}
    members = {path: data for path, data in members.items() if path not in replaced_ones}
    for part in ("motion", "face"):
        others = {name.split(".")[1]: f"graphs/{name}.onnx" for name in graphs if name.startswith(f"{part}.")}
        fields[part] |= {"graph": f"graphs/{part}.onnx", "variants": others}
    members |= {f"graphs/{name}.onnx": data for name, data in graphs.items()}
    del fields["members"]
    write_hvia(out, fields, members)


def main() -> None:
    """Read, make, write, validate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--motion", type=Path, help="another motion graph than the file's, say a leaner one")
    parser.add_argument("--face", type=Path, help="another face graph, say one that distil.py wrote")
    parser.add_argument("--speech", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    said = parser.parse_args()
    with open_hvia(said.avatar) as file:
        graphs, manifest = load_graphs(file), file.manifest
    heard = said.motion.read_bytes() if said.motion else graphs.motion.data
    seen = said.face.read_bytes() if said.face else graphs.face.data
    motion, face = (
        onnx.load_model_from_string(tidy_graph(data, *contract(manifest)))
        for data, contract in ((heard, motion_contract), (seen, face_contract))
    )
    made = variants(motion, slim(face), parted(recordings(said.speech))[0])
    repacked(said.avatar, {name: bytes_of(model) for name, model in made.items()}, said.out)
    for finding in validate_hvia(said.out):
        print(finding)
        if finding.level == "error":
            raise SystemExit(f"{said.out} is not valid")
    size = said.out.stat().st_size
    print(f"{said.out}: {size / 1e6:.2f} MB")
    if size > LARGEST:
        raise SystemExit(f"that is more than {LARGEST / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
