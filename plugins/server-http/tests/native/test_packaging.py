"""What is true of every plugin's distribution."""

from __future__ import annotations

import pytest
from visavis.testing import PackagingKit
from visavis.testing.packaging import PackagingCase


class TestPackaging(PackagingKit):
    @pytest.fixture
    def case(self) -> PackagingCase:
        return PackagingCase("visavis-server-http")
