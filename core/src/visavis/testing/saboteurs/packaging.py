"""A correct distribution, and distributions that break one promise each. They are written, not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from visavis.testing import packaging as checks
from visavis.testing.packaging import PACKAGING, PackagingCase

DIST: Final = "visavis-source-parrot"
PACKAGE: Final = "visavis_source_parrot"

CODE: Final = '''
"""A source that says everything twice."""

from pydantic import Field

from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.plugins import AudioSourcePlugin


class Colour(ComponentConfig):
    """How it looks."""

    feathers: str = "green"
    """Their colour."""


class ParrotOptions(ComponentConfig):
    """What a session may choose."""

    times: int = Field(default=2, ge=1)
    """How often it says everything."""
    colour: Colour = Colour()
    """How it looks."""


def make(config, options):
    """The source."""
    from visavis_source_parrot.parrot import Parrot

    return Parrot(options)


@hookimpl
def visavis_audio_sources():
    """This plugin's one record."""
    yield AudioSourcePlugin(
        name="parrot", summary="Says everything twice.", session=ParrotOptions, factory=make
    )
'''

METADATA: Final = """\
Metadata-Version: 2.4
Name: visavis-source-parrot
Version: 0.1.0
Summary: A source that says everything twice.
License-Expression: Apache-2.0
Requires-Python: >=3.11
Requires-Dist: visavis
Description-Content-Type: text/markdown

# visavis-source-parrot

A source for visavis that says everything twice. Put it into a deployment:

    source: {use: parrot}
"""

POINTS: Final = f"[visavis]\nsource-parrot = {PACKAGE}\n"


def correct(folder: Path, **other: str | None) -> PackagingCase:
    """A distribution that keeps every promise, but for the ``other`` files: new text, or None for none."""
    files: dict[str, str | None] = {
        "code": CODE,
        "metadata": METADATA,
        "points": POINTS,
        "typed": "",
        "parrot": '"""The parrot."""\n',
        **other,
    }
    info = f"{DIST.replace('-', '_')}-0.1.0.dist-info"
    places = {
        "code": f"{PACKAGE}/__init__.py",
        "parrot": f"{PACKAGE}/parrot.py",
        "typed": f"{PACKAGE}/py.typed",
        "metadata": f"{info}/METADATA",
        "points": f"{info}/entry_points.txt",
        "engine": "onnxruntime.py",
    }
    for name, text in files.items():
        if text is not None:
            path = folder / places[name]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return PackagingCase(DIST, path=[folder])


@PACKAGING.breaks(checks.has_an_entry_point)
def unannounced(folder: Path) -> PackagingCase:
    """Nobody finds it."""
    return correct(folder, points="[console_scripts]\nparrot = visavis_source_parrot:make\n")


@PACKAGING.breaks(checks.yields_records)
def capital(folder: Path) -> PackagingCase:
    """Its name is not in lower case."""
    return correct(folder, code=CODE.replace('name="parrot"', 'name="Parrot"'))


@PACKAGING.breaks(checks.yields_records)
def yields_nothing(folder: Path) -> PackagingCase:
    """Its hook is not marked as one."""
    return correct(folder, code=CODE.replace("\n@hookimpl\n", "\n"))


@PACKAGING.breaks(checks.is_cheap_to_list)
def imports_its_engine(folder: Path) -> PackagingCase:
    """Its engine is imported with it; here the engine is an empty file."""
    return correct(folder, code=CODE + "\nimport onnxruntime\n", engine="")


@PACKAGING.breaks(checks.summarises_each_part)
def chatty(folder: Path) -> PackagingCase:
    """Its summary takes two lines."""
    return correct(folder, code=CODE.replace('everything twice.", session', 'everything.\\nTwice.", session'))


@PACKAGING.breaks(checks.describes_every_option)
def undescribed(folder: Path) -> PackagingCase:
    """An option within an option has no description."""
    return correct(folder, code=CODE.replace('    """Their colour."""\n', ""))


@PACKAGING.breaks(checks.refuses_unknown_options)
def lenient(folder: Path) -> PackagingCase:
    """A misspelt option does nothing, silently."""
    said = '    """What a session may choose."""\n'
    return correct(folder, code=CODE.replace(said, said + '\n    model_config = {"extra": "ignore"}\n'))


@PACKAGING.breaks(checks.is_typed)
def untyped(folder: Path) -> PackagingCase:
    """Type checkers take everything of it for Any."""
    return correct(folder, typed=None)


@PACKAGING.breaks(checks.keeps_to_itself)
def leans_on_another(folder: Path) -> PackagingCase:
    """It works only where another plugin is installed."""
    return correct(folder, parrot="def load():\n    from visavis_source_file.source import FileSource\n")


@PACKAGING.breaks(checks.keeps_to_itself)
def leans_on_the_kit(folder: Path) -> PackagingCase:
    """It works only where the test kit's packages are installed."""
    return correct(folder, parrot="from visavis.testing import fakes\n")


@PACKAGING.breaks(checks.says_its_licence)
def unlicensed(folder: Path) -> PackagingCase:
    """Nobody knows whether it may be used."""
    return correct(folder, metadata=METADATA.replace("License-Expression: Apache-2.0\n", ""))


@PACKAGING.breaks(checks.says_what_it_needs)
def takes_any_python(folder: Path) -> PackagingCase:
    """It installs where it cannot run."""
    return correct(folder, metadata=METADATA.replace(">=3.11", ">=3.8"))


@PACKAGING.breaks(checks.says_what_it_needs)
def depends_on_nothing(folder: Path) -> PackagingCase:
    """It installs without visavis."""
    return correct(folder, metadata=METADATA.replace("Requires-Dist: visavis\n", ""))


@PACKAGING.breaks(checks.has_a_readme)
def wordless(folder: Path) -> PackagingCase:
    """Its README does not say how to switch it on."""
    return correct(folder, metadata=METADATA.replace("source: {use: parrot}", "See the source code."))
