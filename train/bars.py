"""Progress bars by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is, and how much there is."""


@contextmanager
def bars() -> Iterator[Progress]:
    """On a terminal, a bar for each thing."""
    console = Console(stderr=True)
    with rich.progress.Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as shown:
        tasks: dict[str, rich.progress.TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done)

        yield progress
