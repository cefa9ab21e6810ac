"""Engines by what a person calls them."""

from __future__ import annotations

from pathlib import Path

from avsl.engines.both import BothEngine
from avsl.engines.bundle import DEFAULT
from avsl.engines.engine import Engine, open_engine
from avsl.engines.motion import MotionEngine


def choose_engine(name: str | Path | None = None) -> Engine:
    """`motion`; `both`, which is the network that ships and motion, or `both:FOLDER` with a network
    of one's own; or the folder of a network. By default the network that ships.

    Raises:
        UserError: there is no such folder, or it is no engine.
    """
    word, _, folder = str(name or DEFAULT).partition(":")
    if word == "motion":
        return MotionEngine()
    if word == "both":
        return BothEngine(open_engine(folder or DEFAULT))
    return open_engine(name or DEFAULT)
