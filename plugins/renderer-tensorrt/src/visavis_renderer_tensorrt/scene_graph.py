"""The face graph with the laying of its face behind it: expressions and base pixels in, finished pixels out.

Composing is part of the network rather than a CUDA kernel of its own. So it needs no CUDA compiler where it runs, every
engine that executes ONNX can execute it (the tests do, on the processor), and TensorRT fuses it as it likes. Only a
*window* travels: the smallest even rectangle that holds what moves on any frame. The device holds the windows of all
base frames, one picture leaves it as one window, and the processor copies it into its base frame.

It computes what :mod:`visavis.graphs1.compose` does: the region is enlarged twofold by the same cubic, sampled linearly
where the affine says, and blended by its alpha. The one difference is OpenCV's grid of 1/32 pixel for sampled places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from visavis.errors import RendererError
from visavis.graphs1.compose import Plane, Spot

from visavis_renderer_tensorrt.nodes import FLOAT, UINT8, Nodes, attribute

if TYPE_CHECKING:
    from onnx import ModelProto

PLACE: Final = 17
"""Numbers that say where a face lands: luma's affine (6), chroma's (6), the rectangle (4), 1 for a mere shift."""
GRIDS: Final = 16
"""From this version of the standard operators on there is GridSample."""
_A: Final = -0.75
"""The cubic of OpenCV's INTER_CUBIC."""


@dataclass(frozen=True)
class Window:
    """What of a frame may change: its size, and its corner on every base frame. All even."""

    width: int
    height: int
    corners: NDArray[np.int64]
    """``[frames, 2]``: x, y."""
    kinds: frozenset[str]
    """How faces land: ``shift`` by whole even pixels, ``warp`` by any affine."""

    @property
    def size(self) -> int:
        """Bytes of a window, I420."""
        return self.width * self.height * 3 // 2

    def cut(self, frame: Plane, at: int) -> Plane:
        """The window of base frame ``at``: luma's rows, then both chroma planes. Uint8 ``[size]``."""
        luma, chroma = self._parts(frame, at)
        return np.concatenate([luma.ravel(), chroma.ravel()])

    def paste(self, frame: Plane, at: int, pixels: Plane) -> None:
        """Write pixels ``[size]`` into the frame, in place."""
        luma, chroma = self._parts(frame, at)
        area = self.width * self.height
        luma[...] = pixels[:area].reshape(luma.shape)
        chroma[...] = pixels[area:].reshape(chroma.shape)

    def _parts(self, frame: Plane, at: int) -> tuple[Plane, Plane]:
        height, width = frame.shape[0] * 2 // 3, frame.shape[1]
        x, y = (int(n) for n in self.corners[at])
        chroma = frame[height:].reshape(2, height // 2, width // 2)
        return (
            frame[y : y + self.height, x : x + self.width],
            chroma[:, y // 2 : (y + self.height) // 2, x // 2 : (x + self.width) // 2],
        )


def window_of(spots: Sequence[Spot], width: int, height: int) -> Window:
    """The window of a clip whose frames have ``width`` x ``height`` pixels."""
    wide, high = max(spot.width for spot in spots), max(spot.height for spot in spots)
    corners = [(min(spot.x, width - wide), min(spot.y, height - high)) for spot in spots]
    kinds = frozenset("warp" if spot.shift is None else "shift" for spot in spots)
    return Window(wide, high, np.array(corners, np.int64), kinds)


def places_of(window: Window, spots: Sequence[Spot], region: tuple[int, int]) -> NDArray[np.float32]:
    """Where the face lands on every frame, for the graph's input ``place``: ``[frames, PLACE]``.

    Affines take pixels of the window to GridSample's coordinates of the region (``region`` is its width and height),
    which run from -1 to 1 between the region's edges.
    """
    rows = []
    for spot, (x, y) in zip(spots, window.corners.tolist(), strict=True):
        left, top = spot.x - x, spot.y - y
        luma = _normal(spot.luma, (left, top), region)
        chroma = _normal(spot.chroma, (left / 2, top / 2), (region[0] / 2, region[1] / 2))
        rect = [left, top, left + spot.width, top + spot.height]
        rows.append([*luma, *chroma, *rect, float(spot.shift is not None)])
    return np.array(rows, np.float32)


def _normal(matrix: NDArray[np.float64], corner: tuple[float, float], size: tuple[float, float]) -> list[float]:
    """A map from pixels of the rectangle, as one from pixels of the window to -1..1."""
    moved = matrix[:, 2] - matrix[:, :2] @ np.array(corner, np.float64)
    scale = 2 / np.array(size, np.float64)
    linear, shift = matrix[:, :2] * scale[:, None], (moved + 0.5) * scale - 1
    return [float(n) for row, end in zip(linear, shift, strict=True) for n in (*row, end)]


def scene_graph(face: bytes, window: Window, region: tuple[int, int]) -> bytes:
    """The face graph continued to finished pixels; ``region`` is its region's width and height.

    Inputs: those of the face graph; ``base`` uint8 ``[B, size]`` (:meth:`Window.cut`); ``place`` float32
    ``[B, PLACE]``. Output: ``picture`` uint8 ``[B, size]``. Raises RendererError for a face graph that cannot be
    continued.
    """
    model = onnx.load_model_from_string(face)
    nodes = Nodes(model, "lay.")
    if nodes.opset < GRIDS:
        raise RendererError(
            f"its face graph is of ONNX operator set {nodes.opset}; to lay faces on a GPU takes {GRIDS} or newer",
            hint="export it anew, or use the renderer onnxruntime",
        )
    drawn = {value.name: _unrounded(model, nodes, value.name) for value in list(model.graph.output)}
    del model.graph.output[:]
    alpha = drawn.get("alpha")
    if alpha is None:  # opaque: the same mask for every row, of a shape that follows the batch
        alpha = nodes.add("Add", nodes.add("Mul", drawn["y"], nodes.const(0.0)), nodes.const(255.0))
    laying = _Laying(nodes, window, region)
    luma, chroma = laying.lay(drawn["y"], drawn["uv"], alpha)
    area = window.width * window.height
    flat = [nodes.add("Reshape", part, nodes.ints(-1, n)) for part, n in ((luma, area), (chroma, area // 2))]
    whole = nodes.add("Concat", *flat, axis=1)
    nodes.add("Cast", whole, out=nodes.output("picture", UINT8, window.size), to=UINT8)
    return bytes(model.SerializeToString(deterministic=True))


def _unrounded(model: ModelProto, nodes: Nodes, output: str) -> str:
    """The levels that an output was cast from, cut to whole numbers but still floating: TensorRT has uint8 at its ends.

    The Cast goes. Raises RendererError if the output does not come from one.
    """
    cast = next((node for node in model.graph.node if output in node.output), None)
    if cast is None or cast.op_type != "Cast" or attribute(cast, "to") != UINT8:
        raise RendererError(
            f"its face graph's output {output!r} is not cast to uint8 by its last node, as TensorRT wants it",
            hint="export it anew, or use the renderer onnxruntime",
        )
    levels = cast.input[0]
    model.graph.node.remove(cast)
    return nodes.add("Floor", nodes.add("Cast", levels, to=FLOAT))


class _Laying:
    """Writes down how a region is laid."""

    def __init__(self, nodes: Nodes, window: Window, region: tuple[int, int]) -> None:
        self._nodes, self._window, self._region = nodes, window, region
        self._place = nodes.input("place", FLOAT, PLACE)
        self._mode = "bilinear" if nodes.opset < 20 else "linear"

    def lay(self, y: str, uv: str, alpha: str) -> tuple[str, str]:
        """The window's pixels, rounded: luma ``[B, 1, h, w]``, chroma ``[B, 2, h / 2, w / 2]``."""
        n, wide, high = self._nodes, self._window.width, self._window.height
        base = n.add("Cast", n.input("base", UINT8, self._window.size), to=FLOAT)
        area = wide * high
        base_y = n.add("Reshape", self._columns(base, 0, area), n.ints(-1, 1, high, wide))
        base_uv = n.add("Reshape", self._columns(base, area, area * 3 // 2), n.ints(-1, 2, high // 2, wide // 2))
        grid, small = self._grid(0, wide, high), self._grid(6, wide // 2, high // 2)
        share = n.add("Mul", self._rounded(self._sample(alpha, grid, "zeros")), self._inside())
        thin = self._rounded(n.add("AveragePool", share, kernel_shape=[2, 2], strides=[2, 2]))
        luma = self._blend(base_y, self._luma(y, grid), share)
        return luma, self._blend(base_uv, self._sample(uv, small, "border"), thin)

    def _luma(self, y: str, grid: str) -> str:
        """The region's luma where the window's pixels are: enlarged first where it is warped, as it is else."""
        kinds = self._window.kinds
        warped = self._sample(self._fine(y), grid, "border") if "warp" in kinds else ""
        shifted = self._sample(y, grid, "border") if "shift" in kinds else ""
        if not (warped and shifted):
            return warped or shifted
        return self._mix(warped, shifted, self._number(16))

    def _fine(self, y: str) -> str:
        """``y`` enlarged twofold: every pixel becomes four, each a cubic sum of 5x5 neighbours, cut to 0..255."""
        n = self._nodes
        before, after = _cubic(0.75), _cubic(0.25)
        taps = np.array([[*before, 0.0], [0.0, *after]])
        kernels = np.einsum("ay,bx->abyx", taps, taps).reshape(4, 1, 5, 5)
        # Rows and columns of the edge once more, twice: what INTER_CUBIC takes beyond the border.
        for axis, size in ((2, self._region[1]), (3, self._region[0])):
            first, last = self._columns(y, 0, 1, axis), self._columns(y, size - 1, size, axis)
            y = n.add("Concat", first, first, y, last, last, axis=axis)
        fine = n.add("DepthToSpace", n.add("Conv", y, n.const(kernels), kernel_shape=[5, 5]), blocksize=2, mode="CRD")
        return n.add("Clip", fine, n.const(0.0), n.const(255.0))

    def _grid(self, first: int, wide: int, high: int) -> str:
        """``[B, high, wide, 2]``: where in the region each pixel lies; its affine begins at ``first`` in the place."""
        n = self._nodes
        across = n.const(np.arange(wide).reshape(1, 1, wide, 1))
        down = n.const(np.arange(high).reshape(1, high, 1, 1))
        ends = []
        for row in (first, first + 3):
            a, b, c = (self._number(row + k) for k in range(3))
            ends.append(n.add("Add", n.add("Mul", across, a), n.add("Add", n.add("Mul", down, b), c)))
        return n.add("Concat", *ends, axis=3)

    def _inside(self) -> str:
        """1 inside the frame's rectangle, 0 outside: ``[B, 1, h, w]``."""
        n = self._nodes
        across = n.const(np.arange(self._window.width).reshape(1, 1, 1, -1))
        down = n.const(np.arange(self._window.height).reshape(1, 1, -1, 1))
        left, top, right, bottom = (self._number(12 + k) for k in range(4))
        one, zero = n.const(1.0), n.const(0.0)
        shares = []
        for at, low, high in ((across, left, right), (down, top, bottom)):
            begun = n.add("Clip", n.add("Add", n.add("Sub", at, low), one), zero, one)
            shares.append(n.add("Mul", begun, n.add("Clip", n.add("Sub", high, at), zero, one)))
        return n.add("Mul", *shares)

    def _number(self, at: int) -> str:
        """One number of the place: ``[B, 1, 1, 1]``."""
        return self._nodes.add("Reshape", self._columns(self._place, at, at + 1), self._nodes.ints(-1, 1, 1, 1))

    def _columns(self, of: str, first: int, last: int, axis: int = 1) -> str:
        n = self._nodes
        return n.add("Slice", of, n.ints(first), n.ints(last), n.ints(axis))

    def _sample(self, picture: str, grid: str, border: str) -> str:
        return self._nodes.add("GridSample", picture, grid, mode=self._mode, padding_mode=border, align_corners=0)

    def _mix(self, under: str, over: str, share: str) -> str:
        n = self._nodes
        return n.add("Add", under, n.add("Mul", n.add("Sub", over, under), share))

    def _blend(self, base: str, over: str, alpha: str) -> str:
        """``base + alpha * (over - base) / 255``, rounded."""
        n = self._nodes
        share = n.add("Mul", alpha, n.const(1 / 255))
        mixed = self._rounded(self._mix(base, self._rounded(over), share))
        return n.add("Clip", mixed, n.const(0.0), n.const(255.0))

    def _rounded(self, levels: str) -> str:
        return self._nodes.add("Floor", self._nodes.add("Add", levels, self._nodes.const(0.5)))


def _cubic(t: float) -> NDArray[np.float64]:
    """Weights of the four neighbours of a place that lies ``t`` behind the second one (Keys 1981, a = -0.75)."""

    def near(x: float) -> float:
        return (_A + 2) * x**3 - (_A + 3) * x**2 + 1

    def far(x: float) -> float:
        return _A * x**3 - 5 * _A * x**2 + 8 * _A * x - 4 * _A

    return np.array([far(1 + t), near(t), near(1 - t), far(2 - t)])
