"""``visavis doctor``: what is installed, what works here and what does not, each with the next step."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal

import typer

from visavis.cli.failing import FAILED, Refused
from visavis.cli.options import Json, deployment_of, output_of
from visavis.errors import VisavisError

if TYPE_CHECKING:
    from visavis.registry import Registry

ENGINES: Final = ("onnxruntime", "onnxruntime-gpu", "onnx", "av", "opencv-python-headless", "numpy", "soxr", "livekit")
MARKS: Final = {"ok": "ok  ", "note": "note", "fail": "FAIL"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it works, and what to do if not."""

    level: Literal["ok", "note", "fail"]
    subject: str
    said: str
    step: str = ""


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Look at this installation: what works, what does not, and what to do about it. Exit 1 if something fails."""
    from visavis.registry import Registry

    output = output_of(ctx)
    registry = Registry.discover()
    findings = [
        *_versions(),
        *_plugins(registry),
        *_renderers(registry),
        *_store(registry),
        *_quickest(registry),
        *_cache(),
    ]
    fine = not any(finding.level == "fail" for finding in findings)
    if as_json:
        output.json({"ok": fine, "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            output.result(f"{MARKS[finding.level]}  {finding.subject.ljust(width)}  {finding.said}")
            if finding.step:
                output.result(f"      -> {finding.step}")
        output.result("everything works" if fine else "something does not work: see FAIL above")
    if not fine:
        raise Refused(FAILED)


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    dists = {(d.name or "").lower().replace("_", "-"): d.version for d in metadata.distributions()}
    for name in sorted(name for name in dists if name.startswith("visavis")):
        yield Finding("ok", name, dists[name])
    for name in ENGINES:
        if name in dists:
            yield Finding("ok", name, dists[name])


def _plugins(registry: Registry) -> Iterator[Finding]:
    from visavis.config import DEFAULT_USE

    for broken in registry.broken:
        step = f"pip install --force-reinstall {broken.origin.dist}, or uninstall it"
        yield Finding("fail", broken.origin.dist, broken.reason, step)
    for kind, name in DEFAULT_USE.items():
        if registry.find(kind, name) is None:
            yield Finding("fail", f"{kind.value} {name}", registry.missing(kind, name), registry.advice(kind, name))


def _renderers(registry: Registry) -> Iterator[Finding]:
    from visavis.choosing import AUTO
    from visavis.plugins import Kind

    items = [item for item in registry.all(Kind.RENDERER) if item.name != AUTO]
    problems: dict[str, str | None] = {}
    for item in items:
        try:
            problems[item.name] = item.record.check() if item.record.check is not None else None
        except Exception as error:  # noqa: BLE001 (a renderer's check is the plugin's: whatever it raises is its answer)
            problems[item.name] = f"{type(error).__name__}: {error}"
    works = [name for name, problem in problems.items() if problem is None]
    for item in items:
        problem = problems[item.name]
        subject = f"renderer {item.name}"
        if problem is None:
            yield Finding("ok", subject, f"works here ({item.origin})")
        elif works:
            yield Finding("note", subject, problem, f"{works[0]} works: write `renderer: {{use: {works[0]}}}`")
        else:
            yield Finding("fail", subject, problem, f"pip install --force-reinstall {item.origin.dist}")
    if not items:
        yield Finding("fail", "renderers", "none is installed", "pip install visavis-renderer-onnxruntime")


def _quickest(registry: Registry) -> Iterator[Finding]:
    """What ``renderer: {use: auto}`` would choose, on the first avatar that can be used."""
    from visavis.choosing import AUTO, candidates, compared, verdict
    from visavis.cli.running import run_async
    from visavis.hvia import Hvia
    from visavis.plugins import Kind

    if registry.find(Kind.STORE, "filesystem") is None:
        return

    async def opened() -> Hvia | None:
        store = deployment_of(None, registry).store.make()
        try:
            usable = [entry for entry in await store.list() if entry.problem is None]
            return await store.open(usable[0].id) if usable else None
        finally:
            await store.aclose()

    try:
        avatar = run_async(opened)
    except (VisavisError, OSError):
        return  # what is wrong with the avatars has been said
    if avatar is None:
        return
    with avatar:
        tried = compared(candidates(registry), avatar, sessions=8)
    for _, renderer in tried:
        if renderer is not None:
            renderer.close()
    trials = [trial for trial, _ in tried if not trial.problem]
    if trials:
        yield Finding("ok", f"renderer {AUTO}", f"{verdict(trials)}; drawn: {avatar.id}")


def _store(registry: Registry) -> Iterator[Finding]:
    from visavis.cli.running import run_async
    from visavis.interfaces.avatar import AvatarEntry
    from visavis.plugins import Kind

    if registry.find(Kind.STORE, "filesystem") is None:
        return

    async def entries() -> list[AvatarEntry]:
        store = deployment_of(None, registry).store.make()
        try:
            listed: list[AvatarEntry] = await store.list()
            return listed
        finally:
            await store.aclose()

    try:
        found = run_async(entries)
    except (VisavisError, OSError) as error:
        yield Finding("fail", "avatars", str(error), "check the folder and its permissions")
        return
    usable = [entry.id for entry in found if entry.problem is None]
    if usable:
        yield Finding("ok", "avatars", ", ".join(usable))
    else:
        yield Finding("fail", "avatars", "there is none that can be used", "put an .hvia file into ./assets/avatars")
    for entry in found:
        if entry.problem is not None:
            yield Finding(
                "note", f"avatar {entry.id}", entry.problem, f"`visavis avatars validate` says more on {entry.id}"
            )


def _cache() -> Iterator[Finding]:
    from visavis.graphs1.caching import cache_folder

    folder = cache_folder()
    step = "set VISAVIS_CACHE_DIR to a folder that can be written; until then every start decodes the clips anew"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding("note", "clip cache", f"{folder} cannot be written: {error.strerror or error}", step)
        return
    free = _free(folder)
    yield Finding("ok", "clip cache", f"{folder}" + (f", {free / 1e9:.1f} GB free" if free is not None else ""))


def _free(folder: os.PathLike[str]) -> int | None:
    import shutil

    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
