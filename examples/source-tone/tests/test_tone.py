import pytest
from visavis.testing import SourceCase, SourceKit
from visavis_example_source_tone import ToneOptions, ToneSource


class TestTone(SourceKit):
    @pytest.fixture
    def source(self) -> SourceCase:
        return SourceCase(make=lambda: ToneSource(ToneOptions(seconds=0.5)))
