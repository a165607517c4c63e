"""From an ONNX file to a lane that runs it: the recipe, the cache, the build, the device."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visavis.errors import RendererError

from visavis_renderer_tensorrt.cache import EngineCache, Recipe
from visavis_renderer_tensorrt.device import Device, Engine, Profile, StalePlan
from visavis_renderer_tensorrt.lane import Lane, ports_of

log = logging.getLogger(__name__)


def recipe_of(what: str, graph: bytes, precision: str, engine: Engine, profile: Profile) -> Recipe:
    """What the engine of a graph depends on."""
    return Recipe(
        what=what,
        graph=hashlib.sha256(graph).hexdigest(),
        precision=precision,
        engine=engine.name,
        version=engine.version,
        target=engine.target(),
        profile=(1, profile.best, profile.most),
    )


@dataclass(frozen=True)
class Workshop:
    """Makes lanes of graphs on one device."""

    device: Device
    cache: EngineCache
    profile: Profile
    record: bool

    def lane(self, graph: bytes, name: str, precision: str, *, unstaged: Sequence[str] = ()) -> Lane:
        """A graph, ready to run; its engine is built first if nobody has yet. Raises RendererError."""
        engine = self.device.engine
        recipe = recipe_of(name, graph, precision, engine, self.profile)
        ports = ports_of(graph, unstaged=unstaged)
        try:
            program = self.cache.fetch(recipe, lambda: built(engine, graph, recipe, self.profile), engine.load)
        except StalePlan as error:
            raise RendererError(
                f"the GPU takes no engine of {name}: {error}", hint="see that TensorRT fits the driver (`nvidia-smi`)"
            ) from error
        return Lane(self.device.driver, program, ports, self.profile.most, record=self.record)


def built(
    engine: Engine, graph: bytes, recipe: Recipe, profile: Profile, tell: Callable[[str], None] | None = None
) -> bytes:
    """The plan of a graph. Raises RendererError that says which graph it was."""
    try:
        return engine.build(graph, profile, tell or (lambda phase: log.debug("%s: %s", recipe.what, phase)))
    except RendererError as error:
        raise RendererError(f"{recipe.what}: {error.message}", hint=error.hint) from error
