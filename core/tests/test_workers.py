"""What a program does once it has loaded everything."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import gc
from visavis.workers import settle
everything = [[] for _ in range(10_000)]
settle()
print(gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_what_is_loaded_is_out_of_the_collectors_way() -> None:
    said = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout
    frozen, watched = map(int, said.split())
    assert frozen > 10_000
    assert watched < 1_000
