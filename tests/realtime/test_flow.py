"""What the live threads hand over: the newest item only."""

from __future__ import annotations

import threading
import time

import pytest

from avsl.realtime.sources.flow import Newest, Rate


def test_a_reader_gets_the_newest_and_can_count_what_it_skipped() -> None:
    slot: Newest[str] = Newest()
    assert slot.after(0, timeout=0) == (0, None)
    for item in "abc":
        slot.put(item)
    seen, item = slot.after(0, timeout=0)
    assert (seen, item, slot.latest) == (3, "c", "c")
    assert slot.after(seen, timeout=0) == (3, None)
    assert slot.after(1, timeout=0) == (3, "c")  # each reader has its own number


def test_a_waiting_reader_is_woken() -> None:
    slot: Newest[int] = Newest()
    threading.Timer(0.1, slot.put, (7,)).start()
    assert slot.after(0, timeout=10) == (1, 7)


def test_a_rate_counts_gaps_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rate = Rate()
    assert rate.per_second == 0
    for k in range(90):
        now = 100 + k / 30
        rate.tick()
    assert rate.per_second == pytest.approx(30)
    now += 3
    assert rate.per_second == 0
