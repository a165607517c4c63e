"""The renderer: motion graphs and whole pictures of ``graphs/1`` avatars on one NVIDIA GPU."""

from __future__ import annotations

import numpy as np
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Painter, Scene, Tensors
from visavis.hvia import Manifest, Precision
from visavis.hvia.graphs import CheckedGraph, GraphOffer

from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.cache import EngineCache
from visavis_renderer_tensorrt.checking import device_of
from visavis_renderer_tensorrt.device import Device, Profile
from visavis_renderer_tensorrt.engines import Workshop
from visavis_renderer_tensorrt.lane import Lane
from visavis_renderer_tensorrt.painting import DevicePainter
from visavis_renderer_tensorrt.programs import motion_program, picture_program, preferred


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
            profile=Profile(self.options.max_batch),
            record=self.options.cuda_graphs,
        )

    def prefer(self, offer: GraphOffer) -> Precision:
        """The precision of the options, where the avatar brings it."""
        return preferred(offer, self.options.precision)

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """A float32 graph of its own, whose outputs are declared."""
        return DeviceExecutor(self._workshop.lane(model, name, "fp32"))

    def make_motion(self, manifest: Manifest, graph: CheckedGraph, *, name: str) -> GraphExecutor:
        """The motion graph."""
        return DeviceExecutor(self._workshop.lane(motion_program(manifest, graph.data), name, graph.precision))

    def make_painter(self, scene: Scene, graph: CheckedGraph, *, name: str) -> Painter:
        """The face graph and the laying of faces in one engine."""
        window, program = picture_program(scene.manifest, scene.spots, graph.data)

        def lane() -> Lane:
            return self._workshop.lane(program, name, graph.precision, unstaged=("base",))

        return DevicePainter(scene, window, graph.precision, self.device.driver, lane)

    def painter_key(self, scene: Scene, graph: CheckedGraph) -> str:
        """A painter has one scene's base frames on the device."""
        return f"{graph.sha256}/{scene.digest}"

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
