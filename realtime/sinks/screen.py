"""The window as a sink: the newest picture with the newest map, figures, and what the keys do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from avsl.realtime.sources.opencv import cv2  # before everything that imports av

# isort: split
from avsl.engines import Localization, Thresholds
from avsl.realtime.drawing.canvas import Tinted
from avsl.realtime.drawing.view import Figures, View
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sinks.window import ESCAPE, Window
from avsl.realtime.sources.flow import Newest
from avsl.realtime.sources.frames import Frame

MAP_LASTS_S = 0.5
"""A map older than this is not drawn on the newest picture any more."""
REFRESH_S = 0.25
"""How often the view is drawn anew while no picture comes."""

Shown = tuple[Frame, Localization | None]


class Shows(Protocol):
    """The session, as its window knows it."""

    def age_ms(self, frame: Frame) -> float:
        """Since it was captured."""

    def figures(self, age_ms: float) -> Figures: ...

    def missing(self) -> list[str]:
        """What is wrong at the moment, a line each."""

    def shown(self, age_ms: float) -> None:
        """Is told of each picture that is shown, how old it was then."""

    def quit(self) -> None: ...

    def toggle_recording(self) -> None: ...

    def new_file(self, suffix: str) -> Path:
        """A name for what a key makes."""

    def say(self, line: str) -> None: ...


class Screen(Sink):
    """Shows a session in a window. With `in_step` the picture that the newest map was made from,
    otherwise the newest one.

    Raises:
        UserError: there can be no window.
    """

    def __init__(self, session: Shows, thresholds: Thresholds, in_step: bool) -> None:
        self._session = session
        self._in_step = in_step
        self._view = View(thresholds)
        self._window = Window()
        self._frames: Newest[Frame] = Newest()
        self._pairs: Newest[tuple[Frame, Localization]] = Newest()
        self._seen, self._drawn = 0, 0.0
        self._shown: Shown | None = None
        self._age_ms = 0.0  # smoothed

    def captured(self, frame: Frame) -> None:
        self._frames.put(frame)

    def localized(
        self, frame: Frame, localization: Localization, tinted: Tinted | None = None
    ) -> None:
        self._pairs.put((frame, localization))

    def turn(self) -> None:
        session, view, window = self._session, self._view, self._window
        self._seen, newest = self._newest()
        fresh = newest is not None and not view.frozen
        if fresh:
            self._shown = newest
        shown = self._shown
        if shown and (fresh or time.monotonic() - self._drawn > REFRESH_S):
            old = max(self._age_ms, session.age_ms(shown[0]))  # more where no picture comes
            key = window.show(view.render(*shown, session.figures(old), session.missing()))
            self._drawn = time.monotonic()
            if fresh:
                age = session.age_ms(shown[0])
                session.shown(age)
                self._age_ms += (age - self._age_ms) / 10
        else:
            key = window.key()
        if key in ("q", ESCAPE) or (self._drawn and window.closed):
            session.quit()
        elif key == "r":
            session.toggle_recording()
        elif key == "s" and shown:
            self._save(view.draw(*shown))
        elif key:
            view.react(key)

    def _newest(self) -> tuple[int, Shown | None]:
        """What to show next, if there is something newer than number `_seen`."""
        if self._in_step:
            return self._pairs.after(self._seen, timeout=0)
        number, frame = self._frames.after(self._seen, timeout=0)
        if frame is None:
            return number, None
        pair = self._pairs.latest
        fits = pair is not None and frame.time - pair[0].time < MAP_LASTS_S
        return number, (frame, pair[1] if pair and fits else None)

    def _save(self, picture: Any) -> None:
        path = self._session.new_file(".png")
        try:
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        except OSError as fault:
            self._session.say(f"{path}: can't be written; {fault.strerror}")
        else:
            self._session.say(f"wrote {path}")

    def close(self) -> None:
        self._window.close()
