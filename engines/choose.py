"""Engines by what a person calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from avsl.engines.backends import open_engine
from avsl.engines.both import BothEngine
from avsl.engines.bundle import DEFAULT
from avsl.engines.engine import Engine
from avsl.engines.errors import UserError
from avsl.engines.motion import MotionEngine


def choose_engine(
    name: str | Path | None = None,
    backend: str = "auto",
    *,
    batch: int = 1,
    prepare: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """`motion`; `both`, which is the network that ships and motion, or `both:FOLDER` with a network
    of one's own; or the folder of a network. By default the network that ships.

    How a network runs is `open_engine`'s to choose, which the other arguments go to.

    Raises:
        UserError: there is no such folder, or it is no engine, or can't be run.
    """
    word, _, folder = str(name or DEFAULT).partition(":")
    if word == "motion":
        if backend != "auto":
            raise UserError("--backend: motion has no network to run; leave it out")
        return MotionEngine()
    network = folder or DEFAULT if word == "both" else name or DEFAULT
    engine = open_engine(network, backend, batch=batch, prepare=prepare, say=say)
    return BothEngine(engine) if word == "both" else engine
