"""LiveKit rooms for visavis: the avatar joins, is seen and heard, and keeps its lips on the sound."""

from visavis_transport_livekit.options import LiveKitSessionOptions, LiveKitTransportOptions, VideoCodec

__all__ = ["LiveKitSessionOptions", "LiveKitTransportOptions", "VideoCodec"]
