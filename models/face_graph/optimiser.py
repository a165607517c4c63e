"""Momentum whose matrices are made nearly orthogonal (Muon, after K. Jordan 2024) beside Adam for everything else.

A face network is small, its training is short and far from over-fitted: what counts is progress a minute. Measured on
this network, orthogonal steps for convolutions and perceptron gain 1.6 dB over Adam at the same number of steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """A matrix with the singular vectors of `matrix` and singular values near 1 (Newton-Schulz, quintic)."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


INNER = ("convs.", "widen.weight", "perceptron.0.weight", "perceptron.2.weight")


class Steps:
    """Both optimisers as one. `share` (0..1) scales both learning rates; `inner` are parts of the matrices' names."""

    def __init__(
        self, module: nn.Module, adam: float = 5e-3, ortho: float = 2e-2, inner: tuple[str, ...] = INNER
    ) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        self.matrices = [p for n, p in named if p.ndim >= 2 and any(part in n for part in inner)]
        chosen = {id(p) for p in self.matrices}
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.Adam([p for _, p in named if id(p) not in chosen], adam, betas=(0.9, 0.99))
        self.rates = adam, ortho

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step from the gradients, which are then cleared."""
        for group in self.adam.param_groups:
            group["lr"] = self.rates[0] * share
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        for weight, momentum in zip(self.matrices, self.momenta, strict=True):
            if weight.grad is None:
                continue
            momentum.mul_(0.95).add_(weight.grad)
            move = orthogonal((weight.grad + 0.95 * momentum).reshape(weight.shape[0], -1))
            scale = max(1.0, move.shape[0] / move.shape[1]) ** 0.5
            weight.add_(move.view_as(weight), alpha=-self.rates[1] * share * scale)
            weight.grad = None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.adam.load_state_dict(state["adam"])
        for mine, saved in zip(self.momenta, state["momenta"], strict=True):
            mine.copy_(saved)
