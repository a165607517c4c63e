"""The head mesh: ICT-FaceKit light (MIT, (c) 2020 USC ICT), read from an .npz without pickles.

Units are centimetres, y up, the face looks towards +z, x grows towards the avatar's own left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index = NDArray[np.int64]

FACE, BACK_HEAD, GUMS_TONGUE, TEETH, SCLERA_L, SCLERA_R, LASHES = 0, 1, 2, 3, 4, 6, 11
SKIN_END = 11248
"""Vertices below this one are the outer skin."""
SOCKET_START = 13294
"""Inner vertices from here on line the eye sockets; before it they line the mouth."""
EYE_LEFT = slice(21451, 22221)
EYE_RIGHT = slice(23021, 23791)

# The usual 68 facial landmarks as vertex numbers (jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, lips 48-67).
LANDMARKS = np.array(
    [1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443]
    + [268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147]
    + [4269, 3360, 1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732]
    + [5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841]
    + [5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966]
)


@dataclass(frozen=True)
class FaceKit:
    """The mesh with its identity and expression deltas, as stored."""

    vertices: Array
    """[V, 3] the average head, cm."""
    uv: Array
    faces: Index
    """[F, 4], -1 pads a triangle."""
    faces_uv: Index
    material: Index
    """[F] one of the material numbers above."""
    expression_deltas: Array
    """[53, V, 3] cm."""
    expression_names: tuple[str, ...]
    identity_deltas: Array
    """[100, V, 3] cm a standard deviation."""

    def polygons(self, *materials: int, low: int = 0, high: int = 1 << 30) -> list[list[int]]:
        """The faces of these materials whose vertices all lie in [low, high)."""
        out: list[list[int]] = []
        for face in self.faces[np.isin(self.material, materials)]:
            corner = face[face >= 0]
            if corner.min() >= low and corner.max() < high:
                out.append(corner.tolist())
        return out

    @cached_property
    def skin_triangles(self) -> Index:
        """[T, 3] the outer skin, quads split."""
        quads = self.polygons(FACE, BACK_HEAD, high=SKIN_END)
        out = [[q[0], q[k], q[k + 1]] for q in quads for k in range(1, len(q) - 1)]
        return np.array(out)

    @cached_property
    def tongue(self) -> Index:
        """The tongue's vertices: the two islands of the texture atlas that hold its back and its underside."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        mine = self.material == GUMS_TONGUE
        faces, corners = self.faces[mine], self.faces_uv[mine]
        following = np.roll(corners, -1, axis=1)
        following = np.where(following < 0, corners[:, :1], following)
        edge = corners >= 0
        size = len(self.uv)
        graph = coo_matrix((np.ones(edge.sum()), (corners[edge], following[edge])), shape=(size, size))
        island = connected_components(graph, directed=False)[1][corners[:, 0]]
        tip_faces = [island[(faces == v).any(1)][0] for v in (16616, 16338)]
        member = faces[np.isin(island, tip_faces)]
        return np.unique(member[member >= 0])


def load(path: Path) -> FaceKit:
    """Read the mesh file; raises `KeyError` when an array is missing."""
    with np.load(path, allow_pickle=False) as d:
        return FaceKit(
            vertices=d["vertices"].astype(np.float32),
            uv=d["uv"].astype(np.float32),
            faces=d["faces"].astype(np.int64),
            faces_uv=d["faces_uv"].astype(np.int64),
            material=d["material"].astype(np.int64),
            expression_deltas=d["expression_deltas"].astype(np.float32),
            expression_names=tuple(str(n) for n in d["expression_names"]),
            identity_deltas=d["identity_deltas"].astype(np.float32),
        )


def vertex_normals(vertices: Array, triangles: Index) -> Array:
    """Area-weighted unit normals [V, 3]; zero for vertices in no triangle."""
    corner = vertices[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    out = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(out, triangles[:, k], normal)
    length: Array = np.linalg.norm(out, axis=1, keepdims=True)
    return out / np.maximum(length, 1e-9)
