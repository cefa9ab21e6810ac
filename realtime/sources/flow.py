"""What the live threads hand over, and how often: the newest item only, and rates."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """One slot that always holds the newest item; a slow reader skips, the writer never waits.

    Items are numbered from 1 on; each reader keeps the number that it saw last, and what lies
    between two numbers is what it skipped.
    """

    def __init__(self) -> None:
        self._item: T | None = None
        self._number = 0
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        with self._changed:
            self._item = item
            self._number += 1
            self._changed.notify_all()

    @property
    def latest(self) -> T | None:
        """The item; None before the first."""
        return self._item

    def after(self, seen: int, timeout: float) -> tuple[int, T | None]:
        """Number and item newer than number `seen`; waits for one up to `timeout` seconds, then
        returns `seen` and None."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._number > seen, timeout):
                return seen, None
            return self._number, self._item


class Rate:
    """Events per second, over the last two seconds."""

    SPAN_S = 2.0

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def tick(self) -> None:
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > self.SPAN_S:
            self._times.popleft()

    @property
    def per_second(self) -> float:
        """0 when nothing has happened for a while."""
        times = list(self._times)
        if len(times) < 2 or time.monotonic() - times[-1] > self.SPAN_S:
            return 0.0
        return (len(times) - 1) / (times[-1] - times[0])
