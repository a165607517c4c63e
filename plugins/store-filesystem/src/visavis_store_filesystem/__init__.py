"""The store ``filesystem``: its options and its record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field
from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.avatar import AvatarStore
from visavis.plugins import AvatarStorePlugin


class FilesystemStoreOptions(ComponentConfig):
    """Options of ``store: {use: filesystem}``."""

    root: Path | None = None
    """The folder of .hvia files; without one there are only the sample avatars."""
    builtin: bool = True
    """Whether the sample avatars stand in for ids that the folder lacks."""
    poll_s: Annotated[float, Field(ge=0.05, le=3600)] = 2.0
    """Seconds between looks at the folder where the system does not tell of changes."""


def make(options: FilesystemStoreOptions) -> AvatarStore:
    """The store. Raises AvatarError if ``root`` is no folder."""
    from visavis_store_filesystem.store import FilesystemStore

    return FilesystemStore(options)


@hookimpl
def visavis_avatar_stores() -> Iterable[AvatarStorePlugin]:
    """This plugin's one record."""
    yield AvatarStorePlugin(
        name="filesystem",
        summary="A folder of .hvia files; the sample avatars stand in for what it lacks.",
        config=FilesystemStoreOptions,
        factory=make,
    )
