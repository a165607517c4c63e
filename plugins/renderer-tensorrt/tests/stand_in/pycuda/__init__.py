"""Stands in for PyCUDA, which takes a CUDA toolkit to install: its names and argument orders, on the processor."""
