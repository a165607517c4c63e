"""Speech from LiveKit data streams for visavis: anyone in the room streams PCM, the avatar says it."""

from visavis_source_datastream.options import DataStreamOptions, DataStreamSessionOptions

__all__ = ["DataStreamOptions", "DataStreamSessionOptions"]
