"""The renderer ``tensorrt``: its options, its record and its command. The engine is imported when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.renderer import Renderer
from visavis.plugins import CommandPlugin, RendererPlugin


class TensorRTOptions(ComponentConfig):
    """Options of ``renderer: {use: tensorrt}``."""

    device: Annotated[int, Field(ge=0, le=63)] = 0
    """Which NVIDIA GPU, counted as nvidia-smi counts them."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Which of an avatar's graphs are executed; fp16 and int8 need an avatar that brings them."""
    engine: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    """Which of the two: auto takes TensorRT where it is installed, else TensorRT-RTX."""
    driver: Literal["auto", "cuda-python", "pycuda"] = "auto"
    """Which package calls CUDA: auto takes cuda-python where it is installed, else PyCUDA."""
    max_batch: Annotated[int, Field(ge=1, le=64)] = 32
    """The most sessions drawn in one step; memory is taken for so many."""
    cuda_graphs: bool = True
    """Whether steps of a size that keeps coming are replayed as CUDA graphs."""
    model_packs: tuple[Path, ...] = ()
    """Folders of graphs (SHA256.onnx) that avatars refer to instead of holding them."""


def make(options: TensorRTOptions) -> Renderer:
    """The renderer. Raises RendererError if TensorRT, a binding of CUDA or the GPU is not there."""
    from visavis_renderer_tensorrt.renderer import TensorRTRenderer

    return TensorRTRenderer(options)


def check() -> str | None:
    """Why it cannot work here, in one line with the command that helps; None if it can."""
    from visavis_renderer_tensorrt.checking import problem

    return problem()


@hookimpl
def visavis_renderers() -> Iterable[RendererPlugin]:
    """This plugin's renderer."""
    yield RendererPlugin(
        name="tensorrt",
        summary="Executes graphs/1 avatars with TensorRT or TensorRT-RTX on an NVIDIA GPU.",
        config=TensorRTOptions,
        factory=make,
        check=check,
    )


@hookimpl
def visavis_commands() -> Iterable[CommandPlugin]:
    """This plugin's command."""
    yield CommandPlugin(
        name="engines",
        summary="Build, list or remove the GPU engines of avatars.",
        target="visavis_renderer_tensorrt.command:app",
    )
