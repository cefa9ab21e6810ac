"""Localizations as JSON lines, for other programs: a schema line first, then one per moment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from avsl.engines import EngineSpec, Localization, UserError

SCHEMA = "avsl-events/1"


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
    }


class EventWriter:
    """Writes events to a file (beside first, renamed when closed) or, for `-`, to stdout."""

    def __init__(
        self, target: Path, engine: EngineSpec, source: str, overwrite: bool = False
    ) -> None:
        """Raises UserError where `target` exists already or can't be written."""
        self._target: Path | None = None
        self._file: TextIO = sys.stdout
        if str(target) != "-":
            if target.exists() and not overwrite:
                raise UserError(f"{target}: exists already; --overwrite replaces it")
            self._target = target
            self._beside = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                self._file = self._beside.open("w", encoding="utf-8")
            except OSError as error:
                raise UserError(f"{target}: can't be written; {error.strerror}") from None
        made_by = {"name": engine.name, "version": engine.version}
        self._line({"schema": SCHEMA, "source": source, "engine": made_by})

    def write(self, localization: Localization) -> None:
        """Adds one line."""
        self._line(event(localization))

    def _line(self, content: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(content, separators=(",", ":")) + "\n")
            if self._target is None:
                self._file.flush()  # whoever follows wants it now
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(f"{self._target}: can't be written; {error.strerror}") from None

    def close(self) -> None:
        """Completes the file."""
        if self._target is None:
            return
        try:
            self._file.close()
            self._beside.replace(self._target)
        except OSError as error:
            self.abandon()
            raise UserError(f"{self._target}: can't be written; {error.strerror}") from None

    def abandon(self) -> None:
        """Gives up; nothing stays behind."""
        if self._target is not None:
            self._file.close()
            self._beside.unlink(missing_ok=True)
