"""From speech to paired frames: slice, render, present; who may speak; who shares a step.

``slicer`` cuts a segment's sound into frames, ``segment`` and ``floor`` say whose turn it is, ``drawing`` runs the
renderer with its look-ahead, ``batcher`` lets sessions share a step, ``playhead`` counts what was really played,
and ``pipeline`` is the task group that connects them.
"""
