"""Correct fakes, and for every check a saboteur: a fake that is right but for the one thing the check is about.

They prove the kit itself: each check must fail on its own saboteur and on no other. :data:`CORRECT` makes correct cases
of each kind, each in an empty folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from visavis.testing.checks import Suite
from visavis.testing.launcher import LAUNCHER
from visavis.testing.packaging import PACKAGING
from visavis.testing.renderer import RENDERER
from visavis.testing.saboteurs import launcher, packaging, renderer, renderer_loading, source, store, transport
from visavis.testing.source import SOURCE
from visavis.testing.store import STORE
from visavis.testing.transport import TRANSPORT

# Its saboteurs are found by being imported.
_ = renderer_loading

SUITES: Final[dict[str, Suite[Any]]] = {
    suite.kind: suite for suite in (SOURCE, RENDERER, TRANSPORT, STORE, LAUNCHER, PACKAGING)
}
CORRECT: Final[dict[str, list[Callable[[Path], Any]]]] = {
    "source": [source.correct],
    "launcher": [launcher.correct],
    "packaging": [packaging.correct],
    "renderer": [renderer.correct],
    "store": [store.correct],
    "transport": [transport.correct, transport.correct_realtime],
}
