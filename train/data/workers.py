"""Work on many clips by a process per core, and what any worker process begins with."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from avsl.engines import UserError

BLOCK = 512
"""Clips under way at once: what bounds the memory that packing takes."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of each item, in order, by a process per core.

    Raises:
        UserError: a process was killed.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else None)
    pool = ProcessPoolExecutor(os.cpu_count(), context, live_with_parent)
    waiting = iter(items)
    try:
        while block := list(islice(waiting, BLOCK)):
            yield from pool.map(work, block, chunksize=8)
    except BrokenProcessPool:
        raise UserError("a process that reads clips was killed; is there memory left?") from None
    finally:
        pool.shutdown(cancel_futures=True)


def live_with_parent(worker: int = 0) -> None:
    """What a worker process begins with: it leaves Ctrl-C to its parent, and ends with it even if
    that is killed, where it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What came along with the fork is the parent's to free: a resizer of PyAV's that is collected
    # here would wait for ever for threads that did not come along.
    gc.freeze()
    end_with_parent()


def end_with_parent() -> None:
    """A worker process that calls this ends when its parent does, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
