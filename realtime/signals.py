"""What ends a run from outside: Ctrl-C, `timeout`, `docker stop`, a terminal that is closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[list[int]]:
    """Ctrl-C and its like set `stop`, so that what is done can be completed; a second one does what
    it always does. Yields a list into which the signal's number comes."""
    kept: dict[int, Any] = {}
    came: list[int] = []

    def react(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        stop.set()
        signal.signal(number, kept[number])

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Who starts a program with nohup wants it to outlive the terminal.
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue
        kept[number] = signal.signal(number, react)
    try:
        yield came
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
