"""How many sessions this machine holds: a ramp of sessions that talk, watched by real subscribers."""

from visavis.capacity.crowd import Speech
from visavis.capacity.measuring import Findings, Plan, measure_capacity
from visavis.capacity.step import Bounds, Step

__all__ = ["Bounds", "Findings", "Plan", "Speech", "Step", "measure_capacity"]
