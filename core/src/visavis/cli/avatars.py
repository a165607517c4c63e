"""``visavis avatars``: what avatars there are, what is in one, whether it is right, and how one is packed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.cli.failing import BAD_INPUT, Refused
from visavis.cli.options import Config, Json, Root, deployment_of, output_of
from visavis.errors import AvatarError, BadInput

if TYPE_CHECKING:
    from visavis.hvia import Finding, Hvia
    from visavis.hvia.manifest import GraphSource, Precision

app = typer.Typer(
    help="List, inspect, validate and pack avatar files (.hvia).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Avatar files.")]


@app.command("list")
def list_avatars(ctx: typer.Context, root: Root = None, config: Config = None, as_json: Json = False) -> None:
    """List the avatars of the store, unusable ones with their reason."""
    from visavis.cli.running import run_async
    from visavis.interfaces.avatar import AvatarEntry
    from visavis.registry import Registry

    output = output_of(ctx)
    deployment = deployment_of(config, Registry.discover(), root=root)

    async def entries() -> list[AvatarEntry]:
        store = deployment.store.make()
        try:
            listed: list[AvatarEntry] = await store.list()
            return listed
        finally:
            await store.aclose()

    found = run_async(entries)
    if as_json:
        keys = ("id", "name", "size", "digest", "problem", "builtin")
        output.json({"avatars": [{key: getattr(entry, key) for key in keys} for entry in found]})
        return
    rows = []
    for entry in found:
        note = f"cannot be used: {entry.problem}" if entry.problem else "built in" if entry.builtin else ""
        rows.append((entry.id, entry.name, f"{entry.size / 1e6:7.2f} MB", note))
    output.rows(rows)
    if not found:
        output.tell("there are no avatars")


@app.command("inspect")
def inspect(
    ctx: typer.Context,
    avatar: Annotated[str, typer.Argument(metavar="ID|FILE", help="An avatar's id, or the path of a file.")],
    root: Root = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show an avatar: who made it, under which licence, whose likeness it is, and what is inside."""
    output = output_of(ctx)
    with _open(avatar, root, config) as file:
        if as_json:
            about = {"id": file.id, "size": file.size, "digest": file.digest}
            output.json({**about, "manifest": file.manifest.model_dump(mode="json")})
            return
        output.rows(_description(file))


def _open(avatar: str, root: Path | None, config: Path | None) -> Hvia:
    from visavis.cli.running import run_async
    from visavis.hvia import open_hvia
    from visavis.registry import Registry

    if avatar.endswith(".hvia") or "/" in avatar or Path(avatar).is_file():
        return open_hvia(avatar)
    deployment = deployment_of(config, Registry.discover(), root=root)

    async def opened() -> Hvia:
        store = deployment.store.make()
        try:
            file: Hvia = await store.open(avatar)
            return file
        finally:
            await store.aclose()

    return run_async(opened)


def _description(file: Hvia) -> list[tuple[str, str]]:
    said = file.manifest
    motion, face, video = said.motion, said.face, said.video
    ahead = 1000 * motion.look_ahead / motion.sample_rate
    rows = [
        ("avatar", f"{file.id}: {said.name}"),
        ("", said.description),
        ("author", said.author),
        ("licence", said.licence),
        ("likeness", f"{said.likeness.of} ({said.likeness.consent})"),
        ("synthetic", "yes" if said.synthetic else "no"),
        ("format", f"{said.format}, engine {said.engine}, {file.size / 1e6:.2f} MB"),
        ("digest", f"sha256:{file.digest}"),
        ("video", f"{video.width}x{video.height} at {video.fps} fps"),
        ("motion", f"{_graphs(motion.sources)}: {motion.sample_rate} Hz, hop {motion.hop}, look-ahead {ahead:.0f} ms"),
        ("", f"{len(motion.coefficients)} coefficients" + (f" ({motion.profile})" if motion.profile else "")),
        ("face", f"{_graphs(face.sources)}: {face.width}x{face.height} from {', '.join(face.inputs)}"),
    ]
    rows += [("clip", f"{clip.id}: {clip.kind}, {clip.frames / video.fps:.1f} s") for clip in said.clips]
    rows += [("member", f"{member.path}, {member.size / 1e3:.0f} kB") for member in said.members]
    rows += [("notice", " ".join(notice.split())) for notice in said.notices]
    return [row for row in rows if row[1]]


def _graphs(sources: Mapping[Precision, GraphSource]) -> str:
    """Where a graph lies, and in which other precisions there is one."""
    said = [s if isinstance(s, str) else f"model pack {s.sha256[:12]}" for s in sources.values()]
    others = ", ".join(
        f"{precision} {place}" for precision, place in zip(sources, said, strict=True) if precision != "fp32"
    )
    return f"{said[0]} ({others})" if others else said[0]


@app.command("validate")
def validate(ctx: typer.Context, files: Files, as_json: Json = False) -> None:
    """Check avatar files thoroughly; nothing in them is executed. Exit 2 if one of them cannot be used."""
    output = output_of(ctx)
    verdicts: list[dict[str, Any]] = []
    for file in files:
        findings = _findings(file)
        fine = not any(finding.level == "error" for finding in findings)
        verdicts.append(
            {
                "file": str(file),
                "ok": fine,
                "findings": [{"level": f.level, "where": f.where, "message": f.message} for f in findings],
            }
        )
        if not as_json:
            output.result(f"{file}: {'fine' if fine else 'cannot be used'}")
            for finding in findings:
                output.result(f"  {_line(finding)}")
    if as_json:
        output.json({"files": verdicts})
    if not all(verdict["ok"] for verdict in verdicts):
        raise Refused(BAD_INPUT)


def _findings(file: Path) -> list[Finding]:
    from visavis.hvia import Finding, validate_hvia

    try:
        return validate_hvia(file)
    except AvatarError as error:
        return [Finding("error", "", str(error))]


def _line(finding: Finding) -> str:
    return ": ".join(part for part in (finding.level, finding.where, finding.message) if part)


@app.command("pack")
def pack(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with manifest.json and what it names.")],
    output_file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.hvia", help="The file to write.")],
) -> None:
    """Pack a folder into an avatar file: sizes and hashes are computed, and the result is validated."""
    from visavis.hvia import pack_folder

    output = output_of(ctx)
    if output_file.suffix != ".hvia":
        raise BadInput(f"{output_file} does not end in .hvia")
    if not output_file.parent.is_dir():
        raise BadInput(f"there is no folder {output_file.parent}")
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    # Validated before it takes the place of what may be there already.
    with tempfile.TemporaryDirectory(dir=output_file.parent, prefix=".pack-") as aside:
        packed = pack_folder(folder, Path(aside) / output_file.name)
        findings = _findings(packed)
        for finding in findings:
            output.tell(f"visavis: {_line(finding)}")
        if any(finding.level == "error" for finding in findings):
            raise BadInput(f"{folder} does not make a usable avatar")
        packed.replace(output_file)
    output.result(f"{output_file}: {output_file.stat().st_size / 1e6:.2f} MB")
