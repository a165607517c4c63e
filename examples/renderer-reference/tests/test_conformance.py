"""The example is packaged as every plugin must be."""

from __future__ import annotations

import pytest
from visavis.testing import PackagingCase, PackagingKit


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-example-renderer-reference")
