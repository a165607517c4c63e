"""Write the trained network as motion.onnx (one hop of sound and a flat state in, coefficients and state out).

    export.py CHECKPOINT OUT.onnx

Verifies against PyTorch: hop by hop equals the whole clip, batch rows are independent, silence is rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from network import Face, Motion, eased, most_change, pairs
from sizes import FORGET, FRAME, HOP, LEVEL_FALL, LEVEL_MIN, MELS, PRIOR, SHIFT, STEM, WIDTH
from torch import Tensor, nn

FRAMES = HOP // SHIFT  # feature frames a hop
TAIL = FRAME - SHIFT


class Stream(nn.Module):
    """One hop: pcm [B, 640], state [B, S] (zeros at the start) -> expression [B, 1, 52], state [B, S]."""

    def __init__(self, net: Motion, face: Face) -> None:
        super().__init__()
        self.net, self.face = net, face
        caches = [2 * block.dilation * WIDTH for block in net.blocks]
        self.sizes = [TAIL, 1, MELS + 1, (STEM - 2) * (MELS + 1), 52, *caches]
        self.register_buffer("reach", most_change())
        i = torch.arange(FRAMES)
        decay = torch.where(i[:, None] >= i[None], FORGET ** (i[:, None] - i[None]).clamp(min=0).float(), 0.0)
        self.register_buffer("decay", decay)
        self.register_buffer("fade", FORGET ** (i[:, None] + 1.0))

    @property
    def size(self) -> int:
        """Length S of the state."""
        return sum(self.sizes)

    def forward(self, pcm: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        net = self.net
        tail, level, sums, past, before, *caches = torch.split(state, self.sizes, 1)
        sound = torch.cat([tail, pcm], 1)
        frames = torch.stack([sound[:, k * SHIFT : k * SHIFT + FRAME] for k in range(FRAMES)], 1)
        power = net.spectrum(frames)
        loud = net.loudness(power)
        levels, last = [], level + LEVEL_MIN
        for k in range(FRAMES):
            last = torch.clamp(torch.maximum(loud[:, k], last - LEVEL_FALL), min=LEVEL_MIN)
            levels.append(last)
        logs, rel, w = net.relative(power, torch.stack(levels, 1))
        new = torch.cat([w * (logs - net.average), w], 2)
        run = torch.matmul(self.decay, new) + self.fade * sums[:, None]
        mean = run[..., :MELS] / (run[..., MELS:] + PRIOR)
        features = torch.cat([(logs - net.average - mean) * 0.5, rel * 0.5 + 1.0], 2)
        features = torch.cat([past.reshape(-1, STEM - 2, MELS + 1), features], 1)
        pasts = [c.reshape(-1, 2 * block.dilation, WIDTH) for c, block in zip(caches, net.blocks, strict=True)]
        raw, news = net.steps(features, pasts)
        face = eased(before, self.face(raw), self.reach)
        kept = [sound[:, HOP:], last - LEVEL_MIN, run[:, -1], features[:, FRAMES:].flatten(1), face, *(n.flatten(1) for n in news)]
        return face[:, None], torch.cat(kept, 1)


def ease_all(wanted: Tensor) -> Tensor:
    """Coefficients of whole clips [B, N, 52] at the speed of flesh."""
    reach, out = most_change(), [torch.zeros_like(wanted[:, 0])]
    for k in range(wanted.shape[1]):
        out.append(eased(out[-1], wanted[:, k], reach))
    return torch.stack(out[1:], 1)


def offline(net: Motion, face: Face, pcm: Tensor) -> Tensor:
    """Coefficients [B, N, 52] of whole clips [B, 640 N]: what the stream must give."""
    return ease_all(face(pairs(net(net.features(pcm)))))


def load(checkpoint: Path) -> Motion:
    """The averaged weights of a checkpoint."""
    net = Motion()
    net.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    return net.eval()


def write(stream: Stream, path: Path) -> None:
    """torch -> ONNX, opset 17, float32, batch dynamic."""
    pcm, state = torch.zeros(2, HOP), torch.zeros(2, stream.size)
    torch.onnx.export(
        stream,
        (pcm, state),
        str(path),
        opset_version=17,
        input_names=["pcm", "state"],
        output_names=["expression", "state_out"],
        dynamic_axes={name: {0: "B"} for name in ("pcm", "state", "expression", "state_out")},
        dynamo=False,
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def run(session: ort.InferenceSession, pcm: np.ndarray, size: int) -> np.ndarray:
    """Coefficients [B, N, 52] hop by hop."""
    state, out = np.zeros((len(pcm), size), np.float32), []
    for k in range(pcm.shape[1] // HOP):
        y, state = session.run(["expression", "state_out"], {"pcm": pcm[:, k * HOP : (k + 1) * HOP], "state": state})
        out.append(y)
    return np.concatenate(out, 1)


def open_session(path: Path) -> ort.InferenceSession:
    """ONNX Runtime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def verify(stream: Stream, path: Path) -> None:
    """Print and assert that the file does what the network does."""
    session, size = open_session(path), stream.size
    rng = np.random.default_rng(0)
    t = np.arange(HOP * 150) / 16000
    pcm = np.stack([0.2 * np.sin(2 * np.pi * 180 * t) * (np.sin(7 * t) > 0), rng.normal(0, 0.05, len(t)) * (t > 1), 0 * t]).astype(np.float32)
    with torch.no_grad():
        whole = offline(stream.net, stream.face, torch.from_numpy(pcm)).numpy()
    hops = run(session, pcm, size)
    alone = np.concatenate([run(session, p[None], size) for p in pcm])
    print("stream against whole clip", np.abs(hops - whole).max(), "row alone against batch", np.abs(hops - alone).max())
    print("silence", np.abs(hops[2]).max(), "state", size, "bytes", path.stat().st_size)
    assert np.abs(hops - whole).max() < 1e-4
    assert np.abs(hops - alone).max() < 1e-4
    x, s = pcm[:1, :HOP], np.zeros((1, size), np.float32)
    times = []
    for _ in range(300):
        began = time.perf_counter()
        session.run(None, {"pcm": x, "state": s})
        times.append(time.perf_counter() - began)
    print(f"one call: median {1e3 * np.median(times):.2f} ms, best {1e3 * min(times):.2f} ms")


def main() -> None:
    """Export and verify."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    o = parser.parse_args()
    torch.set_num_threads(1)
    stream = Stream(load(o.checkpoint), Face()).eval()
    new = o.out.with_suffix(".new")
    write(stream, new)
    verify(stream, new)
    new.rename(o.out)


if __name__ == "__main__":
    main()
