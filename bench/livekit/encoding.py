"""What a bit rate of the picture buys: how near the received picture is to the sent one, and what encoding it costs.

    python bench/livekit/encoding.py [--rates 500,700,1000,2000] [--codecs vp8] [--seconds 20] [--json FILE]

Publishes Mira's own pictures, drawn before, with the transport's options, and compares every tenth one that a
subscriber decodes with the one sent (the nearest of its neighbours: a receiver may skip one). PSNR of the luma, all of
it and the lower half of the face; the encoder's own account of its time for a frame, beside that of the highest rate.
"""

from __future__ import annotations

import asyncio
import secrets
from fractions import Fraction
from pathlib import Path

import numpy as np
from cpu import ready_pictures, recording
from livekit import rtc
from measuring import Figures, arguments, run
from numpy.typing import NDArray
from visavis.media import VideoFormat
from visavis.testing.livekit.server import LiveKitServer
from visavis_transport_livekit.options import LiveKitTransportOptions, VideoCodec
from visavis_transport_livekit.tracks import video_options

FPS = 25
SETTLED = 5.0
"""Seconds after which the estimate of the line's bandwidth has come up."""
EVERY = 10
MOUTH = (slice(250, 420), slice(150, 362))
Luma = NDArray[np.uint8]


class Subscriber:
    """Keeps the luma of every tenth picture that arrives."""

    def __init__(self) -> None:
        self.lumas: list[Luma] = []
        self._task: asyncio.Task[None] | None = None

    def subscribed(self, track: rtc.Track, *_: object) -> None:
        """A track has come."""
        self._task = asyncio.get_running_loop().create_task(self._watch(track))

    async def _watch(self, track: rtc.Track) -> None:
        number = 0
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.I420):
            frame = event.frame
            number += 1
            if number > SETTLED * FPS and number % EVERY == 0:
                luma = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height]
                self.lumas.append(luma.reshape(frame.height, frame.width).copy())


def psnr(error: NDArray[np.float32]) -> float:
    """Of the difference of two pictures, in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, float(np.mean(error**2)))))


def compare(sent: NDArray[np.uint8], received: list[Luma]) -> tuple[float, float, float]:
    """PSNR in dB: the median, that of the worst twentieth, and the median of the lower half of the face."""
    height = sent.shape[1] * 2 // 3
    small = sent[:, :height:8, ::8].astype(np.int16)
    whole, mouth = [], []
    for luma in received:
        like = int(np.argmin(np.abs(small - luma[::8, ::8].astype(np.int16)).sum((1, 2))))
        near = range(max(0, like - 2), min(len(sent), like + 3))
        errors = [sent[n, :height].astype(np.float32) - luma for n in near]
        error = max(errors, key=psnr)
        whole.append(psnr(error))
        mouth.append(psnr(error[MOUTH]))
    return float(np.median(whole)), float(np.percentile(whole, 5)), float(np.median(mouth))


async def publish(
    livekit: LiveKitServer, pictures: NDArray[np.uint8], codec: VideoCodec, rate: int, seconds: float
) -> Figures:
    """Send and receive pictures for so long."""
    name = f"encoding-{secrets.token_hex(4)}"
    sender, receiver, subscriber = rtc.Room(), rtc.Room(), Subscriber()
    receiver.on("track_subscribed", subscriber.subscribed)
    await receiver.connect(livekit.url, livekit.token("viewer", name))
    await sender.connect(livekit.url, livekit.token("sender", name))
    width, height = pictures.shape[2], pictures.shape[1] * 2 // 3
    source = rtc.VideoSource(width, height)
    track = rtc.LocalVideoTrack.create_video_track("pictures", source)
    options = LiveKitTransportOptions(max_bitrate=rate, video_codec=codec)
    video = VideoFormat(width, height, Fraction(FPS))
    await sender.local_participant.publish_track(track, video_options(options, video))
    loop = asyncio.get_running_loop()
    begin, count = loop.time(), len(pictures)
    for number in range(round(seconds * FPS)):
        await asyncio.sleep(max(0.0, begin + number / FPS - loop.time()))
        turn, at = divmod(number, count)  # forth and back: no cut for the encoder
        picture = pictures[at if turn % 2 == 0 else count - 1 - at]
        source.capture_frame(rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, bytearray(picture.tobytes())))
    rows = [row.outbound_rtp for row in await track.get_stats() if row.WhichOneof("stats") == "outbound_rtp"]
    await sender.disconnect()
    await receiver.disconnect()
    (row,) = rows
    if not subscriber.lumas:
        return {"received": 0}
    median, worst, mouth = compare(pictures, [luma for luma in subscriber.lumas if luma.shape == (height, width)])
    return {
        "kbit/s": round(row.sent.bytes_sent * 8 / 1000 / seconds),
        "PSNR, dB": round(median, 1),
        "of the worst twentieth": round(worst, 1),
        "of the mouth": round(mouth, 1),
        "encoding, ms a frame": round(1000 * row.outbound.total_encode_time / max(1, row.outbound.frames_encoded), 2),
        "encoder": row.outbound.encoder_implementation,
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=20, subjects="")
    parser.add_argument("--rates", default="500,700,1000,2000", help="kbit/s at most; the highest is compared with")
    parser.add_argument("--codecs", default="vp8", help="vp8, h264, vp9, av1")
    asked = parser.parse_args()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        pcm, rate = recording()
        pictures = np.load(await ready_pictures(folder, pcm, rate))
        figures: Figures = {}
        for codec in map(VideoCodec, asked.codecs.split(",")):
            rows = {
                rate: await publish(livekit, pictures, codec, 1000 * rate, SETTLED + asked.seconds)
                for rate in map(int, asked.rates.split(","))
            }
            dearest = rows[max(rows)].get("encoding, ms a frame", 0.0)
            for rate, row in rows.items():
                if dearest and "encoding, ms a frame" in row:
                    row["ratio to the highest rate"] = round(row["encoding, ms a frame"] / dearest, 2)
                figures[f"{codec.value} at {rate} kbit/s"] = row
        return figures

    run(measure, asked.json)


if __name__ == "__main__":
    main()
