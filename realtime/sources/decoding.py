"""Decoding packets of files that may be damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av.error


@dataclass
class Faults:
    """What could not be decoded on the way, counted."""

    packets: int = 0

    def note(self) -> str | None:
        """One line about it, if there is something to say."""
        if not self.packets:
            return None
        return f"{self.packets} damaged packets skipped"


def decoded(packet: Any, faults: Faults) -> list[Any]:
    """The frames that a packet brings out of its decoder; none where it is damaged, which is
    counted."""
    try:
        return list(packet.decode())
    except (av.error.FFmpegError, ValueError):
        faults.packets += 1
        return []
