"""Engines by what a person calls them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from avsl.engines.backends.opening import open_engine
from avsl.engines.both import BothEngine
from avsl.engines.bundle import DEFAULT, DRAWN, Bundle, load_bundle
from avsl.engines.engine import Engine
from avsl.engines.errors import UserError
from avsl.engines.motion.engine import MotionEngine

SHIPPED = {"real": DEFAULT, "drawn": DRAWN}
SMALL = (160, 288)
"""Height and width of the pictures of `small`, which is `real` otherwise: two fifths of the work.
It is no bundle of its own, so not in `SHIPPED`."""


def choose_engine(
    name: str | Path | None = None,
    backend: str = "auto",
    *,
    batch: int = 1,
    prepare: bool = False,
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """`both`, which is the default: the network for real things that ships, and motion beside it;
    `both:NETWORK` with another network; or `motion` or a NETWORK alone: `real`, `small` (the same
    on smaller pictures, for weak machines), `drawn`, or the folder of one.

    How a network runs is `open_engine`'s to choose, which the other arguments go to.

    Args:
        only, ignore: kinds that alone, or that never, are heard. Motion, which can't tell them
            apart, is then left out of `both`.

    Raises:
        UserError: there is no such folder, or it is no engine, or can't be run, or doesn't know
            one of the kinds.
    """
    word, _, _ = str(name or "both").partition(":")
    if word == "motion":
        if backend != "auto":
            raise UserError("--backend: motion has no network to run; leave it out")
        if only or ignore:
            raise UserError(f"{_option(only)}: motion knows no kinds; leave it out")
        return MotionEngine()
    bundle = _load(name)
    both, form = word == "both", "both, motion and a network: {}" if word == "both" else "{}"
    if only or ignore:
        bundle = _hearing(bundle, only, ignore)
        form, both = "{}; without motion, which knows no kinds" if both else "{}", False

    def tell(line: str) -> None:
        say(form.format(line))

    engine = open_engine(bundle, backend, batch=batch, prepare=prepare, say=tell)
    return BothEngine(engine) if both else engine


def kinds_of(name: str | Path | None = None) -> tuple[str, ...]:
    """What an engine, named as for `choose_engine`, knows by name.

    Raises:
        UserError: there is no such engine, or it has no names for things.
    """
    known = () if str(name) == "motion" else _load(name).kinds
    if not known:
        raise UserError(f"{name or 'both'}: knows no kinds by name")
    return known


def _load(name: str | Path | None) -> Bundle:
    """The network in an engine that is no motion alone."""
    named = str(name or "both")
    word, _, network = named.partition(":")
    known = network or "real" if word == "both" else named
    if known != "small":
        return load_bundle(SHIPPED.get(known, known))
    bundle = load_bundle(DEFAULT)
    (h, w), (m, n), (tall, wide) = SMALL, bundle.map_size, bundle.picture_size
    return replace(bundle, name=known, picture_size=SMALL, map_size=(h * m // tall, w * n // wide))


def _hearing(bundle: Bundle, only: Sequence[str], ignore: Sequence[str]) -> Bundle:
    """The bundle, deaf to all that isn't wanted."""
    if not bundle.kinds:
        raise UserError(f"{_option(only)}: {bundle.name} knows no kinds by name; leave it out")
    places = {kind.casefold(): kind for kind in bundle.kinds}

    def known(words: Sequence[str], option: str) -> set[str]:
        for word in words:
            if word.strip().casefold() not in places:
                near = _near(word.strip().casefold(), places)
                like = f"no {word!r}, but {', '.join(near)}" if near else f"no {word!r}"
                raise UserError(
                    f"{option}: {bundle.name} knows {like}; avsl-live --list-kinds shows all"
                )
        return {places[word.strip().casefold()] for word in words}

    wanted = known(only, "--only") or set(bundle.kinds)
    wanted -= known(ignore, "--ignore")
    if not wanted:
        raise UserError(f"{_option(only)}: nothing is left to be heard; leave a kind")
    return replace(bundle, unheard=tuple(kind for kind in bundle.kinds if kind not in wanted))


def _near(word: str, places: dict[str, str]) -> list[str]:
    """Kinds that may have been meant: with that word in them, or spelt much like it."""
    within = [kind for kind in places if word and word in kind]
    return [places[kind] for kind in (within or difflib.get_close_matches(word, places))[:3]]


def _option(only: Sequence[str]) -> str:
    return "--only" if only else "--ignore"
