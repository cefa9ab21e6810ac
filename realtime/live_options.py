"""What a live session is asked for, and what it did."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from avsl.engines.errors import UserError

MOST_OFFSET_MS = 2000.0


@dataclass(frozen=True)
class LiveOptions:
    """What a live session is asked for.

    Raises:
        UserError: a number is out of its bounds.
    """

    camera: str = "0"
    microphone: str | None = None
    """Number or part of a name; None is the system's default one, "none" is none."""
    size: tuple[int, int] = (1280, 720)
    """Width and height that the camera is asked for."""
    fps: float = 30.0
    engine: str | None = None
    backend: str = "auto"
    """What runs the engine; see `open_engine`."""
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    """Kinds that alone, or that never, are heard; see `choose_engine`."""
    out: Path | None = None
    """File for the pictures with overlay, and the sound."""
    record: Path | None = None
    """File for pictures and sound as captured."""
    events: Path | None = None
    """File for the localizations; `-` is stdout."""
    overwrite: bool = False
    in_step: bool = False
    """Show the picture that the newest map was made from. Otherwise the newest picture is shown
    with the newest map: it never waits for the engine, so on a slow computer it stays smooth and
    fresh, and only the glow trails behind what moves (by one picture where the engine keeps up)."""
    av_offset_ms: float = 0.0
    """How much later than the picture the sound arrives; negative: the picture is late."""
    window: bool = True
    duration: float = math.inf
    """Seconds after which the session ends by itself."""

    def __post_init__(self) -> None:
        if not abs(self.av_offset_ms) <= MOST_OFFSET_MS:  # nan is not, either
            raise UserError(
                f"--av-offset {self.av_offset_ms:g}: from -{MOST_OFFSET_MS:.0f} to "
                f"{MOST_OFFSET_MS:.0f} milliseconds"
            )
        if not self.duration > 0:
            raise UserError(f"--duration {self.duration:g}: more than 0 seconds")

    @property
    def late_s(self) -> float:
        """How many seconds a picture waits for a sound that is known to come late."""
        return max(0.0, self.av_offset_ms) / 1000


@dataclass
class LiveReport:
    """What a live session did."""

    seconds: float = 0.0
    pictures: int = 0
    localized: int = 0
    skipped: int = 0
    """Pictures that a newer one overtook before they were localized."""
    cpu_seconds: float = 0.0
    """Of all cores, once everything is open."""
    files: list[Path] = field(default_factory=list)
    ages_ms: deque[float] = field(default_factory=lambda: deque(maxlen=18_000))
    """From capture to shown, for the pictures shown in the last ten minutes."""

    @property
    def line(self) -> str:
        return (
            f"{self.seconds:.0f} s: {self.pictures} pictures, {self.localized} localized "
            f"({self.localized / max(self.seconds, 1e-3):.1f}/s), {self.skipped} skipped"
            + "".join(f"; wrote {path}" for path in self.files)
        )
