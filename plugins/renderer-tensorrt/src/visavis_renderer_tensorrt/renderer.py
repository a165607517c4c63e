"""The renderer: motion graphs and whole pictures of ``graphs/1`` avatars on one NVIDIA GPU."""

from __future__ import annotations

import numpy as np
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Painter, Scene, Tensors
from visavis.hvia import Manifest
from visavis.hvia.graphs import motion_contract

from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.cache import EngineCache
from visavis_renderer_tensorrt.checking import device_of
from visavis_renderer_tensorrt.device import Device, Profile
from visavis_renderer_tensorrt.engines import Workshop
from visavis_renderer_tensorrt.lane import Lane
from visavis_renderer_tensorrt.nodes import declared
from visavis_renderer_tensorrt.painting import DevicePainter
from visavis_renderer_tensorrt.scene_graph import scene_graph, window_of


class TensorRTRenderer(Graphs1Renderer):
    """A ``graphs/1`` renderer on TensorRT or TensorRT-RTX.

    ``device`` is for tests: something else that builds and executes. Raises RendererError if the GPU, TensorRT or a
    binding of CUDA is not there.
    """

    def __init__(
        self, options: TensorRTOptions | None = None, *, device: Device | None = None, cache: EngineCache | None = None
    ) -> None:
        self.options = options or TensorRTOptions()
        super().__init__(max_batch=self.options.max_batch, packs=self.options.model_packs)
        self.device = device or device_of(self.options)
        self._workshop = Workshop(
            device=self.device,
            cache=cache or EngineCache(),
            precision=self.options.precision,
            profile=Profile(self.options.max_batch),
            record=self.options.cuda_graphs,
        )

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """A graph of its own, whose outputs are declared."""
        return DeviceExecutor(self._workshop.lane(model, name))

    def make_motion(self, manifest: Manifest, model: bytes, *, name: str) -> GraphExecutor:
        """The motion graph."""
        return self.make_executor(declared(model, motion_contract(manifest)[1]), name=name)

    def make_painter(self, scene: Scene, face: bytes, *, name: str) -> Painter:
        """The face graph and the laying of faces in one engine."""
        video = scene.manifest.video
        window = window_of(scene.spots, video.width, video.height)
        graph = scene_graph(face, window, (scene.manifest.face.width, scene.manifest.face.height))
        return DevicePainter(
            scene, window, self.device.driver, lambda: self._workshop.lane(graph, name, unstaged=("base",))
        )

    def close(self) -> None:
        """Let go of the GPU."""
        super().close()
        self.device.driver.close()


class DeviceExecutor:
    """One graph whose inputs and outputs lie in the processor's memory."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    @property
    def memory(self) -> int:
        """Bytes of the device that it takes."""
        return self._lane.memory

    def run(self, feeds: Tensors) -> Tensors:
        """Execute the graph."""
        arrays = {name: np.asarray(tensor) for name, tensor in feeds.items()}
        return self._lane.run(len(next(iter(arrays.values()))), arrays)

    def close(self) -> None:
        """Let go of the device's memory."""
        self._lane.close()
