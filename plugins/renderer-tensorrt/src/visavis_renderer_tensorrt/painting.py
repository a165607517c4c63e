"""Draws faces and lays them on the device: what the session keeps of a face is its expression, not its pixels.

To draw a face again is so cheap on a GPU that keeping drawn regions in its memory would cost more than it saves. So a
session has nothing there, and its memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from visavis.graphs1 import Place, Scene
from visavis.graphs1.compose import Plane
from visavis.graphs1.graphs import face_feeds
from visavis.hvia import Precision

from visavis_renderer_tensorrt.device import Driver, Memory, Stream
from visavis_renderer_tensorrt.lane import Lane
from visavis_renderer_tensorrt.scene_graph import Window, places_of

Face = dict[str, NDArray[Any]]
"""A row of each of the face graph's inputs."""

PIECE = 64
"""Windows that are uploaded at a time."""


class DevicePainter:
    """A painter of one scene whose pictures are finished on the device; see ``visavis.graphs1.Painter``."""

    def __init__(
        self, scene: Scene, window: Window, precision: Precision, driver: Driver, make_lane: Callable[[], Lane]
    ) -> None:
        self.precision: Final = precision
        self._scene, self._window = scene, window
        face = scene.manifest.face
        self._places = places_of(window, scene.spots, (face.width, face.height))
        self._clip = upload(scene, window, driver)
        try:
            self._lane = make_lane()
        except BaseException:
            self._clip.free()
            raise

    @property
    def memory(self) -> int:
        """Bytes of the device that the avatar takes, however many sessions it has."""
        return self._lane.memory + self._clip.size

    def draw(self, expressions: Sequence[NDArray[np.float32]], places: Sequence[Place]) -> list[Face]:
        """What the face graph is to be given. It runs when the face is laid."""
        feeds = face_feeds(expressions, places)
        return [{name: tensor[row].copy() for name, tensor in feeds.items()} for row in range(len(places))]

    def lay(self, drawn: Sequence[Face], places: Sequence[Place]) -> list[Plane]:
        """Finished pictures, all in one run."""
        scene, window, size = self._scene, self._window, self._window.size
        at = [index for _, index in places]
        feeds = {name: np.stack([face[name] for face in drawn]) for name in drawn[0]}
        feeds["place"] = self._places[at]

        def fill(stream: Stream, addresses: Mapping[str, int]) -> None:
            for row, index in enumerate(at):
                stream.copy_within(addresses["base"] + row * size, self._clip.address + index * size, size)

        with scene.timer("face"):
            pixels = self._lane.run(len(at), feeds, fill)["picture"]
        pictures = []
        with scene.timer("compose"):
            for row, index in enumerate(at):
                picture: Plane = np.array(scene.frames[index], copy=True, order="C", subok=False)
                window.paste(picture, index, pixels[row])
                pictures.append(picture)
        return pictures

    def close(self) -> None:
        """Let go of the device's memory. May be called twice."""
        self._lane.close()
        self._clip.free()


def upload(scene: Scene, window: Window, driver: Driver) -> Memory:
    """The windows of all base frames, one behind the other on the device."""
    count, size = len(scene.frames), window.size
    clip = driver.allocate(count * size)
    try:
        stream, pinned = driver.stream(), driver.pinned(min(PIECE, count) * size)
        with driver.current():
            for first in range(0, count, PIECE):
                piece = range(first, min(first + PIECE, count))
                for row, index in enumerate(piece):
                    pinned[row * size : (row + 1) * size] = window.cut(scene.frames[index], index)
                stream.copy_in(clip.address + first * size, pinned[: len(piece) * size])
                stream.wait()
        stream.free()
    except BaseException:
        clip.free()
        raise
    return clip
