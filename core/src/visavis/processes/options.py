"""The options of the launcher ``process``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from visavis.component import ComponentConfig


class ProcessOptions(ComponentConfig):
    """How many worker processes there are, and when one is replaced."""

    workers: Annotated[int, Field(ge=1, le=1_024)] | Literal["auto"] = "auto"
    """Worker processes; auto is one for each of ``gpus``, else one for every two processors, two at least."""
    gpus: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    """The GPUs that workers are spread over: each worker sees one of them alone (``CUDA_VISIBLE_DEVICES``)."""
    sessions_per_worker: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = "auto"
    """Sessions that one worker takes on; auto as many as its measured frame times allow."""
    hang_s: float = Field(default=10.0, ge=1, le=600)
    """Seconds without a sign of life, or with one call of the renderer, after which a worker is replaced."""
    recycle_sessions: int | None = Field(default=1_000, ge=1)
    """Sessions after which a worker is replaced, once it is idle; null for never."""
    recycle_growth_mb: float | None = Field(default=1_024.0, gt=0)
    """Megabytes by which a worker's own memory may have grown before it is replaced, once it is idle; null for any."""
    start_timeout_s: float = Field(default=120.0, ge=1, le=3_600)
    """Seconds in which a worker has loaded what is to be warm and is ready."""
