"""Follow the events from another program: says when something begins or ends to sound.

avsl-live film.mp4 -o out.mp4 --events - | python demos/examples/follow_events.py
avsl-live --camera 0 --events - | python demos/examples/follow_events.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

SCHEMA = "avsl-events/1"


def follow(lines: Iterable[str]) -> None:
    """Reads event lines and prints a line at each change of state."""
    lines = iter(lines)
    first = json.loads(next(lines, "{}"))
    if first.get("schema") != SCHEMA:
        sys.exit(f"error: stdin: these are not {SCHEMA} events; start me behind avsl-live")
    state = None
    for line in lines:
        event = json.loads(line)
        if event["state"] == state:
            continue
        state = event["state"]
        where = ", ".join(f"{100 * x:.0f} % from the left" for x, _, _ in event["peaks"])
        print(f"{event['time']:8.2f} s  {state}  {where}".rstrip(), flush=True)


if __name__ == "__main__":
    follow(sys.stdin)
