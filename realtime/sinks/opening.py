"""Which sinks a live session's options name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from avsl.engines import EngineSpec, UserError
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.live_options import LiveOptions
from avsl.realtime.sinks.event_stream import EventStream
from avsl.realtime.sinks.events import STDOUT
from avsl.realtime.sinks.recorder import Recorder
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sources.source import Source


def check_sinks(options: LiveOptions, others: int) -> None:
    """
    Args:
        others: how many sinks there are besides.

    Raises:
        UserError: two sinks would have one file, or there is none at all.
    """
    named = [
        (os.path.realpath(path), path, option)
        for option in ("out", "record", "events")
        if (path := getattr(options, option)) and (option != "events" or str(path) not in STDOUT)
    ]
    for (place, path, option), (other, _, second) in itertools.combinations(named, 2):
        if place == other:
            raise UserError(f"{path}: --{option} and --{second} need two files")
    if not (options.window or options.out or options.record or options.events or others):
        raise UserError("without a window nothing would come out; add -o, --record or --events")


def sinks_of(options: LiveOptions, engine: EngineSpec, source: Source) -> Iterator[Sink]:
    """The sinks but the window, each opened when it is asked for.

    Raises:
        UserError: one can't be had.
    """
    again = options.overwrite
    if options.record:
        yield Recorder(options.record, source.rate, overwrite=again)
    if options.out:
        draw = Overlay(engine.thresholds).draw
        yield Recorder(options.out, source.rate, draw, overwrite=again)
    if options.events:
        yield EventStream(options.events, engine, source.name, again)
