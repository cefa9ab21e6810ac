"""What the live loop asks of a sink: somewhere that pictures, sound, or what is found go."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from avsl.engines.localization import Localization
from avsl.engines.windows import Samples
from avsl.realtime.drawing.canvas import Tinted
from avsl.realtime.sources.frames import Frame


class Sink(Protocol):
    """A window, a recording, events: a sink takes what it wants of the session and leaves the rest.

    `captured`, `heard` and `localized` are called from the session's threads and never wait: what a
    sink can't take at once goes into a bounded queue of its own, or is dropped.
    """

    def captured(self, frame: Frame) -> None:
        """Each picture as it was captured, in the source's thread. Others use it, too."""
        return None

    def heard(self, index: int, samples: Samples) -> None:
        """Sound whose first sample is number `index` on the session's clock, at the source's rate,
        in the source's thread."""
        return None

    def localized(
        self, frame: Frame, localization: Localization, tinted: Tinted | None = None
    ) -> None:
        """A picture and what was found in it, in the worker's thread; `tinted` as for
        `Overlay.draw`."""
        return None

    def turn(self) -> None:
        """Called in the main thread whenever something is new, and every 20 ms."""
        return None

    @property
    def missing(self) -> str | None:
        """What is wrong with it now, in a line that begins with its name."""
        return None

    @property
    def note(self) -> str | None:
        """What a person should know of it while it runs, in a few words."""
        return None

    @property
    def file(self) -> Path | None:
        """The file that it makes, if there is to be one."""
        return None

    def close(self) -> None:
        """Completes what it has begun.

        Raises:
            UserError: it couldn't be.
        """
        return None
