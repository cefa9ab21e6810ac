"""What the live loop asks of a source: pictures and sound on one clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from avsl.engines.windows import Samples, SoundTimeline
from avsl.realtime.sources.frames import Frame


class Source(Protocol):
    """A camera with a microphone, a stream, a screen: whatever live listens to and looks at.

    A source that fails opens itself again while the session goes on, and says meanwhile what is
    missing.
    """

    name: str
    """What a person calls it, without passwords."""

    @property
    def rate(self) -> int | None:
        """Of its sound as it delivers it, in Hz, once it is open; None: it has none."""
        ...

    @property
    def hears(self) -> bool:
        """Whether sound arrives at the moment, so that waiting for more of it makes sense."""
        ...

    @property
    def taken(self) -> int:
        """Pictures that it has delivered."""
        ...

    @property
    def per_second(self) -> float:
        """And how many of them a second, lately."""
        ...

    @property
    def missing(self) -> list[str]:
        """What is wrong with it now, a line each, which begins with the name of the part."""
        ...

    @property
    def notes(self) -> list[str]:
        """What else a person should know, a few words each."""
        ...

    def open(self) -> None:
        """Opens it, in the main thread.

        Raises:
            UserError: it can't be had.
        """
        ...

    def start(
        self,
        zero: float,
        timeline: SoundTimeline,
        picture: Callable[[Frame], None],
        sound: Callable[[int, Samples], None],
    ) -> None:
        """From now on each picture goes to `picture`, upright, yuv420p, in order, and sound into
        `timeline` (at the rate of that) and to `sound(index, samples)` (at `rate`), all in threads
        of the source's own. Times are seconds since `zero` (`time.monotonic()`), which is the
        moment of sample 0."""
        ...

    def close(self) -> None:
        """Ends its threads. One that hangs in a driver is left behind. To be called once, also
        where `open` has failed."""
        ...


def device_number(name: str) -> int | None:
    """The number that a device is called by; None where it is called by a name. Longer ones than
    there are devices are none, nor are digits like ²."""
    return int(name) if re.fullmatch("[0-9]{1,3}", name) else None
