"""Events written live: a queue of its own, so that a slow reader never slows the worker."""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path

from avsl.engines import EngineSpec, Localization, UserError
from avsl.realtime.drawing.canvas import Tinted
from avsl.realtime.sinks.events import EventWriter
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sources.frames import Frame

WAITING = 256
"""Events that a reader may be behind before they are dropped for it."""


class EventStream(Sink):
    """Writes localizations to `target` (`-` is stdout) in a thread of its own, as `EventWriter`
    does.

    Raises:
        UserError: `target` exists already or can't be written, or the engine can't give it.
    """

    def __init__(self, target: Path, engine: EngineSpec, source: str, overwrite: bool) -> None:
        self.dropped = 0
        self._fault: UserError | None = None
        self._writer = EventWriter(target, engine, source, overwrite, follow=True)
        self._queue: queue.Queue[Localization | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def localized(
        self, frame: Frame, localization: Localization, tinted: Tinted | None = None
    ) -> None:
        try:
            self._queue.put_nowait(localization)
        except queue.Full:
            self.dropped += 1

    @property
    def missing(self) -> str | None:
        if self._fault:
            return f"events: {self._fault}"
        if self._writer.problem:
            return f"events: {self._writer.problem}"
        return "events: the reader can't keep up, some are left out" if self.dropped else None

    def close(self) -> None:
        """Writes what waits and completes the file; a reader that hangs is left behind.

        Raises:
            UserError: the file couldn't be written.
        """
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=0.2)
            self._thread.join(0.5)
        if self._fault:
            raise self._fault
        if not self._thread.is_alive():
            self._writer.close()

    def _run(self) -> None:
        try:
            while (localization := self._queue.get()) is not None:
                self._writer.write(localization)
        except UserError as error:
            self._fault = error
