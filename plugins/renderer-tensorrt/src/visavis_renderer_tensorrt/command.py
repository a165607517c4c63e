"""``visavis engines``: build the engines of avatars ahead of time, list them, remove them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from visavis.cli.options import Config, Json, Root, deployment_of, output_of
from visavis.errors import BadInput

if TYPE_CHECKING:
    from visavis.hvia import Hvia
    from visavis.interfaces.avatar import AvatarStore

    from visavis_renderer_tensorrt import TensorRTOptions
    from visavis_renderer_tensorrt.cache import EngineCache
    from visavis_renderer_tensorrt.device import Engine
    from visavis_renderer_tensorrt.programs import ToBuild

T = TypeVar("T")

app = typer.Typer(
    help="Build, list or remove the GPU engines of avatars.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Capabilities = Annotated[
    list[str] | None,
    typer.Option("--for", metavar="N.N", help="A GPU's compute capability, 8.9 say: no GPU is needed (TensorRT-RTX)."),
]


@app.command("build")
def build(
    ctx: typer.Context,
    avatars: Annotated[list[str] | None, typer.Argument(metavar="[ID|FILE...]", help="Avatars; all, if none.")] = None,
    capabilities: Capabilities = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="fp32|fp16|int8", help="[default: what the deployment says]")
    ] = None,
    root: Root = None,
    config: Config = None,
) -> None:
    """Build the engines of avatars, for the GPU at hand or for others; those that are there are not built again."""
    from visavis.registry import Registry

    from visavis_renderer_tensorrt.cache import EngineCache
    from visavis_renderer_tensorrt.device import Profile

    output = output_of(ctx)
    deployment = deployment_of(config, Registry.discover(), root=root)
    options = _options(deployment, precision)
    wanted = [_capability(text) for text in capabilities or ()]
    work = [item for file in _files(deployment, avatars or []) for item in _programs(file, options)]
    cache, profile = EngineCache(), Profile(options.max_batch)
    with closing(_Engines(options, wanted)) as engines:
        jobs = [(engine, item) for engine in engines for item in work]
        with output.progress() as shown:
            row = shown.add_task("engines", total=len(jobs), told="") if shown is not None else None
            for engine, item in jobs:

                def tell(phase: str) -> None:
                    if shown is not None and row is not None:
                        shown.update(row, told=phase)

                output.result(_one(engine, item, cache, profile, tell))
                if shown is not None and row is not None:
                    shown.advance(row)


def _one(engine: Engine, item: ToBuild, cache: EngineCache, profile: Any, tell: Any) -> str:
    """Build one engine, if it is not there; gives the line that says so."""
    from visavis_renderer_tensorrt.engines import built, recipe_of

    recipe = recipe_of(item.name, item.graph, item.precision, engine, profile)
    if cache.has(recipe):
        return f"{recipe}: is there"
    plan = cache.fetch(recipe, lambda: built(engine, item.graph, recipe, profile, tell), bytes)
    return f"{recipe}: {len(plan) / 1e6:.1f} MB"


@app.command("list")
def list_engines(ctx: typer.Context, as_json: Json = False) -> None:
    """List the engines that are kept, the one used last first."""
    from visavis_renderer_tensorrt.cache import EngineCache

    output, cache = output_of(ctx), EngineCache()
    kept = list(cache.kept())
    if as_json:
        rows = [{**asdict(item.recipe), "file": str(item.path), "size": item.size} for item in kept]
        output.json({"folder": str(cache.folder), "engines": rows})
        return
    output.rows([(str(item.recipe), f"{item.size / 1e6:.1f} MB") for item in kept])
    output.tell(f"{len(kept)} engines in {cache.folder}")


@app.command("clean")
def clean(
    ctx: typer.Context,
    old: Annotated[bool, typer.Option("--old", help="Only those of another version of TensorRT.")] = False,
) -> None:
    """Remove engines that are kept. They are built again when they are needed."""
    from visavis_renderer_tensorrt.cache import EngineCache, Kept

    def current(kept: Kept) -> bool:
        return old and (kept.recipe.engine, kept.recipe.version) in installed

    installed = _installed() if old else set()
    cache = EngineCache()
    gone, size = cache.clean(current)
    output_of(ctx).result(f"{gone} engines removed, {size / 1e6:.1f} MB: {cache.folder}")


def _installed() -> set[tuple[str, str]]:
    from visavis_renderer_tensorrt.tensorrt_engine import MODULES, find

    found = set()
    for name in MODULES:
        try:
            found.add((name, str(find(name)[1].__version__)))
        except ImportError:
            continue  # the other one may be installed
    return found


def _options(deployment: Any, precision: str | None) -> TensorRTOptions:
    """The options of the deployment's renderer, if it is this one, else the defaults. Raises BadInput."""
    from pydantic import ValidationError

    from visavis_renderer_tensorrt import TensorRTOptions

    config = deployment.renderer.config
    said = config.model_dump() if isinstance(config, TensorRTOptions) else {}
    try:
        return TensorRTOptions(**(said if precision is None else {**said, "precision": precision}))
    except ValidationError as error:
        raise BadInput(f"the precision {precision!r} is none of fp32, fp16, int8") from error


def _capability(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,2})\.(\d)", text)
    if found is None:
        raise BadInput(f"{text!r} is no compute capability", hint="8.9 is one; NVIDIA's lists say which GPU has which")
    return int(found[1]), int(found[2])


def _programs(file: Hvia, options: TensorRTOptions) -> list[ToBuild]:
    from visavis_renderer_tensorrt.programs import to_build

    with file:
        return list(to_build(file, options.precision, options.model_packs))


def _files(deployment: Any, names: list[str]) -> Iterator[Hvia]:
    """The avatars that are named: files, or ids of the deployment's store; all of the store, if none is."""
    from visavis.cli.running import run_async
    from visavis.hvia import open_hvia

    async def stored(act: Callable[[AvatarStore], Awaitable[T]]) -> T:
        store = deployment.store.make()
        try:
            return await act(store)
        finally:
            await store.aclose()

    async def ids(store: AvatarStore) -> list[str]:
        return [entry.id for entry in await store.list() if entry.problem is None]

    async def opened(name: str, store: AvatarStore) -> Hvia:
        return await store.open(name)

    for name in names or run_async(partial(stored, ids)):
        if name.endswith(".hvia") or Path(name).is_file():
            yield open_hvia(name)
        else:
            yield run_async(partial(stored, partial(opened, name)))


class _Engines:
    """What builds: for each compute capability that was named, or for the GPU at hand."""

    def __init__(self, options: TensorRTOptions, capabilities: list[tuple[int, int]]) -> None:
        from visavis_renderer_tensorrt.checking import INSTALL, device_of
        from visavis_renderer_tensorrt.tensorrt_engine import TensorRTEngine, find

        self._device = None
        if not capabilities:
            self._device = device_of(options)
            self._engines: list[Engine] = [self._device.engine]
            return
        try:
            name, module = find("tensorrt-rtx")
        except ImportError as error:
            raise BadInput(f"TensorRT-RTX cannot be imported ({error})", hint=INSTALL["rtx"]) from error
        self._engines = [TensorRTEngine(name, module, capability=capability) for capability in capabilities]

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines)

    def close(self) -> None:
        """Let go of the GPU."""
        if self._device is not None:
            self._device.driver.close()
