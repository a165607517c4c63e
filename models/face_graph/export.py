"""Trained branches -> face.onnx (opset 17, face graph of the hvia/1 avatar file), checked.

    python models/face_graph/export.py mouth.pt eyes.pt --canonical canonical.png --pictures PICTURES --out face.onnx

The canonical picture is the resting face in the region (256x256 RGB). Alpha is opaque where the branches draw and fades
at the edges of their boxes, so that the base clip shows everywhere else. The pictures only give expressions to check.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from network import REGION, Box, Branch, Plan, Planes
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pictures import Bytes, Floats, load, planes, read_rgb
from torch import nn

ALLOWED = {"Add", "Cast", "Clip", "Concat", "Constant", "Conv", "DepthToSpace", "Gemm", "MatMul", "Mul", "Pad", "Relu",
           "Reshape", "Resize", "Sigmoid", "Slice", "Transpose"}  # fmt: skip
OPSET = 17
FEATHER = 14
"""Pixels over which alpha fades."""
SMALL = 16384
"""Constants of more numbers than this are stored in half precision (all but convolution weights)."""


def alpha_mask(boxes: list[Box]) -> Bytes:
    """[256, 256]: 255 inside the branches' boxes, fading smoothly to 0 at their outer edges."""
    drawn = np.zeros((REGION + 2, REGION + 2), np.uint8)  # one more on every side: the region's border is an edge too
    for left, top, wide, high in boxes:
        drawn[top + 1 : top + high + 1, left + 1 : left + wide + 1] = 1
    inside = cv2.distanceTransform(drawn, cv2.DIST_L2, 5)[1:-1, 1:-1]
    rise = np.clip((inside - 1) / FEATHER, 0, 1)
    return np.rint(255 * rise * rise * (3 - 2 * rise)).astype(np.uint8)


def restored(path: Path) -> Branch:
    """The branch of a checkpoint, with its averaged weights."""
    saved = torch.load(path, weights_only=True)
    branch = Branch(Plan.from_json(saved["plan"]), saved["coefficients"])
    branch.load_state_dict(saved["mean"])
    return branch.eval()


def assembled(branches: list[Branch], canonical: Bytes, alpha: Bytes) -> Planes:
    """The whole graph. A branch draws whole pictures; here it becomes what it adds to the canonical one."""
    luma, chroma = planes(canonical)
    canvas_y, canvas_uv = torch.from_numpy(luma)[None, None] / 255.0, torch.from_numpy(chroma)[None] / 255.0
    for branch in branches:
        left, top, width, height = branch.plan.box
        with torch.no_grad():
            branch.rest_y -= canvas_y[:, :, top : top + height, left : left + width]
            half = canvas_uv[:, :, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
            branch.rest_uv -= half
    return Planes(nn.ModuleList(branches), canvas_y, canvas_uv, torch.from_numpy(alpha)[None, None]).eval()


def folded(path: Path) -> onnx.ModelProto:
    """The graph with what is constant computed (the exporter works out paddings at run time)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    for known in list(model.opset_import):
        if known.domain:
            model.opset_import.remove(known)
    return model


def halved(model: onnx.ModelProto) -> None:
    """Store large constants (but convolution weights) as float16 behind a Cast, which runtimes fold when they load."""
    convolved = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for tensor in list(model.graph.initializer):
        value = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or value.size < SMALL or tensor.name in convolved:
            continue
        short = f"{tensor.name}.half"
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), short))
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("Cast", [short], [tensor.name], to=TensorProto.FLOAT))


def write(graph: Planes, coefficients: int, out: Path) -> None:
    """Export to `out`; raises ValueError if an operator is not one that every backend knows."""
    part = out.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph, (torch.zeros(1, coefficients),), str(part), opset_version=OPSET, dynamo=False,
            input_names=["expression"], output_names=["y", "uv", "alpha"],
            dynamic_axes={name: {0: "B"} for name in ("expression", "y", "uv", "alpha")},
        )
    model = folded(part)
    halved(model)
    onnx.checker.check_model(model, full_check=True)
    strange = {node.op_type for node in model.graph.node} - ALLOWED
    if strange:
        raise ValueError(f"operators outside the contract: {sorted(strange)}")
    onnx.save(model, part)
    os.replace(part, out)


def check(graph: Planes, path: Path, rows: Floats) -> None:
    """Compare the file with torch, and a batch with its rows alone; raises ValueError if they differ by over 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
        return int(np.abs(a.astype(int) - b.astype(int)).max())

    together = session.run(None, {"expression": rows})
    with torch.no_grad():
        truth = [t.numpy() for t in graph(torch.from_numpy(rows))]
    worst = max(apart(a, b) for a, b in zip(together, truth, strict=True))
    for k in range(len(rows)):
        alone = session.run(None, {"expression": rows[k : k + 1]})
        worst = max(worst, *(apart(a[0], b[k]) for a, b in zip(alone, together, strict=True)))
    if worst > 1:
        raise ValueError(f"{path} differs from the trained network or between batch sizes by {worst} levels")
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB; apart from torch, and rows from a batch: {worst} level")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--canonical", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    said = parser.parse_args()
    torch.set_num_threads(1)
    canonical = read_rgb(said.canonical)
    if canonical is None or canonical.shape != (REGION, REGION, 3):
        raise SystemExit(f"{said.canonical} is not a {REGION}x{REGION} picture")
    branches = [restored(path) for path in said.checkpoints]
    folders = [said.pictures / branch.plan.name.partition("-")[0] for branch in branches]
    graph = assembled(branches, canonical, alpha_mask([branch.plan.box for branch in branches]))
    rows = np.concatenate([load(folder).coefficients[:4] for folder in folders])
    write(graph, rows.shape[1], said.out)
    check(graph, said.out, rows)


if __name__ == "__main__":
    main()
