"""Speech from LiveKit data streams for visavis: anyone in the room streams PCM, the avatar says it."""
