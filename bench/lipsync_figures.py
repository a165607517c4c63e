"""What the lip-sync figures must reach: pooled over clips, with a verdict a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Result = Mapping[str, Any]
Results = Mapping[str, Result]  # by clip
Get = Callable[[Result], float | None]


def _of(group: str, name: str) -> Get:
    return lambda r: r[group].get(name)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


GETTERS: Final[dict[str, Get]] = {
    "score": lambda r: r["score"],
    "offset": lambda r: r["offset_ms"],
    "peak": lambda r: r["offset_peak"],
    "recall": _of("at_zero_lag", "closure_recall"),
    "false": _of("at_zero_lag", "closure_false_alarm"),
    "prec": _of("at_zero_lag", "closure_precision"),
    "inform": _of("at_zero_lag", "closure_informedness"),
    "auc": _of("at_zero_lag", "vowel_low_high_auc"),
    "rho": _of("at_zero_lag", "vowel_openness_rho"),
    "width": _of("shape", "width_dprime"),
    "shape": _of("shape", "round_spread_auc"),
    "rest": _of("rest", "rest_p95"),
    "open": _of("rest", "rest_open_share"),
    "hf": _of("smooth", "hf_power_share"),
    "turns": _of("smooth", "reversal_share"),
    "pops": _of("smooth", "pop_share"),
    "same": _of("smooth", "repeated_frame_share"),
}


def _text(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if name == "offset" else f"{value:.1f}" if name == "score" else f"{value:.2f}"


class _Table:
    """One line a clip."""

    head: Final = f"{'driver':8s} {'clip':24s}" + "".join(f"{n:>8s}" for n in GETTERS)

    @staticmethod
    def row(driver: str, clip: str, result: Result) -> str:
        """The figures of one clip."""
        return f"{driver:8s} {clip:24s}" + "".join(f"{_text(get(result), n):>8s}" for n, get in GETTERS.items())


class _Pooled:
    """Means over clips."""

    @staticmethod
    def line(driver: str, results: Results) -> str:
        """All clips of one driver."""
        means = {n: _mean(get(r) for r in results.values()) for n, get in GETTERS.items()}
        return f"{driver:8s} {'mean of ' + str(len(results)):24s}" + "".join(
            f"{_text(v, n):>8s}" for n, v in means.items()
        )


table: Final = _Table()
pooled: Final = _Pooled()


# ------------------------------------------------------------------ what must be reached
@dataclass(frozen=True)
class Wanted:
    """A quantity over the clips of one driver, the range it must lie in, and where it is good."""

    name: str
    value: Callable[[Results], float | None]
    must: tuple[float, float]
    good: tuple[float, float]


def _pool(name: str) -> Callable[[Results], float | None]:
    return lambda results: _mean(GETTERS[name](r) for r in results.values())


def _offsets(results: Results) -> list[float]:
    return [r["offset_ms"] for r in results.values() if r["offset_ms"] is not None]


def _median_offset(results: Results) -> float | None:
    found = _offsets(results)
    return float(np.median(found)) if len(found) * 2 > len(results) else None


def _spread(results: Results) -> float | None:
    found = _offsets(results)
    return float(np.std(found)) if len(found) > 1 else None


def _drift(results: Results) -> float | None:
    return _mean(
        abs(r["offset_halves_ms"][1] - r["offset_halves_ms"][0]) for r in results.values() if r["offset_ms"] is not None
    )


def _worst(results: Results) -> float | None:
    return float(min(r["score"] for r in results.values()))


TOP: Final = float("inf")
ENGLISH: Final = (
    Wanted("offset, median (ms)", _median_offset, (-60, 40), (-25, 25)),
    Wanted("offset, spread (ms)", _spread, (0, 25), (0, 12)),
    Wanted("offset, drift between halves (ms)", _drift, (0, 40), (0, 20)),
    Wanted("offset peak", _pool("peak"), (0.60, TOP), (0.75, TOP)),
    Wanted("closure recall", _pool("recall"), (0.80, TOP), (0.92, TOP)),
    Wanted("closure false alarm", _pool("false"), (0, 0.15), (0, 0.08)),
    Wanted("closure precision", _pool("prec"), (0.60, TOP), (0.80, TOP)),
    Wanted("low/high vowel AUC", _pool("auc"), (0.75, TOP), (0.85, TOP)),
    Wanted("openness rho", _pool("rho"), (0.30, TOP), (0.45, TOP)),
    Wanted("width d'", _pool("width"), (0.5, TOP), (1.5, TOP)),
    Wanted("shape AUC", _pool("shape"), (0.60, TOP), (0.75, TOP)),
    Wanted("rest p95", _pool("rest"), (0, 0.15), (0, 0.06)),
    Wanted("rest, share open", _pool("open"), (0, 0.02), (0, 0)),
    Wanted("power above 8 Hz", _pool("hf"), (0, 0.10), (0, 0.05)),
    Wanted("reversals", _pool("turns"), (0, 0.22), (0, 0.15)),
    Wanted("pops", _pool("pops"), (0, 0.02), (0, 0)),
    Wanted("repeated pictures", _pool("same"), (0, 0.05), (0, 0)),
    Wanted("score, mean", _pool("score"), (86, TOP), (95, TOP)),
    Wanted("score, worst clip", _worst, (70, TOP), (85, TOP)),
)
OTHERS: Final = (
    Wanted("offset, median (ms)", _median_offset, (-60, 40), (-25, 25)),
    Wanted("offset peak", _pool("peak"), (0.50, TOP), (0.65, TOP)),
    Wanted("closure informedness", _pool("inform"), (0.50, TOP), (0.70, TOP)),
    Wanted("rest p95", _pool("rest"), (0, 0.15), (0, 0.06)),
    Wanted("rest, share open", _pool("open"), (0, 0.02), (0, 0)),
)
ABOVE_ENERGY: Final = Wanted("score above energy flapping", lambda r: None, (24, TOP), (30, TOP))
# Phone times that are approximate allow only these figures.
APPROXIMATE: Final = frozenset(("fr", "zh"))


@dataclass(frozen=True)
class Verdict:
    """One line: what was reached, what the oracle reaches, and whether that will do."""

    group: str
    wanted: Wanted
    reached: float | None
    oracle: float | None

    @staticmethod
    def _within(value: float | None, limits: tuple[float, float]) -> bool:
        return value is not None and limits[0] - 1e-9 <= value <= limits[1] + 1e-9

    @property
    def word(self) -> str:
        """good, ok, FAIL; "beyond" where even the oracle fails; "no data"."""
        if self.reached is None:
            return "FAIL" if self._within(self.oracle, self.wanted.must) else "no data"
        if self._within(self.reached, self.wanted.good):
            return "good"
        if self._within(self.reached, self.wanted.must):
            return "ok"
        return "beyond" if self.oracle is not None and not self._within(self.oracle, self.wanted.must) else "FAIL"

    @property
    def fatal(self) -> bool:
        """Whether the bench fails by it."""
        return self.word == "FAIL"

    def __str__(self) -> str:
        low, high = self.wanted.must
        must = f">= {low:g}" if high == TOP else f"<= {high:g}" if low == 0 else f"{low:g}..{high:g}"
        figures = f"{_plain(self.reached):>8s}  oracle {_plain(self.oracle):>7s}  must be {must:10s}"
        return f"{self.group:9s} {self.wanted.name:34s} {figures} {self.word}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def verdicts(results: Mapping[str, Results]) -> list[Verdict]:
    """All lines for visavis, beside the oracle where it was drawn."""
    out: list[Verdict] = []
    groups: tuple[tuple[str, Callable[[Result], bool], tuple[Wanted, ...]], ...] = (
        ("English", lambda r: r["lang"] == "en", ENGLISH),
        ("others", lambda r: r["lang"] != "en", OTHERS),
    )
    for group, belongs, wanted in groups:
        mine = {k: r for k, r in results["visavis"].items() if belongs(r)}
        best = {k: r for k, r in results.get("oracle", {}).items() if belongs(r)}
        if not mine:
            continue
        for w in wanted:
            exact = w.name != "closure informedness"
            use = {k: r for k, r in mine.items() if exact or r["lang"] not in APPROXIMATE}
            ideal = {k: r for k, r in best.items() if k in use}
            out.append(Verdict(group, w, w.value(use) if use else None, w.value(ideal) if ideal else None))
    flapping = {k: r for k, r in results.get("energy", {}).items() if r["lang"] == "en"}
    if flapping:
        english = {k: r for k, r in results["visavis"].items() if r["lang"] == "en"}
        above = (_pool("score")(english) or 0) - (_pool("score")(flapping) or 0)
        drawn = {k: r for k, r in results.get("oracle", {}).items() if r["lang"] == "en"}
        most = (_pool("score")(drawn) or 0) - (_pool("score")(flapping) or 0) if drawn else None
        out.append(Verdict("English", ABOVE_ENERGY, above, most))
    return out
