"""The renderer ``onnxruntime``: its options and its record. The engine is imported when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.renderer import Renderer
from visavis.plugins import RendererPlugin


class OnnxRuntimeOptions(ComponentConfig):
    """Options of ``renderer: {use: onnxruntime}``."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]{1,2})?)$")] = "cpu"
    """Where the graphs run: cpu, or cuda:N for the N-th NVIDIA GPU (needs onnxruntime-gpu)."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """CPU threads for one step. More sessions on a box gain more from more steps at once than from threads."""
    max_batch: Annotated[int, Field(ge=1, le=64)] = 16
    """The most sessions drawn in one step."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """What graphs compute in, where the avatar brings them so: auto is int8 on a CPU that gains by it, else fp32."""
    model_packs: tuple[Path, ...] = ()
    """Folders of graphs (SHA256.onnx) that avatars refer to instead of holding them."""


def make(options: OnnxRuntimeOptions) -> Renderer:
    """The renderer. Raises RendererError if the device is not there."""
    from visavis_renderer_onnxruntime.renderer import OnnxRuntimeRenderer

    return OnnxRuntimeRenderer(options)


def check() -> str | None:
    """Why it cannot work here, in one line; None if it can."""
    try:
        from visavis_renderer_onnxruntime import renderer
    except ImportError as error:
        return f"ONNX Runtime cannot be imported: {error}"
    return renderer.problem("cpu")


def trials() -> Iterable[dict[str, str]]:
    """What ``auto`` should try besides the processor: the first GPU, where this ONNX Runtime has CUDA."""
    from visavis_renderer_onnxruntime import renderer

    if renderer.problem("cuda:0") is None:
        yield {"device": "cuda:0"}


@hookimpl
def visavis_renderers() -> Iterable[RendererPlugin]:
    """This plugin's one record."""
    yield RendererPlugin(
        name="onnxruntime",
        summary="Executes graphs/1 avatars with ONNX Runtime, on the CPU or on an NVIDIA GPU.",
        config=OnnxRuntimeOptions,
        factory=make,
        check=check,
        trials=trials,
    )
