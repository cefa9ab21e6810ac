"""Follow the events from another program: says when something begins or ends to sound.

avsl-live film.mp4 -o out.mp4 --events - | python demos/examples/follow_events.py
avsl-live --camera 0 --events - | python demos/examples/follow_events.py
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

SCHEMA = "avsl-events/1"
STATES = ("silent", "unseen", "unsure", "sounding")


class NoEvents(Exception):
    """What is read is something else."""


def events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Reads event lines, the one with the schema first.

    Raises:
        NoEvents: these are none.
    """
    try:
        lines = iter(lines)
        if json.loads(next(lines, "{}"))["schema"] != SCHEMA:
            raise NoEvents
        yield from map(json.loads, lines)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NoEvents from None


def follow(lines: Iterable[str]) -> None:
    """Prints a line at each change of state."""
    state = None
    for event in events(lines):
        try:
            time, now = float(event["time"]), STATES[STATES.index(event["state"])]
            kinds = event.get("kinds") or [""] * len(event["peaks"])  # of engines that know names
            where = ", ".join(
                f"{kind} {100 * x:.0f} % from the left".strip()
                for kind, (x, _, _) in zip(kinds, event["peaks"], strict=True)
            )
        except (ValueError, TypeError, KeyError):
            raise NoEvents from None
        if now != state:
            print(f"{time:8.2f} s  {now}  {where}".rstrip(), flush=True)
        state = now


if __name__ == "__main__":
    try:
        follow(sys.stdin)
    except NoEvents:
        what = f"stdin: these are not {SCHEMA} events; start me behind avsl-live"
        print(f"error: {what}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Python would complain once more when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("error: stdout: whoever read it has gone", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
