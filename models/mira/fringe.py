"""Brows and lashes: short curves that follow the skin by weights on mesh vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from .facekit import EYE_LEFT, EYE_RIGHT, LANDMARKS, LASHES, Array, FaceKit, Index, vertex_normals


@dataclass(frozen=True)
class Follower:
    """Curves bound to the mesh: point = rest + sum(weight * displacement of vertex)."""

    rest: Array
    """[N, K, 3] on the neutral head."""
    vertex: Index
    """[N, K, W]."""
    weight: Array
    """[N, K, W]."""

    def follow(self, displacement: Array) -> Array:
        """[N, K, 3] for a mesh displaced by [V, 3]."""
        moved: Array = self.rest + (displacement[self.vertex] * self.weight[..., None]).sum(2)
        return moved


def _front(kit: FaceKit, head: Array) -> tuple[Index, Array, cKDTree]:
    triangles = kit.skin_triangles
    normal = vertex_normals(head, triangles)
    use = np.unique(triangles)
    use = use[(normal[use, 2] > 0.1) & (head[use, 2] > 4)]
    return use, normal, cKDTree(head[use, :2])


def _brow_side(mark: Array, side: int, rng: np.random.Generator, count: int) -> Array:
    """[count, 5]: x, y, angle, side, length of one brow's hairs; `mark` [5, 3] from inner to outer."""
    along = rng.beta(1.15, 1.5, count)
    grid = np.linspace(0, 1, 5)
    x = np.interp(along, grid, mark[:, 0]) - side * 0.12 * (1 - along)
    # Smooth the landmarks' polygon to an arch.
    y = np.polyval(np.polyfit(grid, mark[:, 1], 3), along)
    half = np.interp(along, [0, 0.15, 0.5, 1], [0.24, 0.33, 0.28, 0.13])
    off = np.clip(rng.normal(0, 0.5, count), -1, 1)
    angle = np.interp(along, [0, 0.25, 0.6, 1], [1.25, 0.72, 0.22, -0.30]) - 0.35 * off * (0.6 + 0.4 * along)
    length = np.interp(along, [0, 0.3, 1], [0.52, 0.68, 0.46]) * rng.uniform(0.65, 1.1, count)
    angle = angle + rng.normal(0, 0.12, count)
    return np.stack([x, y - 0.28 + off * half, angle, np.full(count, side), length], 1)


def brows(kit: FaceKit, head: Array, seed: int = 21, count: int = 430) -> Follower:
    """Both brows."""
    rng = np.random.default_rng(seed)
    mark = head[LANDMARKS]
    hairs = np.concatenate([_brow_side(mark[21:16:-1], -1, rng, count), _brow_side(mark[22:27], 1, rng, count)])
    use, normal, tree = _front(kit, head)
    points = 5
    rest = np.zeros((len(hairs), points, 3), np.float32)
    root_vertex, root_weight = None, None
    for k in range(points):
        s = k / (points - 1)
        angle = hairs[:, 2] - 0.5 * s
        step = np.stack([hairs[:, 3] * np.cos(angle), np.sin(angle)], 1) * (hairs[:, 4] * s)[:, None]
        at = hairs[:, :2] + step
        gap, near = tree.query(at, k=4)
        weight = 1 / (gap + 1e-3)
        weight /= weight.sum(1, keepdims=True)
        depth = (head[use[near]][..., 2] * weight).sum(1)
        out = (normal[use[near]] * weight[..., None]).sum(1)
        rest[:, k] = np.column_stack([at, depth]) + out * (0.015 + 0.05 * np.sin(s * np.pi / 1.3))
        if k == 0:
            root_vertex, root_weight = use[near], weight
    assert root_vertex is not None and root_weight is not None
    shape = (len(hairs), points, 4)
    return Follower(
        rest,
        np.broadcast_to(root_vertex[:, None], shape).copy(),
        np.broadcast_to(root_weight[:, None], shape).astype(np.float32),
    )


def _strips(kit: FaceKit) -> list[tuple[Index, Array]]:
    """(vertices, texture coordinates 0..1) of each lash strip."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    mine = kit.material == LASHES
    faces, corners = kit.faces[mine], kit.faces_uv[mine]
    pairs = dict(zip(corners[corners >= 0].tolist(), faces[faces >= 0].tolist(), strict=True))
    size = len(kit.vertices)
    a, b = faces, np.roll(faces, -1, 1)
    b = np.where(b < 0, faces[:, :1], b)
    ok = a >= 0
    island = connected_components(coo_matrix((np.ones(ok.sum()), (a[ok], b[ok])), shape=(size, size)))[1]
    out = []
    corner = np.array(sorted(pairs))
    vertex = np.array([pairs[c] for c in corner.tolist()])
    for label in np.unique(island[vertex]):
        sel = island[vertex] == label
        uv = kit.uv[corner[sel]]
        out.append((vertex[sel], (uv - uv.min(0)) / (uv.max(0) - uv.min(0))))
    return out


def _root_axis(strip: Array, uv: Array, eye: Array) -> tuple[int, bool]:
    """Which texture axis runs from root to tip, and whether it starts at 1."""
    best: tuple[float, int, bool] = (-1e9, 0, False)
    for axis in (0, 1):
        low = np.linalg.norm(strip[uv[:, axis] < 0.1] - eye, axis=1)
        high = np.linalg.norm(strip[uv[:, axis] > 0.9] - eye, axis=1)
        for start_high, near, far in ((False, low, high), (True, high, low)):
            score = float(far.mean() - near.mean() - 0.5 * near.std())
            best = max(best, (score, axis, start_high))
    return best[1], best[2]


def lashes(kit: FaceKit, head: Array, seed: int = 22) -> Follower:
    """All lashes; the lower ones are fewer and shorter."""
    rng = np.random.default_rng(seed)
    vertex: list[Index] = []
    weight: list[Array] = []
    for member, uv in _strips(kit):
        strip = head[member]
        eye = head[EYE_LEFT if strip[:, 0].mean() > 0 else EYE_RIGHT].mean(0)
        axis, start_high = _root_axis(strip, uv, eye)
        upper = strip[:, 1].mean() > eye[1] - 0.1
        mesh = Delaunay(uv)
        count = 30 if upper else 13
        places = (np.arange(count) + rng.uniform(0.1, 0.9, count)) / count
        for place in places:
            reach = rng.uniform(0.6, 0.95) if upper else rng.uniform(0.30, 0.55)
            s = np.linspace(0.01, reach, 5)
            at = np.zeros((5, 2))
            at[:, axis] = 1 - s if start_high else s
            at[:, 1 - axis] = np.clip(place + rng.normal(0, 0.025) * s, 0.01, 0.99)
            simplex = np.maximum(mesh.find_simplex(at), 0)
            frame = mesh.transform[simplex]
            part = np.einsum("ijk,ik->ij", frame[:, :2], at - frame[:, 2])
            vertex.append(member[mesh.simplices[simplex]])
            weight.append(np.column_stack([part, 1 - part.sum(1)]).astype(np.float32))
    index, weights = np.array(vertex), np.array(weight)
    return Follower((head[index] * weights[..., None]).sum(2).astype(np.float32), index, weights)
