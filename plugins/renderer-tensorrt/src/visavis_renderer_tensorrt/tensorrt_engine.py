"""Building and executing with TensorRT or TensorRT-RTX, which share one API under two names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from visavis.errors import RendererError

from visavis_renderer_tensorrt.device import Driver, Launch, Memory, Profile, Program, StalePlan, Stream
from visavis_renderer_tensorrt.turing import without_products

log = logging.getLogger(__name__)

MODULES: Final = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Where each is found: the second name of TensorRT-RTX is that of its wheels on the usual index."""
NEEDED: Final = "10.8"
"""The first TensorRT whose networks are all strongly typed with uint8 at their ends, as ours are."""
TURING: Final = (7, 5)


def find(wanted: str = "auto") -> tuple[str, Any]:
    """The name and the module of TensorRT or TensorRT-RTX. Raises ImportError with what each import said."""
    said = []
    for name in MODULES if wanted == "auto" else (wanted,):
        for module in MODULES[name]:
            try:
                return name, import_module(module)
            except (ImportError, OSError) as error:  # a wheel without its libraries
                said.append(f"{module}: {' '.join(str(error).split())}")
    raise ImportError("; ".join(said))


class TensorRTEngine:
    """Builds and loads plans for one GPU, or builds ahead of time for a compute capability where none is at hand.

    ``name`` is ``tensorrt`` or ``tensorrt-rtx``, ``module`` what :func:`find` gave for it.
    """

    def __init__(
        self,
        name: str,
        module: Any,
        driver: Driver | None = None,
        *,
        capability: tuple[int, int] | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        if driver is None and (capability is None or name != "tensorrt-rtx"):
            raise RendererError(
                f"{name} builds engines only where the GPU is",
                hint="TensorRT-RTX can build for GPUs that are elsewhere",
            )
        self.name, self._trt = name, module
        self.version: str = module.__version__
        self._driver = driver
        self.capability = capability or (driver.gpu.capability if driver is not None else (0, 0))
        self._graphs = cuda_graphs
        self._log = _logger(module)

    def target(self) -> str:
        """TensorRT times kernels on the very card; TensorRT-RTX builds for all of a compute capability."""
        number = "sm{}{}".format(*self.capability)
        return number if self.name == "tensorrt-rtx" or self._driver is None else f"{self._driver.gpu.name}, {number}"

    def build(self, graph: bytes, profile: Profile, tell: Callable[[str], None]) -> bytes:
        """A strongly typed engine with one profile of batches. Raises RendererError."""
        trt = self._trt
        if self.name == "tensorrt-rtx" and self.capability == TURING:
            graph = without_products(graph)
        self._log.said.clear()
        builder = trt.Builder(self._log)
        network = parsed(trt, builder, graph, self._log)
        config = builder.create_builder_config()
        config.add_optimization_profile(batches(builder, network, profile))
        self._aim(config)
        monitor = _monitor(trt, tell)
        config.progress_monitor = monitor
        if self._driver is None:
            plan = builder.build_serialized_network(network, config)
        else:
            with self._driver.current():
                plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RendererError(
                f"{self.name} {self.version} cannot build it for {self.target()}: {self._log.last()}",
                hint="use the renderer onnxruntime for this avatar, and tell its maker",
            )
        return bytes(plan)

    def _aim(self, config: Any) -> None:
        """TensorRT-RTX builds for a compute capability by name; for one that it does not list, for the GPU at hand."""
        if self.name != "tensorrt-rtx":
            return
        known = self._trt.ComputeCapability.__members__
        wanted = known.get("SM{}{}".format(*self.capability))
        if wanted is None and self._driver is None:
            listed = ", ".join(name for name in known if name.startswith("SM"))
            raise RendererError(f"TensorRT-RTX does not build for {self.target()} ahead of time; it does for {listed}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(wanted or known["CURRENT"], 0)

    def load(self, plan: bytes) -> Program:
        """Bring a plan to the GPU. Raises StalePlan, RendererError if there is no GPU or no room."""
        if self._driver is None:
            raise RendererError(f"an engine for {self.target()} cannot be loaded: no GPU is at hand")
        self._log.said.clear()
        with self._driver.current():
            runtime = self._trt.Runtime(self._log)
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise StalePlan(self._log.last())
            return TensorRTProgram(self._trt, runtime, engine, self._driver, own_graphs=self._own_graphs)

    @property
    def _own_graphs(self) -> bool:
        return self._graphs and self.name == "tensorrt-rtx"

    def sizes(self) -> tuple[int, int]:
        """Bytes of weights and of working memory that the latest build reckoned with; zeros before one."""
        return self._log.bytes_of("Weights"), self._log.bytes_of("Activation")


_HINT: Final = "docs/gpu.md lists what an avatar's graphs must not hold"


def parsed(trt: Any, builder: Any, graph: bytes, logger: Any) -> Any:
    """The network of an ONNX file. Raises RendererError with the parser's words."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = dict.fromkeys(
            f"{error.node_name() or error.node_operator() or 'graph'}: {error.desc()}" for error in errors
        )
        said = "; ".join(told) or logger.last()
        raise RendererError(
            f"TensorRT cannot read it: {' '.join(said.split())}",
            hint=_HINT,
        )
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        # The builder believes a shape that holds for one size of batch only, and the engine would fail with others.
        if (
            layer.type == trt.LayerType.SHUFFLE
            and -1 in layer.get_input(0).shape
            and -1 not in layer.get_output(0).shape
        ):
            raise RendererError(f"TensorRT cannot read it: the reshape {layer.name!r} fixes the batch", hint=_HINT)
    return network


def batches(builder: Any, network: Any, profile: Profile) -> Any:
    """An optimisation profile for 1 to ``profile.most`` rows of every input."""
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        made.set_shape(tensor.name, (1, *rest), (profile.best, *rest), (profile.most, *rest))
    return made


class TensorRTProgram:
    """An engine on the GPU. All its launches share one working memory: they run on one stream, one after the other."""

    def __init__(self, trt: Any, runtime: Any, engine: Any, driver: Driver, *, own_graphs: bool) -> None:
        self._trt, self._driver = trt, driver
        self._runtime, self._engine = runtime, engine  # the runtime outlives its engine
        self.records_itself = own_graphs
        size = int(engine.device_memory_size_v2)
        self._scratch: Memory = driver.allocate(max(size, 256))
        self.memory = size + int(engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE))
        self._launches: list[_Launch] = []

    def launch(self) -> Launch:
        """A context that works in the shared memory."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._driver.current():
            if self.records_itself:
                config = self._engine.create_runtime_config()
                config.set_execution_context_allocation_strategy(strategy)
                config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                context = self._engine.create_execution_context(config)
            else:
                context = self._engine.create_execution_context(strategy)
        if context is None:
            raise RendererError("the GPU has no room for another context", hint="use a smaller max_batch")
        context.set_device_memory(self._scratch.address, self._scratch.size)
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        shapes = {name: tuple(self._engine.get_tensor_shape(name))[1:] for name in inputs}
        self._launches.append(_Launch(context, shapes))
        return self._launches[-1]

    def free(self) -> None:
        """Let go of contexts before the engine, and of the engine before its memory."""
        with self._driver.current():
            for launch in self._launches:
                launch.free()
            self._launches.clear()
            self._engine = self._runtime = None
        self._scratch.free()


class _Launch:
    def __init__(self, context: Any, inputs: Mapping[str, tuple[int, ...]]) -> None:
        self._context, self._inputs = context, inputs
        self._batch = 0

    def run(self, batch: int, addresses: Mapping[str, int], stream: Stream) -> None:
        if batch != self._batch:
            for name, rest in self._inputs.items():
                self._context.set_input_shape(name, (batch, *rest))
            self._batch = batch
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        if not self._context.execute_async_v3(stream.handle):
            raise RendererError("TensorRT could not execute an engine")

    def free(self) -> None:
        self._context = None


def _logger(trt: Any) -> Any:
    """TensorRT's log, kept: its errors are all it says on why it gives None."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity != trt.ILogger.VERBOSE:
                self.said.append((severity, message))
            if severity == trt.ILogger.WARNING:
                log.debug("%s", message)

        def last(self) -> str:
            """The first error since the latest call: what follows are its consequences."""
            bad = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            first = next((message for severity, message in self.said if severity in bad), "it does not say why")
            return " ".join(first.split())[:500]

        def bytes_of(self, what: str) -> int:
            found = [re.search(rf"Total {what} Memory: (\d+) bytes", message) for _, message in self.said]
            return sum(int(match[1]) for match in found if match)

    return Logger()


def _monitor(trt: Any, tell: Callable[[str], None]) -> Any:
    """Passes on which phase of a build has begun."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            tell(phase.lower())

        def step_complete(self, phase: str, step: int) -> bool:
            return True

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
