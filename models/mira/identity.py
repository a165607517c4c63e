"""Mira's head: a seeded random identity, nudged towards softer proportions. Nobody's likeness.

The nudge is the smallest change of the random identity (in standard deviations) that reaches a list
of wanted proportions; the proportions are linear in the identity, so this is one ridge regression.
"""

from __future__ import annotations

import numpy as np

from .facekit import LANDMARKS, Array, FaceKit

SEED = 11
COMPONENTS = 50
SPREAD = 0.45

# (landmark a, landmark b, axis, wanted change in cm): distances between landmarks, b minus a.
NUDGES: tuple[tuple[int, int, int, float], ...] = (
    (4, 12, 0, -1.05),  # jaw width
    (6, 10, 0, -0.80),  # chin width
    (2, 14, 0, -0.45),  # cheek width
    (31, 35, 0, -0.30),  # nostrils
    (33, 30, 2, -0.25),  # nose length to the front
    (27, 33, 1, 0.15),  # a shorter nose
    (57, 8, 1, 0.30),  # a shorter chin
    (62, 51, 1, 0.12),  # fuller upper lip
    (57, 66, 1, 0.14),  # fuller lower lip
    (41, 37, 1, 0.12),  # wider open eyes
    (46, 44, 1, 0.12),
    (40, 38, 1, 0.10),
    (47, 43, 1, 0.10),
    (36, 39, 0, 0.14),  # longer eyes
    (42, 45, 0, 0.14),
    (37, 19, 1, 0.15),  # higher brows
    (44, 24, 1, 0.15),
    (27, 21, 2, -0.20),  # a flatter brow ridge
    (27, 22, 2, -0.20),
)


# A hint of friendliness in the face at rest: part of the neutral head, not of the coefficients.
REST = (
    ("mouthSmile_L", 0.20),
    ("mouthSmile_R", 0.17),
    ("cheekSquint_L", 0.08),
    ("cheekSquint_R", 0.08),
    ("jawOpen", -0.013),
)


def identity_weights(kit: FaceKit, seed: int = SEED) -> Array:
    """[100] identity weights in standard deviations."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(len(kit.identity_deltas), np.float32)
    weights[:COMPONENTS] = rng.normal(0, SPREAD, COMPONENTS)
    points = kit.identity_deltas[:COMPONENTS, LANDMARKS]
    rows = np.array([points[:, b, k] - points[:, a, k] for a, b, k, _ in NUDGES])
    # Half of what the random draw changed is taken back, so that the wanted proportions show.
    want = np.array([d for *_, d in NUDGES]) - 0.5 * rows @ weights[:COMPONENTS]
    ridge = rows @ rows.T + 0.004 * np.eye(len(rows))
    weights[:COMPONENTS] += rows.T @ np.linalg.solve(ridge, want)
    return weights


def slim_neck(vertices: Array) -> Array:
    """Narrow the neck and shoulders: the average neck of the mesh is a strong one."""
    out = vertices.copy()
    y, z = vertices[:, 1], vertices[:, 2]
    # Nothing in front of the throat above the chin may move, or the jaw would change shape.
    below = np.clip((-5.0 - y) / 4.5, 0, 1)
    behind = np.clip((6.5 - z) / 2.5, 0, 1)
    amount = 0.13 * below**2 * (3 - 2 * below) * np.maximum(behind, np.clip((-9.5 - y) / 2, 0, 1))
    out[:, 0] *= 1 - amount
    out[:, 2] = -0.6 + (vertices[:, 2] + 0.6) * (1 - 0.8 * amount)
    return out


def neutral_head(kit: FaceKit, seed: int = SEED) -> Array:
    """[V, 3] Mira's head with a neutral expression, cm."""
    weights = identity_weights(kit, seed)
    head = kit.vertices + np.tensordot(weights, kit.identity_deltas, 1).astype(np.float32)
    head = slim_neck(head)
    for name, amount in REST:
        head += amount * kit.expression_deltas[kit.expression_names.index(name)]
    return head
