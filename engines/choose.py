"""Engines by what a person calls them."""

from __future__ import annotations

from pathlib import Path

from avsl.engines.both import BothEngine
from avsl.engines.bundle import DEFAULT, DRAWN
from avsl.engines.engine import Engine, open_engine
from avsl.engines.motion import MotionEngine

SHIPPED = {"real": DEFAULT, "drawn": DRAWN}


def choose_engine(name: str | Path | None = None) -> Engine:
    """`both`, which is the default: the network for real things that ships, and motion beside it;
    `both:NETWORK` with another network; or `motion` or a NETWORK alone: `real`, `drawn`, or the
    folder of one.

    Raises:
        UserError: there is no such folder, or it is no engine.
    """
    named = str(name or "both")
    word, _, network = named.partition(":")
    if word == "motion":
        return MotionEngine()
    if word == "both":
        return BothEngine(open_engine(SHIPPED.get(network or "real", network)))
    return open_engine(SHIPPED.get(named, named))
