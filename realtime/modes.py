"""The ways to run `avsl-live`, and which options each has: one that doesn't apply is refused."""

from __future__ import annotations

from collections.abc import Collection

from avsl.engines.errors import UserError

FILMS = "films"
ENGINE = ("engine", "backend")
KINDS = ("only", "ignore")
SINKS = ("out", "events", "overwrite")
OPTIONS = {
    "list_devices": (),
    "list_kinds": ("engine",),
    "camera": (
        *ENGINE, *KINDS, *SINKS,
        "microphone", "record", "in_step", "av_offset", "no_window", "duration",
    ),
    "demo": (*ENGINE, *SINKS, "every"),
    "verify": (*ENGINE, "out", "overwrite", "files"),
    FILMS: (*ENGINE, *KINDS, *SINKS, "every", "sound_track", "files"),
}  # fmt: skip
"""What each way knows, by the names of the command's parameters; all but films are named by an
option of their own."""


def mode_of(given: Collection[str]) -> str:
    """Which way to run is meant by the parameters that were `given`.

    Raises:
        UserError: two ways, or something that the one has no use for.
    """
    first, *others = [mode for mode in OPTIONS if mode in given] or [FILMS]
    if others:
        raise UserError(f"{_option(first)} and {_option(others[0])} don't go together; {LEAVE}")
    if first == FILMS and "files" not in given:
        raise UserError("no FILE and no --camera given; avsl-live --help shows both")
    for name in given:
        if name == first or name in OPTIONS[first]:
            continue
        if name == "files":
            raise UserError(f"files and {_option(first)} don't go together; {LEAVE}")
        knowing = " and ".join(_option(mode) for mode in OPTIONS if name in OPTIONS[mode])
        raise UserError(f"{_option(name)} is for {knowing}, not for {_option(first)}; leave it out")
    return first


LEAVE = "leave out one"


def _option(name: str) -> str:
    return name if name == FILMS else f"--{name.replace('_', '-')}"
