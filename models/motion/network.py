"""The motion network: sound to face coefficients, causal, with all its history in one flat state.

Sound features (log mel of fixed DFT kernels, level and channel taken out by running averages) at 100 Hz,
a causal dilated network at 50 Hz, one picture (25 Hz) a hop of 640 samples. `Motion.forward` hears a whole
clip (training); `Stream` steps hop by hop with a flat state (export). Both compute the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
import visemes
from sizes import DILATIONS, FLOOR, FORGET, FRAME, LABELS, LEVEL_FALL, LEVEL_MIN, MELS, OUTPUTS, PRIOR, RANGE, SHIFT, STEM, WIDTH
from torch import Tensor, nn


def mel_matrix(warp: float = 1.0) -> np.ndarray:
    """[201, MELS] triangles over the power spectrum; `warp` > 1 moves formants up (a shorter vocal tract)."""
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    edges = 700 * (10 ** (np.linspace(mel(70), mel(7400), MELS + 2) / 2595) - 1)
    # the top of the band stays where it is: only what lies under 4.8 kHz is stretched in full
    knee = 4800 * min(1.0, 1 / warp)
    edges = np.where(edges <= knee, edges / warp, 8000 - (8000 - knee / warp) / (8000 - knee) * (8000 - edges))
    fine = np.arange(0, 8000, 5.0) + 2.5
    tri = np.clip(
        np.minimum((fine[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - fine[:, None]) / (edges[2:] - edges[1:-1])), 0, None
    )
    bins = np.minimum(np.round(fine / 40).astype(int), 200)
    out = np.zeros((201, MELS))
    np.add.at(out, bins, tri)
    return (out / out.sum(0)).astype(np.float32)


def dft_matrix() -> np.ndarray:
    """[400, 402]: Hann window times cosines and sines; a full-scale sine has a power of about 1/4 in its bin."""
    n = np.arange(FRAME)
    window = np.hanning(FRAME + 1)[:-1]
    angle = 2 * np.pi * np.outer(n, np.arange(201)) / FRAME
    return (np.concatenate([np.cos(angle), np.sin(angle)], 1) * (window / window.sum())[:, None]).astype(np.float32)


class Block(nn.Module):
    """Norm, three dilated taps, SiLU, mix, residual."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(WIDTH)
        self.taps = nn.Linear(3 * WIDTH, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, C] -> the same, and the inputs that the next call needs [B, 2 d, C]."""
        d, steps = self.dilation, x.shape[1]
        h = self.norm(x)
        h = F.pad(h, (0, 0, 2 * d, 0)) if past is None else torch.cat([past, h], 1)
        taps = torch.cat([h[:, :steps], h[:, d : d + steps], h[:, 2 * d : 2 * d + steps]], 2)
        return x + self.mix(F.silu(self.taps(taps))), h[:, steps:]


class Motion(nn.Module):
    """Features in, viseme dominance and gates out, at 50 Hz."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(STEM * (MELS + 1), WIDTH)
        self.blocks = nn.ModuleList(Block(d) for d in DILATIONS)
        self.norm = nn.LayerNorm(WIDTH)
        self.hidden = nn.Linear(WIDTH, 128)
        self.head = nn.Linear(128, OUTPUTS)
        self.register_buffer("dft", torch.from_numpy(dft_matrix()))
        self.register_buffer("window", self.dft[:, 0].clone(), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_matrix()))
        self.register_buffer("average", torch.full((MELS,), -2.0))  # mean log mel under the level, set before training
        for block in self.blocks:
            nn.init.normal_(block.mix.weight, std=0.3 / math.sqrt(WIDTH))

    # ------------------------------------------------------------------ features
    def spectrum(self, frames: Tensor) -> Tensor:
        """Frames [B, N, 400] -> mel power [B, N, MELS]."""
        s = frames @ self.dft
        return (s[..., :201] ** 2 + s[..., 201:] ** 2) @ self.mel

    def relative(self, power: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mel power and running level [B, N, 1] -> log under the level [B, N, MELS], loudness, weight as speech."""
        loud = self.loudness(power)
        logs = torch.log(power + FLOOR) - level
        logs = F.softplus(logs + RANGE, beta=2.0) - RANGE
        rel = torch.clamp(loud - level, -RANGE, 2.0)
        return logs, rel, torch.sigmoid((rel + 3.0) * 2.0)

    @staticmethod
    def loudness(power: Tensor) -> Tensor:
        """Natural log of the mean power [B, N, 1]."""
        return torch.log(power.mean(-1, keepdim=True) + FLOOR)

    def features(self, pcm: Tensor, mel: Tensor | None = None) -> Tensor:
        """A clip [B, samples] -> features [B, samples / 160, MELS + 1]."""
        frames = F.pad(pcm, (FRAME - SHIFT, 0)).unfold(1, FRAME, SHIFT)
        # the same as `spectrum`, which is for a graph without an FFT, but quicker
        s = torch.fft.rfft(frames * self.window)
        power = (s.real**2 + s.imag**2) @ (self.mel if mel is None else mel)
        loud, n = self.loudness(power), power.shape[1]
        t = torch.arange(n, dtype=pcm.dtype)[None, :, None] * LEVEL_FALL
        level = torch.cummax(loud + t, 1).values - t
        level = torch.clamp(level, min=LEVEL_MIN)
        logs, rel, w = self.relative(power, level)
        i = torch.arange(n)
        decay = torch.where(i[:, None] >= i[None], FORGET ** (i[:, None] - i[None]).clamp(min=0).to(pcm.dtype), 0.0)
        sums = torch.einsum("ts,bsc->btc", decay, torch.cat([w * (logs - self.average), w], 2))
        mean = sums[..., :-1] / (sums[..., -1:] + PRIOR)
        return torch.cat([(logs - self.average - mean) * 0.5, rel * 0.5 + 1.0], 2)

    # ------------------------------------------------------------------ network
    def steps(self, features: Tensor, pasts: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Features [B, 2 N (+ past), 57] -> raw outputs [B, N, OUTPUTS] and the caches of the blocks."""
        count = (features.shape[1] - (STEM - 2)) // 2
        x = torch.cat([features[:, k : k + 2 * count : 2] for k in range(STEM)], 2)
        x = self.stem(x)
        news = []
        for k, block in enumerate(self.blocks):
            x, new = block(x, None if pasts is None else pasts[k])
            news.append(new)
        return self.head(F.silu(self.hidden(F.silu(self.norm(x))))), news

    def forward(self, features: Tensor) -> Tensor:
        """Features of a whole clip [B, 2 N, 57] -> raw outputs [B, N, OUTPUTS] at 50 Hz."""
        return self.steps(F.pad(features, (0, 0, STEM - 2, 0)))[0]


def smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    """0 under `low`, 1 over `high`, smooth between."""
    t = torch.clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


class Face(nn.Module):
    """Raw outputs -> ARKit-52 coefficients: a mixture of viseme poses, then the lips that must touch."""

    def __init__(self, sharpen: float = 1.3, shut: tuple[float, float] = (0.5, 0.85), bite: tuple[float, float] = (0.35, 0.75), rest: tuple[float, float] = (0.55, 0.9)) -> None:
        super().__init__()
        self.sharpen, self.shut, self.bite, self.rest = sharpen, shut, bite, rest
        poses = torch.from_numpy(visemes.POSES.copy())
        brow = torch.from_numpy(visemes.pose(browInnerUp=1.0, browOuterUp=0.8))
        blink = torch.from_numpy(visemes.pose(eyeBlink=1.0))
        keep = torch.zeros(52)
        for name in ("mouthPucker", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"):
            keep[visemes.INDEX[name]] = 0.4
        for name, value in (("poses", poses), ("browpose", brow), ("blinkpose", blink), ("keep", keep)):
            self.register_buffer(name, value)

    def forward(self, raw: Tensor) -> Tensor:
        """Raw outputs of the two steps of each picture [..., 2, OUTPUTS] -> [..., 52], each 0..1.

        Shares and gates are averaged over the two steps, which keeps what is faster than pictures can show out of them.
        """
        share = torch.softmax(raw[..., :LABELS] * self.sharpen, -1).mean(-2)
        gates = torch.sigmoid(raw[..., LABELS : LABELS + 2])
        shut = smoothstep(gates[..., :1], *self.shut).mean(-2)
        bite = 0.85 * smoothstep(gates[..., 1:], *self.bite).mean(-2)
        mood = raw[..., LABELS + 2 :].mean(-2)
        awake = 1.0 - smoothstep(share[..., :1], *self.rest)
        track = share @ self.poses
        track = track * (1 - bite) + self.poses[visemes.ROW["fv"]] * bite
        closed = self.poses[visemes.ROW["pbm"]] + self.keep * track
        track = (track * (1 - shut) + closed * shut) * awake
        brow = torch.clamp(mood[..., :1], 0.0, 1.0) * awake
        blink = smoothstep(mood[..., 1:], 0.25, 0.75)
        return torch.clamp(track + brow * self.browpose + blink * self.blinkpose, 0.0, 1.0)


# How far a coefficient may go in one picture (40 ms): a jaw takes three pictures from shut lips to a wide a.
OPENING, CLOSING = 0.27, 0.40
REACH = {
    "jawOpen": 0.6,
    "mouthLowerDownLeft": 0.3,
    "mouthLowerDownRight": 0.3,
    "mouthUpperUpLeft": 0.22,
    "mouthUpperUpRight": 0.22,
    "mouthFunnel": 0.5,
}


def most_change() -> Tensor:
    """[52]: the reach of each coefficient that opens the mouth; the others are as good as free."""
    out = torch.full((52,), 100.0)
    for name, reach in REACH.items():
        out[visemes.INDEX[name]] = reach
    return out


def eased(before: Tensor, wanted: Tensor, reach: Tensor) -> Tensor:
    """The next picture's coefficients [B, 52], from the last one's towards what is wanted, as fast as flesh can."""
    return before + torch.clamp(wanted - before, -CLOSING * reach, OPENING * reach)


def pairs(raw: Tensor) -> Tensor:
    """[B, 2 N, OUTPUTS] -> [B, N, 2, OUTPUTS]: the two steps of each picture."""
    return raw.unflatten(1, (raw.shape[1] // 2, 2))
