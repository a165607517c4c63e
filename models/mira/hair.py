"""Scalp hair: a parted long bob. Guides fall along a smooth hull of the head, strands follow guides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from .facekit import Array, FaceKit, vertex_normals

STRANDS = 34_000
GUIDES = 2_600
POINTS = 22
"""Of a guide, which takes as many steps."""
KEYS = 12
"""Of a strand: every change of an expression makes Cycles go through all of them again."""
PART_X = 1.3
"""The parting lies on the avatar's left of the middle."""
END_Y = -9.6


@dataclass(frozen=True)
class Roots:
    """Where strands leave the scalp."""

    point: Array
    normal: Array


class Hull:
    """A convex hull around the skull and the ears, with a smooth distance and normal."""

    def __init__(self, points: Array) -> None:
        hull = ConvexHull(points)
        planes = np.unique(hull.equations.round(2), axis=0)
        self.normal, self.offset = planes[:, :3].astype(np.float32), planes[:, 3].astype(np.float32)
        self.normal /= np.linalg.norm(self.normal, axis=1, keepdims=True)

    def distance(self, point: Array) -> tuple[Array, Array]:
        """Signed distance [N] (negative inside) and unit outward direction [N, 3]."""
        d = point @ self.normal.T + self.offset
        best = d.max(1, keepdims=True)
        weight = np.exp((d - best) * 4.0)
        direction = weight @ self.normal
        length: Array = np.linalg.norm(direction, axis=1, keepdims=True)
        return best[:, 0], direction / length


def hairline(z: Array) -> Array:
    """Height of the hairline on the side and front of the head at depth z."""
    return np.interp(
        z, [-10, -6, -3, -1, 0.5, 2, 3.5, 5, 7, 9, 11], [-5.5, -5.2, -3.0, 1.0, 2.6, 4.4, 7.4, 8.7, 9.4, 9.9, 10.2]
    ).astype(np.float32)


def scalp_depth(point: Array) -> Array:
    """How far above the hairline (cm); negative on bare skin and ears."""
    ear = (np.abs(point[..., 0]) > 7.6) & (point[..., 1] < 4.6)
    # A soft widow's peak and rounder temples than the plain curve gives.
    wave = 0.22 * np.sin(2.1 * point[..., 0] + 0.6) + 0.15 * np.sin(5.3 * point[..., 0])
    depth = point[..., 1] - hairline(point[..., 2]) + wave * (point[..., 2] > 2)
    return np.where(ear, -1.0, depth).astype(np.float32)


def sample_roots(kit: FaceKit, head: Array, count: int, rng: np.random.Generator, feather: float) -> Roots:
    """`count` roots on the scalp, thinning out towards the hairline over `feather` cm."""
    triangles = kit.skin_triangles
    corner = head[triangles]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    weight = area * np.clip((scalp_depth(corner.mean(1)) + 0.35) / feather, 0, 1) ** 1.5
    middle = corner.mean(1)
    weight *= 1 + 2.5 * np.exp(-(((middle[:, 0] - part_line(middle)) / 0.5) ** 2))  # a thin parting, not a bald one
    pick = rng.choice(len(triangles), count, p=weight / weight.sum())
    a = rng.random((count, 2)).astype(np.float32)
    a = np.where(a.sum(1, keepdims=True) > 1, 1 - a, a)
    bary = np.stack([1 - a.sum(1), a[:, 0], a[:, 1]], 1)
    normal = vertex_normals(head, triangles)
    point = (corner[pick] * bary[..., None]).sum(1)
    direction = (normal[triangles[pick]] * bary[..., None]).sum(1)
    return Roots(point, direction / np.linalg.norm(direction, axis=1, keepdims=True))


def part_line(point: Array) -> Array:
    """Where (x) the parting runs at the depth of these points."""
    line: Array = PART_X + 0.12 * np.sin(point[:, 2] * 1.1) - 0.09 * np.clip(4 - point[:, 2], 0, 14)
    return line


def part_side(point: Array) -> Array:
    """-1 or +1: which way from the parting a strand is combed."""
    line = part_line(point)
    line = line + 0.35 * np.sin(point[:, 0] * 57.0 + point[:, 2] * 91.0)  # strands cross it here and there
    return np.where(point[:, 0] > line, 1.0, -1.0).astype(np.float32)


def _front_limit(point: Array) -> Array:
    """How far forward (z) hair may hang: it frames the face and keeps the cheeks free."""
    return np.interp(point[:, 1], [-12, -7, -3, 1, 4, 7, 9], [4.2, 4.3, 4.0, 3.9, 4.7, 6.6, 9.5]).astype(np.float32)


def grow_guides(roots: Roots, hull: Hull, rng: np.random.Generator) -> Array:
    """[N, POINTS, 3] guide strands from these roots."""
    count = len(roots.point)
    side = part_side(roots.point)
    top = np.clip((roots.point[:, 1] - 3.0) / 9.0, 0, 1)
    front = np.clip((roots.point[:, 2] - 3.0) / 4.0, 0, 1) * top
    end = END_Y + rng.normal(0, 0.35, count) + 0.12 * np.clip(roots.point[:, 2], -8, 5) * 0.4
    length = (roots.point[:, 1] - end) * rng.uniform(0.97, 1.05, count) + 3.6 * top + 1.2 * front
    length = np.clip(length, 2.5, None)
    step = (length / (POINTS - 1)).astype(np.float32)
    comb = np.stack([side * (1.0 + 0 * top), -0.55 + 0.5 * front, -0.35 - 0.75 * front + 0 * top], 1)
    comb += 0.9 * roots.normal * (0.35 + 0.4 * front)[:, None]
    comb += rng.normal(0, 0.10, comb.shape)
    heading = comb / np.linalg.norm(comb, axis=1, keepdims=True)
    lift = 0.12 + 0.55 * top**1.3 + rng.uniform(-0.12, 0.22, count)
    wave_phase = rng.uniform(0, 2 * np.pi, count)
    out = np.zeros((count, POINTS, 3), np.float32)
    out[:, 0] = roots.point - 0.05 * roots.normal
    point = roots.point.astype(np.float32).copy()
    down = np.array([0, -1.0, 0], np.float32)
    for k in range(1, POINTS):
        t = k / (POINTS - 1)
        distance, away = hull.distance(point)
        heading = heading + (0.10 + 0.55 * t) * down * step[:, None]
        wave = np.cos(0.55 * point[:, 1] + 0.25 * wave_phase) * 0.10 * np.clip(-point[:, 1] + 3, 0, 8) / 8
        heading[:, 0] += wave * np.sign(point[:, 0])
        # The ends turn in a little, as a bob's do.
        curl = np.clip((1.5 - point[:, 1]) / 7.0, 0, 1) * np.clip(np.abs(point[:, 0]) - 5.6, 0, 2) / 2
        heading[:, 0] -= 0.26 * curl * step * np.sign(point[:, 0])
        tangent = heading - np.minimum((heading * away).sum(1), 0)[:, None] * away
        heading = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
        point = point + heading * step[:, None]
        distance, away = hull.distance(point)
        want = lift * min(1.0, 0.15 + 2.6 * t)
        above = np.clip((want - distance), -0.12, 0.9)
        above = np.where((point[:, 1] < 1.5) & (above < 0), 0, above)
        point = point + away * above[:, None]
        over = point[:, 2] - _front_limit(point)
        point[:, 2] -= 0.5 * np.clip(over, 0, 1.2) * np.clip((np.abs(point[:, 0]) - 3.0) / 2.5, 0, 1)
        out[:, k] = point
    return out


def grow(kit: FaceKit, head: Array, seed: int = 5) -> Array:
    """[STRANDS, KEYS, 3] the scalp hair."""
    rng = np.random.default_rng(seed)
    skull = head[np.unique(kit.skin_triangles)]
    skull = skull[(skull[:, 1] > -2.5) & (skull[:, 2] < 8.5)]
    hull = Hull(skull)
    guide_roots = sample_roots(kit, head, GUIDES, rng, 0.8)
    guides = grow_guides(guide_roots, hull, rng)
    roots = sample_roots(kit, head, STRANDS, rng, 1.1)
    far = np.array([60.0, 0, 0], np.float32)
    tree = cKDTree(guide_roots.point + part_side(guide_roots.point)[:, None] * far)
    gap, near = tree.query(roots.point + part_side(roots.point)[:, None] * far, k=3)
    # Most strands stay close to one guide: that makes locks instead of a fog.
    weight = 1 / (gap + 0.02) ** 2.2
    weight /= weight.sum(1, keepdims=True)
    offset = guides[near] - guides[near][:, :, :1]
    strand = roots.point[:, None] - 0.05 * roots.normal[:, None] + (offset * weight[..., None, None]).sum(1)
    return _dress(strand, rng).astype(np.float32)


def _dress(strand: Array, rng: np.random.Generator) -> Array:
    """Vary lengths, spread the strands and let some fly away."""
    count = len(strand)
    t = np.linspace(0, 1, KEYS)[None, :, None]
    scale = np.where(rng.random(count) < 0.30, rng.uniform(0.45, 0.97, count), rng.uniform(0.90, 1.0, count))
    at = np.clip(t[..., 0] * scale[:, None], 0, 1) * (POINTS - 1)
    low = np.minimum(at.astype(int), POINTS - 2)
    part = (at - low)[..., None]
    row = np.arange(count)[:, None]
    strand = strand[row, low] * (1 - part) + strand[row, low + 1] * part
    spread = rng.normal(0, 0.11, (count, 1, 3)) + 0.05 * rng.normal(0, 1, (count, 1, 3)) * t
    wisp = 0.10 * np.sin(t * rng.uniform(4, 11, (count, 1, 1)) + rng.uniform(0, 7, (count, 1, 3)))
    strand = strand + wisp * t + spread * np.clip(4 * t, 0, 1)
    # Not at the front: a stray hair across the face reads as a scratch.
    loose = ((rng.random(count) < 0.02) & (strand[:, 0, 2] < 1.0))[:, None, None]
    stray = np.cumsum(rng.normal(0, 0.05, strand.shape), axis=1) * t
    return strand + loose * stray * 1.2


def baby_hair(kit: FaceKit, head: Array, seed: int = 6, count: int = 2_600) -> Array:
    """[count, 6, 3] short fine hairs along the hairline, so that it does not end like a helmet."""
    rng = np.random.default_rng(seed)
    triangles = kit.skin_triangles
    corner = head[triangles]
    depth = scalp_depth(corner.mean(1))
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    weight = area * np.exp(-(((depth - 0.0) / 0.45) ** 2)) * (corner[:, :, 1].mean(1) > 7.8)
    pick = rng.choice(len(triangles), count, p=weight / weight.sum())
    bary = rng.dirichlet([1, 1, 1], count)
    root = (corner[pick] * bary[..., None]).sum(1)
    normal = (vertex_normals(head, triangles)[triangles[pick]] * bary[..., None]).sum(1)
    side = part_side(root.astype(np.float32))
    heading = np.stack([side * 0.9, 0.35 + 0 * side, -0.55 + 0 * side], 1) + rng.normal(0, 0.25, (count, 3))
    heading -= (heading * normal).sum(1, keepdims=True) * normal
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    t = np.linspace(0, 1, 6)[None, :, None]
    length = rng.uniform(0.4, 1.7, count)[:, None, None]
    lift = 0.20 * np.sin(np.pi * t * 0.8) * normal[:, None]
    out: Array = (root[:, None] + length * t * heading[:, None] + lift).astype(np.float32)
    out[..., 1] -= (0.25 * t[..., 0] ** 2 * length[..., 0] * np.abs(side)[:, None]).astype(np.float32)
    return out
