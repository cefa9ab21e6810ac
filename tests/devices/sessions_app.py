"""Live sessions one after the other in one process, as a robot runs them: `python sessions_app.py
COUNT`. After each a line: how many threads and descriptors the process has, its MB, and how many
pictures were localized."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fake_engine import FakeEngine

from avsl.realtime.live import LiveOptions, run_live  # imports cv2 before av

SELF = Path("/proc/self")
ENGINE = FakeEngine()


def megabytes() -> int:
    """What is in memory."""
    line = next(x for x in (SELF / "status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) >> 10


for number in range(int(sys.argv[1])):
    report = run_live(
        LiveOptions(
            window=False, size=(640, 480), duration=0.7, events=Path(f"{number}.jsonl"),
            out=Path(f"{number}.mp4"), record=Path(f"{number}.mkv"),
        ),
        ENGINE,
    )  # fmt: skip
    time.sleep(0.2)  # a thread that has ended is in /proc for a moment longer
    counts = (len([*(SELF / folder).iterdir()]) for folder in ("task", "fd"))
    print(*counts, megabytes(), report.localized, flush=True)
