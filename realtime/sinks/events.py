"""Localizations for other programs: as JSON lines, a schema line first, then one per moment; or,
where the file is named so, as who spoke when."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any, Protocol, TextIO

from avsl.engines import EngineSpec, Localization, UserError
from avsl.engines.engine import knows_voices
from avsl.realtime.sinks.talk import LINES, Talk

SCHEMA = "avsl-events/1"
STDOUT = ("-", "/dev/stdout")
READER_S = 5.0
"""So long is waited for somebody to read from a named pipe."""
STREAM = os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)


def event(localization: Localization) -> dict[str, Any]:
    """A localization as it stands in a line: coordinates in 0..1 of the upright picture."""
    return {
        "time": round(localization.time, 6),
        "level_db": round(localization.level_db, 1),
        "state": localization.state,
        "score": round(localization.score, 4),
        "peaks": [[round(v, 4) for v in peak] for peak in localization.peaks],
        "boxes": [[round(v, 4) for v in box] for box in localization.boxes],
        "evidence": list(localization.evidence),
        "kinds": list(localization.kinds),
        "heard": [[kind, round(p, 4)] for kind, p in localization.heard],
        "tracks": [
            {
                "person": track.person,
                "box": [round(v, 4) for v in track.box],
                "speaking": None if track.speaking is None else round(track.speaking, 4),
            }
            for track in localization.tracks
        ],
    }


class Format(Protocol):
    """What is written of a stream, as text."""

    head: str
    """What comes first."""

    def add(self, localization: Localization) -> str:
        """What there is to write at a moment."""

    def end(self) -> str:
        """What comes last."""


class JsonLines:
    """A line for each moment."""

    def __init__(self, engine: EngineSpec, source: str) -> None:
        made_by = {"name": engine.name, "version": engine.version}
        self.head = _line({"schema": SCHEMA, "source": source, "engine": made_by})

    def add(self, localization: Localization) -> str:
        return _line(event(localization))

    def end(self) -> str:
        return ""


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"


def check_events(target: Path, engine: EngineSpec) -> None:
    """Raises UserError where `target` is to hold who spoke when, which an engine doesn't know."""
    if target.suffix.lower() in LINES and not knows_voices(engine):
        raise UserError(
            f"{target}: {engine.name} hears no voices, so who speaks isn't known; take another "
            "engine, or write .jsonl"
        )


class EventWriter:
    """Writes events to stdout (`-`), into what is there and no regular file (a named pipe, a
    device), or to a file: beside first and renamed when closed, or in place where somebody is to
    follow it.

    A reader that goes away ends nothing: `problem` says so, and no more is written.
    """

    def __init__(
        self,
        target: Path,
        engine: EngineSpec,
        source: str,
        overwrite: bool = False,
        follow: bool = False,
    ) -> None:
        """With `follow` each line can be read at once, and stays where the program is killed.

        Raises:
            UserError: `target` is a file that exists already, a pipe that nobody reads, or can't be
                written; or as in `check_events`.
        """
        check_events(target, engine)
        line = LINES.get(target.suffix.lower())
        self._format: Format = Talk(line, source) if line else JsonLines(engine, source)
        self.problem: str | None = None
        """Why nothing is written any more, though no error has been raised."""
        self._name = "stdout" if str(target) in STDOUT else str(target)
        self._place: Path | None = None  # where the file goes that is now beside it
        try:
            self._file = self._open(target, overwrite, follow)
        except OSError as error:
            raise UserError(f"{target}: can't be written; {error.strerror}") from None
        self._put(self._format.head)

    def _open(self, target: Path, overwrite: bool, follow: bool) -> TextIO:
        if self._name == "stdout":
            return _open_stdout()
        # Through a symlink: what it points to is written, and it stays one.
        place = Path(os.path.realpath(target))
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and not stat.S_ISREG(mode):
            return _open_stream(target, stat.S_ISFIFO(mode))
        if mode is not None and not overwrite:
            raise UserError(f"{target}: exists already; --overwrite replaces it")
        if follow:
            return place.open("w", encoding="utf-8")
        self._beside = place.with_name(f".{place.name}.{os.getpid()}.part")
        self._place = place
        return self._beside.open("w", encoding="utf-8")

    def write(self, localization: Localization) -> None:
        """Adds one moment.

        Raises:
            UserError: it can't be written.
        """
        self._put(self._format.add(localization))

    def _put(self, text: str) -> None:
        if self.problem or not text:
            return
        try:
            self._file.write(text)
            if self._place is None:
                self._file.flush()  # whoever follows wants it now
        except BrokenPipeError:
            self.problem = "the reader has gone"
            self._drop()
        except OSError as error:
            self.abandon()
            raise UserError(f"{self._name}: can't be written; {error.strerror}") from None

    def close(self) -> None:
        """Completes the file.

        Raises:
            UserError: it can't be written.
        """
        self._put(self._format.end())
        if self._file is sys.stdout or self.problem:
            return
        try:
            self._file.close()
            if self._place:
                self._beside.replace(self._place)
        except BrokenPipeError:
            self.problem = "the reader has gone"
        except OSError as error:
            self.abandon()
            raise UserError(f"{self._name}: can't be written; {error.strerror}") from None

    def abandon(self) -> None:
        """Gives up; of a file that was to appear when it is whole, nothing stays behind."""
        self._drop()
        if self._place:
            self._beside.unlink(missing_ok=True)

    def _drop(self) -> None:
        """Closes without a word of what can't be written any more."""
        with contextlib.suppress(OSError):
            if self._file is not sys.stdout:
                self._file.close()


def _open_stdout() -> TextIO:
    """A way of our own to where stdout goes: of what it is given nothing is left in Python's, which
    would wait at the end for a reader that hangs."""
    if sys.stdout is None:
        raise UserError("--events -: stdout is closed; name a file")
    sys.stdout.flush()
    try:
        number = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # a notebook's, which is no file
        return sys.stdout
    return os.fdopen(number, "w", encoding="utf-8")


def _open_stream(path: Path, pipe: bool) -> TextIO:
    """A device, or a named pipe as soon as somebody reads it; opening one would else wait for that
    for ever."""
    late = time.monotonic() + READER_S
    while True:
        try:
            number = os.open(path, STREAM)
            break
        except OSError as error:
            if not pipe or error.errno != errno.ENXIO:
                raise
        if time.monotonic() > late:
            raise UserError(f"{path}: nobody reads from this pipe; start its reader first")
        time.sleep(0.05)
    os.set_blocking(number, True)
    return os.fdopen(number, "w", encoding="utf-8")
