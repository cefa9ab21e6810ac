"""Engines by what a person calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from avsl.engines.backends.opening import open_engine
from avsl.engines.both import BothEngine
from avsl.engines.bundle import DEFAULT, DRAWN
from avsl.engines.engine import Engine
from avsl.engines.errors import UserError
from avsl.engines.motion.engine import MotionEngine

SHIPPED = {"real": DEFAULT, "drawn": DRAWN}


def choose_engine(
    name: str | Path | None = None,
    backend: str = "auto",
    *,
    batch: int = 1,
    prepare: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """`both`, which is the default: the network for real things that ships, and motion beside it;
    `both:NETWORK` with another network; or `motion` or a NETWORK alone: `real`, `drawn`, or the
    folder of one.

    How a network runs is `open_engine`'s to choose, which the other arguments go to.

    Raises:
        UserError: there is no such folder, or it is no engine, or can't be run.
    """
    named = str(name or "both")
    word, _, network = named.partition(":")
    if word == "motion":
        if backend != "auto":
            raise UserError("--backend: motion has no network to run; leave it out")
        return MotionEngine()
    known = network or "real" if word == "both" else named
    folder = SHIPPED.get(known, known)

    def of_both(line: str) -> None:
        say(f"both, motion and a network: {line}")

    tell = of_both if word == "both" else say
    engine = open_engine(folder, backend, batch=batch, prepare=prepare, say=tell)
    return BothEngine(engine) if word == "both" else engine
