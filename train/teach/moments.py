"""Moments of real film, with boxes by eye, that an engine of kinds is calibrated on.

A folder of film holds film.json: a list of clips, each with a `file`, a `group`, its `source`s and
`moments` of {t, state: visible or none, boxes, confidence}. Clips are dealt out to two halves by
their sources, so that no film is in both: half A is calibrated on, B is left to report.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avsl.engines import Resizer, UserError
from avsl.engines.bundle import EngineSpec
from avsl.train.teach.teachers import RATE

SLACK = 0.025
"""Half a cell around a box still counts as in it, as in the scoring of film."""


@dataclass(frozen=True)
class Moment:
    """A picture `[h, w, 3]` and the second of sound before it; the boxes `[N, 4]` (0..1) of what
    sounds, none if nothing in view does."""

    clip: str
    picture: NDArray[np.uint8]
    samples: NDArray[np.float32]
    boxes: NDArray[np.float32]
    alone: bool = True
    """Whether nothing outside the boxes may glow: where people are in view that are silent while
    another speaks, telling them apart is not the networks' to learn."""


def film_moments(folder: Path, half: str, shaped: EngineSpec) -> list[Moment]:
    """The moments of one half (A or B) of a folder of film, pictures of the shape that `shaped`
    takes of them.

    Raises:
        UserError: there is no film.json, or it can't be read.
    """
    try:
        clips = json.loads((folder / "film.json").read_text("utf-8"))
        sides = halves(clips)
        return [
            moment
            for clip in clips
            if "".join(sorted({sides[source] for source in clip["source"]})) == half
            for moment in _moments(folder, clip, shaped)
        ]
    except (OSError, ValueError, KeyError, TypeError, av.FFmpegError) as error:
        raise UserError(f"{folder}/film.json: not a list of film clips ({error})") from None


def halves(clips: list[dict[str, Any]]) -> dict[str, str]:
    """A or B for each source: dealt out in turn within each group."""
    side: dict[str, str] = {}
    dealt: Counter[str] = Counter()

    def order(clip: dict[str, Any]) -> tuple[bool, bytes]:
        return clip["composed"], hashlib.sha256(clip["file"].encode()).digest()

    for clip in sorted(clips, key=order):
        for source in clip["source"]:
            if source not in side:
                side[source] = "AB"[dealt[clip["group"]] % 2]
                dealt[clip["group"]] += 1
    return side


def _moments(folder: Path, clip: dict[str, Any], shaped: EngineSpec) -> list[Moment]:
    path = folder / clip["file"]
    wanted = [m for m in clip["moments"] if m["confidence"] != "low"]
    frames: list[tuple[float, av.VideoFrame]] = []
    blocks: list[NDArray[np.float32]] = []
    begins = None
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            if any(abs(frame.time - m["t"]) < 0.1 for m in wanted):
                frames.append((frame.time, frame))
    with av.open(str(path)) as container:
        for block in container.decode(audio=0) if container.streams.audio else []:
            begins = block.time if begins is None else begins
            blocks += [out.to_ndarray()[0] for out in resampler.resample(block)]
    sound = np.concatenate([np.zeros(0, np.float32), *blocks])
    found = []
    for m in wanted:
        time, frame = min(frames, key=lambda pair: abs(pair[0] - m["t"]))
        end = shaped.window.end(time - (begins or 0.0))
        samples = np.zeros(RATE, np.float32)
        heard = sound[max(0, end - RATE) : max(0, end)]
        samples[RATE - len(heard) :] = heard
        picture = Resizer(shaped.fitted(frame.height, frame.width).picture_size)(frame)
        boxes = np.array(m["boxes"], np.float32).reshape(-1, 4)
        if clip["group"] != "other_voice":
            alone = clip["group"] != "two_or_more"
            found.append(Moment(clip["file"], picture, samples, boxes, alone))
    return found
