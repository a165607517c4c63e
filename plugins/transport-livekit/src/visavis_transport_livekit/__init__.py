"""LiveKit rooms for visavis: the avatar joins, is seen and heard, and keeps its lips on the sound."""
