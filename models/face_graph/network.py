"""The face graph's network: expression coefficients in, the Y, UV and alpha planes of the face region out.

A canvas (the resting face, full precision) plus a few branches, each drawing what changes in one box of the region.
A branch turns the coefficients into a coarse feature map with a small perceptron and refines it at 1/8 and 1/4 of the
box's resolution; where detail matters (the lips and what is between them) it goes on at 1/2. Convolutions that need
many multiplications so work on few pixels. Enlarging is by nearest neighbour, and every level has learnt
per-position gains and offsets: the face never leaves its place, so what a tooth or a nostril looks like is stored
where it is, for the price of one multiplication, and neighbours that began equal become different.

Planes are BT.601 limited range in units of 255 (Y of black is 16/255); chroma is half the size, as in YUV 4:2:0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

REGION = 256
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels of the region, all even."""


@dataclass(frozen=True)
class Plan:
    """What one branch is made of.

    `box` is where it draws, `columns` the coefficients it hears. `levels` are (channels, number of 3x3 convolutions)
    at 1/8 and 1/4 of the box's size, `inner` the part of the box drawn in detail (its x, y, width and height are
    counted from the box's corner and are multiples of 4) and `detail` the channels and convolutions at 1/2 there.
    `feather` is how many pixels the drawing fades over at the left, top, right and bottom edge of the box.
    """

    name: str
    box: Box
    columns: tuple[int, ...]
    hidden: int
    seed: int
    levels: tuple[tuple[int, int], tuple[int, int]]
    inner: Box
    detail: tuple[int, int]
    feather: tuple[int, int, int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the coarsest feature map, at 1/16 (it may overhang the box; the overhang is cut)."""
        return -(-self.box[3] // 16), -(-self.box[2] // 16)

    def as_json(self) -> dict[str, Any]:
        """The plan as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Plan:
        """The plan that `as_json` described, lists being tuples again."""
        return cls(**{k: _tuples(v) for k, v in said.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def ramp(size: int, before: int, after: int) -> Tensor:
    """[size]: 1 inside, falling smoothly to 0 over `before` pixels at the start and `after` at the end."""
    at = torch.arange(size, dtype=torch.float32) + 0.5
    rise = (at / before).clamp(0, 1) if before else torch.ones(size)
    fall = ((size - at) / after).clamp(0, 1) if after else torch.ones(size)
    low = torch.minimum(rise, fall)
    return low * low * (3 - 2 * low)


def window(width: int, height: int, feather: tuple[int, int, int, int]) -> Tensor:
    """[1, 1, height, width]: the product of two ramps; `feather` is left, top, right, bottom in pixels."""
    left, top, right, bottom = feather
    return (ramp(height, top, bottom)[:, None] * ramp(width, left, right)[None, :])[None, None]


class Level(nn.Module):
    """Twice the size: 1x1 convolution, nearest neighbour, per-position gain and offset, then 3x3 convolutions."""

    def __init__(self, coming: int, channels: int, convs: int, height: int, width: int) -> None:
        super().__init__()
        shape = (1, channels, height, width)
        self.widen = nn.Conv2d(coming, channels, 1)
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(shape))
        self.offset = nn.Parameter(0.1 * torch.randn(shape))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.interpolate(self.widen(x), scale_factor=2.0, mode="nearest")
        x = functional.silu(x * self.gain + self.offset)
        for conv in self.convs:
            x = x + functional.silu(conv(x))
        return x


class Pencil(nn.Module):
    """Features -> Y and UV: a 1x1 convolution whose channels are the pixels of a zoom x zoom square."""

    def __init__(self, channels: int, zoom: int) -> None:
        super().__init__()
        self.zoom = zoom
        self.conv = nn.Conv2d(channels, zoom * zoom + zoom * zoom // 2, 1)
        with torch.no_grad():
            self.conv.weight.mul_(0.3)
            self.conv.bias.zero_()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        per = self.zoom * self.zoom
        x = self.conv(x)
        uv = x[:, per:] if self.zoom == 2 else functional.pixel_shuffle(x[:, per:], self.zoom // 2)
        return functional.pixel_shuffle(x[:, :per], self.zoom), uv


class Branch(nn.Module):
    """Draws one box: [B, E] coefficients -> what to add to the canvas, Y [B,1,h,w] and UV [B,2,h/2,w/2]."""

    def __init__(self, plan: Plan, coefficients: int) -> None:
        super().__init__()
        self.plan = plan
        rows, cols = plan.grid
        mask = torch.zeros(1, coefficients)
        mask[0, list(plan.columns)] = 1
        self.register_buffer("hears", mask, persistent=False)
        self.perceptron = nn.Sequential(
            nn.Linear(coefficients, plan.hidden), nn.SiLU(),
            nn.Linear(plan.hidden, plan.hidden), nn.SiLU(),
            nn.Linear(plan.hidden, plan.seed * rows * cols),
        )
        (eighth, few), (quarter, more) = plan.levels
        self.coarse = Level(plan.seed, eighth, few, 2 * rows, 2 * cols)
        self.middle = Level(eighth, quarter, more, 4 * rows, 4 * cols)
        self.broad = Pencil(quarter, 4)
        _, _, width, height = plan.inner
        self.finest = Level(quarter, plan.detail[0], plan.detail[1], height // 2, width // 2)
        self.fine = Pencil(plan.detail[0], 2)
        self.register_buffer("soft_y", window(width, height, (8, 8, 8, 8)), persistent=False)
        self.register_buffer("soft_uv", window(width // 2, height // 2, (4, 4, 4, 4)), persistent=False)
        _, _, width, height = plan.box
        self.rest_y = nn.Parameter(torch.zeros(1, 1, height, width))
        self.rest_uv = nn.Parameter(torch.zeros(1, 2, height // 2, width // 2))

    def moving(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """What the coefficients change; `rest_y` and `rest_uv`, which are constant, still to be added."""
        rows, cols = self.plan.grid
        _, _, width, height = self.plan.box
        x = self.perceptron(expression * self.hears).view(-1, self.plan.seed, rows, cols)
        x = self.middle(self.coarse(x))
        y, uv = self.broad(x)
        y, uv = y[:, :, :height, :width], uv[:, :, : height // 2, : width // 2]
        left, top, wide, high = self.plan.inner
        part = x[:, :, top // 4 : (top + high) // 4, left // 4 : (left + wide) // 4]
        more_y, more_uv = self.fine(self.finest(part))
        right, bottom = width - left - wide, height - top - high
        y = y + functional.pad(more_y * self.soft_y, (left, right, top, bottom))
        half = (left // 2, right // 2, top // 2, bottom // 2)
        return y, uv + functional.pad(more_uv * self.soft_uv, half)

    def forward(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        y, uv = self.moving(expression)
        return y + self.rest_y, uv + self.rest_uv


class Planes(nn.Module):
    """What is exported: [B, E] -> uint8 planes `y` [B,1,256,256], `uv` [B,2,128,128], `alpha` [B,1,256,256].

    `canvas_y` [1,1,256,256] and `canvas_uv` [1,2,128,128] are the resting face in units of 255, `alpha`
    [1,1,256,256] is 0..255. Everything constant (canvas, rests, rounding) is summed once, here.
    """

    def __init__(self, branches: nn.ModuleList, canvas_y: Tensor, canvas_uv: Tensor, alpha: Tensor) -> None:
        super().__init__()
        self.branches = branches
        base_y, base_uv = canvas_y * 255 + 0.5, canvas_uv * 255 + 0.5
        with torch.no_grad():
            for number, branch in enumerate(branches):
                _, _, width, height = branch.plan.box
                fade_y = window(width, height, branch.plan.feather) * 255
                left, top, right, bottom = branch.plan.feather
                fade_uv = window(width // 2, height // 2, (left // 2, top // 2, right // 2, bottom // 2)) * 255
                self.register_buffer(f"fade_y{number}", fade_y)
                self.register_buffer(f"fade_uv{number}", fade_uv)
                more_y, more_uv = self.placed(branch.plan.box, branch.rest_y * fade_y, branch.rest_uv * fade_uv)
                base_y, base_uv = base_y + more_y, base_uv + more_uv
        self.register_buffer("base_y", base_y)
        self.register_buffer("base_uv", base_uv)
        self.register_buffer("alpha", alpha.to(torch.float32))

    @staticmethod
    def placed(box: Box, y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
        """The planes of a box, with zeros around them to fill the region."""
        left, top, width, height = box
        sides = (left, REGION - left - width, top, REGION - top - height)
        return functional.pad(y, sides), functional.pad(uv, tuple(n // 2 for n in sides))

    def forward(self, expression: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, uv = self.base_y, self.base_uv
        for number, branch in enumerate(self.branches):
            more_y, more_uv = branch.moving(expression)
            more_y = more_y * getattr(self, f"fade_y{number}")
            more_uv = more_uv * getattr(self, f"fade_uv{number}")
            more_y, more_uv = self.placed(branch.plan.box, more_y, more_uv)
            y, uv = y + more_y, uv + more_uv
        y, uv = y.clamp(0, 255), uv.clamp(0, 255)
        alpha = y * 0 + self.alpha  # one a row, so that its first axis is B
        return y.to(torch.uint8), uv.to(torch.uint8), alpha.to(torch.uint8)
