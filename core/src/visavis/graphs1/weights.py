"""What all sessions of an avatar share: its motion graph, what paints its face, and its scene."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from visavis.graphs1.graphs import MotionGraph
from visavis.graphs1.painting import Painter
from visavis.graphs1.scene import Scene
from visavis.graphs1.sharing import Share
from visavis.hvia import Precision


class Weights:
    """What all sessions of an avatar share. Safe to use from several threads."""

    def __init__(self, scene: Scene, motion: Share[MotionGraph], face: Share[Painter]) -> None:
        self.scene = scene
        self.manifest, self.digest, self.where = scene.manifest, scene.digest, scene.where
        self.format, self.poses, self.spots, self.mattes = scene.format, scene.poses, scene.spots, scene.mattes
        self._motion, self._face = motion, face
        self._warm_up()

    @property
    def coefficients(self) -> int:
        """How many coefficients an expression has (E)."""
        return len(self.manifest.motion.coefficients)

    @property
    def precisions(self) -> tuple[Precision, Precision]:
        """In which precisions its motion and its face graph are executed."""
        return self.motion.precision, self.face.precision

    @property
    def batch_key(self) -> Hashable:
        """Avatars that hold the same motion graph may share a step."""
        return self._motion.key

    @property
    def motion(self) -> MotionGraph:
        """The motion graph, shared by all avatars that hold it."""
        return self._motion.thing

    @property
    def face(self) -> Painter:
        """What paints the face, shared by all avatars for which it can."""
        return self._face.thing

    def still(self, at: int) -> bool:
        """Whether a face at rest may stand on base frame ``at`` as on the one before; see :meth:`Scene.still`."""
        return self.scene.still(at)

    def close(self) -> None:
        """Give back both graphs."""
        self._motion.close()
        self._face.close()

    def _warm_up(self) -> None:
        """Run both graphs once: engines set up on their first call, and a wrong output shows before a session does."""
        motion = self.manifest.motion
        sound, state = np.zeros(motion.hop, np.float32), np.zeros(motion.state, np.float32)
        expression, _ = self.motion.move([sound], [state], [self.where])
        at = [(self.scene, 0)]
        self.face.lay(self.face.draw([expression[0, 0]], at), at)
