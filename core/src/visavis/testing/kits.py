"""The kits that a plugin's tests subclass, one for each kind of part."""

from __future__ import annotations

import pytest

from visavis.testing.kit import Kit
from visavis.testing.launcher import LAUNCHER, LauncherCase
from visavis.testing.packaging import PACKAGING, PackagingCase
from visavis.testing.renderer import RENDERER
from visavis.testing.rig import RendererCase
from visavis.testing.source import SOURCE, SourceCase
from visavis.testing.store import STORE, StoreCase
from visavis.testing.transport import TRANSPORT
from visavis.testing.way_out import TransportCase


class SourceKit(Kit, suite=SOURCE):
    """For an audio source: give a fixture named ``source`` that returns a SourceCase."""

    @pytest.fixture
    def source(self) -> SourceCase:
        """What a subclass gives."""
        return pytest.fail("a SourceKit needs a fixture named source that returns a SourceCase")

    @pytest.fixture
    def case(self, source: SourceCase) -> SourceCase:
        """The case that the checks run on."""
        return source


class TransportKit(Kit, suite=TRANSPORT):
    """For a transport: give a fixture named ``transport`` that returns a TransportCase."""

    @pytest.fixture
    def transport(self) -> TransportCase:
        """What a subclass gives."""
        return pytest.fail("a TransportKit needs a fixture named transport that returns a TransportCase")

    @pytest.fixture
    def case(self, transport: TransportCase) -> TransportCase:
        """The case that the checks run on."""
        return transport


class StoreKit(Kit, suite=STORE):
    """For an avatar store: give a fixture named ``store`` that returns a StoreCase."""

    @pytest.fixture
    def store(self) -> StoreCase:
        """What a subclass gives."""
        return pytest.fail("a StoreKit needs a fixture named store that returns a StoreCase")

    @pytest.fixture
    def case(self, store: StoreCase) -> StoreCase:
        """The case that the checks run on."""
        return store


class RendererKit(Kit, suite=RENDERER):
    """For a renderer: give a fixture named ``renderer`` that returns a RendererCase."""

    @pytest.fixture
    def renderer(self) -> RendererCase:
        """What a subclass gives."""
        return pytest.fail("a RendererKit needs a fixture named renderer that returns a RendererCase")

    @pytest.fixture
    def case(self, renderer: RendererCase) -> RendererCase:
        """The case that the checks run on."""
        return renderer


class LauncherKit(Kit, suite=LAUNCHER):
    """For a launcher: give a fixture named ``launcher`` that returns a LauncherCase."""

    @pytest.fixture
    def launcher(self) -> LauncherCase:
        """What a subclass gives."""
        return pytest.fail("a LauncherKit needs a fixture named launcher that returns a LauncherCase")

    @pytest.fixture
    def case(self, launcher: LauncherCase) -> LauncherCase:
        """The case that the checks run on."""
        return launcher


class PackagingKit(Kit, suite=PACKAGING):
    """For an installed distribution: give a fixture named ``package`` that returns a PackagingCase."""

    @pytest.fixture
    def package(self) -> PackagingCase:
        """What a subclass gives."""
        return pytest.fail("a PackagingKit needs a fixture named package that returns a PackagingCase")

    @pytest.fixture
    def case(self, package: PackagingCase) -> PackagingCase:
        """The case that the checks run on."""
        return package
