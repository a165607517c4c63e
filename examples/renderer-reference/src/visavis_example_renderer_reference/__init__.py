"""A renderer in two short modules. This one, which is imported at every start, only names it."""

from __future__ import annotations

from collections.abc import Iterable

from visavis.component import NoOptions
from visavis.hookspecs import hookimpl
from visavis.interfaces.renderer import Renderer
from visavis.plugins import RendererPlugin


def make(_: NoOptions) -> Renderer:
    """The renderer; its engine is imported here and not before."""
    from visavis_example_renderer_reference.renderer import ReferenceRenderer

    return ReferenceRenderer()


@hookimpl
def visavis_renderers() -> Iterable[RendererPlugin]:
    """What ``renderer: {use: reference}`` finds."""
    yield RendererPlugin(name="reference", summary="Executes avatars with ONNX's reference evaluator.", factory=make)
