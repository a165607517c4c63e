"""The motion network's numbers, which need no torch to be read."""

from __future__ import annotations

import visemes

RATE, HOP, FRAME, SHIFT = 16000, 640, 400, 160
MELS = 56
WIDTH = 168
DILATIONS = (1, 2, 4, 8, 16, 1, 2, 4)
STEM = 6  # feature frames a step of the stem sees (two of them new)
LOOK_AHEAD = 1920  # samples
# A step n (20 ms each) has heard 20 (n + 1) ms of sound and describes the mouth this much earlier (seconds).
BEHIND = 0.150
LABELS = len(visemes.NAMES)
EXTRA = ("shut", "bite", "brow", "blink")
OUTPUTS = LABELS + len(EXTRA)

FLOOR = 1e-10
LEVEL_MIN = -15.0  # natural log of power: under this, sound is silence whatever the spectrum
LEVEL_FALL = 0.0046  # natural log a feature frame: 2 dB a second
RANGE = 8.0
FORGET = 0.995
PRIOR = 40.0
