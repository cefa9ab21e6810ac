"""What all tests need of the process that they run in."""

from __future__ import annotations

import os
import signal

import pytest

# A shell starts what runs in the background with Ctrl-C ignored, and all that it starts inherits
# that. The tests of Ctrl-C are about programs that a person has started.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads that wait for each other spin, for minutes where others use the cores, too. For what the
# tests start, as well; before anything is imported that reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trainings first: of several processes, none is to wait for another's at the end."""
    items.sort(key=lambda item: item.path.parent.name != "train")
