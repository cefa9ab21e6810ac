"""Does an engine listen? The same pictures with other sounds: the map must follow the sound."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avsl.demos.scenes import Scene, make_scene
from avsl.demos.scenes.voices import noise
from avsl.engines import (
    Engine,
    Localization,
    Localizer,
    Resizer,
    SoundTimeline,
    Thresholds,
    UserError,
)
from avsl.engines.engine import speakers_for
from avsl.engines.errors import visible
from avsl.engines.localization import Map
from avsl.realtime.drawing.canvas import Canvas
from avsl.realtime.drawing.lettering import text
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.sources.film_sound import Sound
from avsl.realtime.sources.video_file import open_video

STATES = ("sounding", "unsure", "unseen", "silent")
LONGEST_S = 30.0
"""More than this of a file says nothing new."""
LEFT = 0.5
"""An engine that listens leaves less than this of the light, given another sound."""
SHOWN = 4
WIDTH = 320
BAND = 26


@dataclass
class Hearing:
    """What the engine says of the pictures with one sound."""

    name: str
    found: list[Localization] = field(default_factory=list)

    @property
    def glow(self) -> float:
        """Share of the picture over p = 0.5, on average."""
        return float(np.mean([np.mean(found.map > 0.5) for found in self.found]))

    @property
    def states(self) -> Counter[str]:
        return Counter(localization.state for localization in self.found)

    def light(self, own: Hearing) -> float:
        """How much light is left where the own sound lights: 1 as much as with it, 0 none.

        Over the cells that are at least half as likely as the best one with the own sound, on the
        pictures that `_pairs` names; not a number where there are none.
        """
        left = whole = 0.0
        for here, there in self._pairs(own):
            place = there >= there.max() / 2
            left += float(here[place].sum())
            whole += float(there[place].sum())
        return left / whole if whole else math.nan

    def moved(self, own: Hearing) -> float:
        """How far the maps are from those with the own sound: 0 the same, 1 nothing in common.

        sum |a - b| / sum max(a, b), on the pictures that `_pairs` names; not a number where there
        are none.
        """
        pairs = self._pairs(own)
        if not pairs:
            return math.nan
        far = sum(float(np.abs(a - b).sum()) for a, b in pairs)
        return far / sum(float(np.maximum(a, b).sum()) for a, b in pairs)

    def _pairs(self, own: Hearing) -> list[tuple[Map, Map]]:
        """Maps with this sound and with the own one, where the own one makes something glow and
        this one is not silent, for there the map is empty whatever the engine would say."""
        return [
            (here.map, there.map)
            for here, there in zip(self.found, own.found, strict=True)
            if there.state == "sounding" and here.state != "silent"
        ]


@dataclass
class Verdict:
    """The four hearings of a file, and what they say of the engine."""

    hearings: list[Hearing]
    strip: Path

    @property
    def listens(self) -> bool | None:
        """Whether another sound, and noise, light less of what the own sound lights; None where
        that can't be said: nothing glows with the own sound, or the other sound is silent whenever
        something does. That another sound lights something else besides is not enough."""
        own, _, noise_, other = self.hearings
        left = other.light(own)
        if math.isnan(left):
            return None
        dark = noise_.glow < max(0.003, 0.2 * own.glow)
        return dark and not noise_.light(own) >= LEFT and left < LEFT


class _Noise:
    """A timeline of noise beside that of a file, as loud as the file's sound is on the whole. It
    doesn't follow it moment by moment: an engine that goes by what moves with the sound would
    rightly take it for the same."""

    def __init__(self, source: Path, beside: SoundTimeline) -> None:
        self._beside = beside
        self._index: int | None = None
        self.timeline = SoundTimeline(beside.rate, 4.0)
        whole = Sound(source, beside.rate, LONGEST_S)
        heard = whole.listen(LONGEST_S)
        whole.close()
        samples = heard.read(heard.end, round(LONGEST_S * beside.rate))
        count = max(1, int(np.count_nonzero(samples)))
        self._level = np.float32(np.sqrt(float(np.square(samples).sum()) / count))

    def listen(self) -> SoundTimeline:
        end = self._beside.end
        start = end if self._index is None else self._index
        if end > start:
            self.timeline.write(start, noise((7,), start, end - start, 0.5) * self._level)
        self._index = end
        return self.timeline


def verify(source: Path, other: Path | None, engine: Engine, strip: Path) -> Verdict:
    """Localizes the first half minute of `source` with its own sound, with silence, with noise as
    loud, and with the sound of `other` (else of a drawn scene); writes the picture strip `strip`.

    Raises:
        UserError: a file can't be read, or `strip` is not the name of a PNG or can't be written.
    """
    if strip.suffix.lower() != ".png":
        raise UserError(f"{strip}: the pictures of --verify are written as PNG; name a .png file")
    window = engine.spec.window
    video = open_video(source)
    sound = Sound(source, window.rate, 4.0)
    stranger = Sound(other, window.rate, 4.0) if other else None
    drawn = SoundTimeline(window.rate, 4.0)
    scene = make_scene(11, 1, kind="one")
    silent = SoundTimeline(window.rate, 1.0)
    noisy = _Noise(source, sound.timeline)
    names = ("own sound", "silence", "noise", "other sound")
    hearings = [Hearing(name) for name in names]
    engine = engine.for_pictures(video.height, video.width)
    first = speakers_for(engine.spec)
    others = [speakers_for(engine.spec, first) for _ in names[1:3]]
    # The other sound has its own clock.
    speakers = [first, *others, speakers_for(engine.spec)]
    localizers = [Localizer(engine, those) for those in speakers]
    resize = Resizer(engine.spec.picture_size)
    seconds = min(video.seconds or LONGEST_S, LONGEST_S)
    shown = _Strip(seconds, engine.spec.thresholds)
    start: float | None = None
    try:
        for frame in video.frames():
            start = frame.time if start is None else start
            if frame.time - start > LONGEST_S:
                break
            heard = sound.listen(frame.time)
            since = frame.time - start  # the other sound begins with the first picture
            if stranger:
                heard_other = stranger.listen(since)
            else:
                _play(scene, drawn, since)
                heard_other = drawn
            picture = resize(frame.picture)
            now = frame.time
            heard_at = ((now, heard), (now, silent), (now, noisy.listen()), (since, heard_other))
            for those, (time, timeline) in zip(speakers, heard_at, strict=True):
                if those:
                    those.watch(time, frame.picture, timeline)
            moment = [
                localize(time, picture, timeline)
                for localize, (time, timeline) in zip(localizers, heard_at, strict=True)
            ]
            for hearing, localization in zip(hearings, moment, strict=True):
                hearing.found.append(localization)
            shown.offer(since, frame.picture, moment)
    finally:
        video.close()
        sound.close()
        if stranger:
            stranger.close()
    shown.write(strip, names)
    return Verdict(hearings, strip)


def _play(scene: Scene, timeline: SoundTimeline, until: float) -> None:
    """Writes a scene's sound up to `until`."""
    start = timeline.end / timeline.rate if timeline.end else until - 1.0
    if until > start:
        samples = scene.sound(start, until - start, timeline.rate)
        timeline.write(round(start * timeline.rate), samples)


class _Strip:
    """Some of the pictures, a row each, with each of the sounds, a column each."""

    def __init__(self, seconds: float, thresholds: Thresholds) -> None:
        self._times = [(i + 0.5) * seconds / SHOWN for i in range(SHOWN)]
        self._thresholds = thresholds
        self._rows: list[list[NDArray[np.uint8]]] = []
        self._last: tuple[av.VideoFrame, list[Localization]] | None = None
        self._reformatter = VideoReformatter()

    def offer(self, time: float, picture: av.VideoFrame, moment: list[Localization]) -> None:
        """Takes the picture if its time has come."""
        self._last = picture, moment
        if not self._times or time + 0.05 < self._times[0]:
            return
        self._times.pop(0)
        self._add(picture, moment)

    def _add(self, picture: av.VideoFrame, moment: list[Localization]) -> None:
        height = max(2, round(picture.height * WIDTH / picture.width / 2) * 2)
        row = []
        for localization in moment:
            small = self._reformatter.reformat(picture, WIDTH, min(height, 2 * WIDTH), "rgb24")
            small.make_writable()
            # One of its own each: it would show what glowed with the sound in the next column.
            Overlay(self._thresholds).draw(small, localization)
            row.append(small.to_ndarray().astype(np.uint8, copy=False))
        self._rows.append(row)

    def write(self, path: Path, names: tuple[str, ...]) -> None:
        """Writes all rows under a line with the names, as PNG, beside `path` first."""
        if not self._rows and self._last:  # a file that is shorter than it says
            self._add(*self._last)
        body = np.concatenate([np.concatenate(row, axis=1) for row in self._rows], axis=0)
        whole = np.concatenate([np.zeros((BAND, body.shape[1], 3), np.uint8), body])
        frame = av.VideoFrame.from_ndarray(whole, format="rgb24")
        canvas = Canvas(frame)
        for column, name in enumerate(names):
            canvas.stamp(text(name, 16), column * WIDTH + 8, 5, (255, 255, 255))
        write_png(path, frame)


def write_png(path: Path, frame: av.VideoFrame) -> None:
    """Writes an `rgb24` picture as PNG, beside first.

    Raises:
        UserError: it can't be written there.
    """
    codec = av.CodecContext.create("png", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height = frame.width, frame.height
    codec.pix_fmt, codec.framerate = "rgb24", 1  # type: ignore[assignment]
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(b"".join(bytes(packet) for packet in codec.encode(frame)))
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UserError(f"{path}: can't be written; {error.strerror}") from None


def tell(verdict: Verdict) -> None:
    """Prints what was found, as a table and a sentence."""
    own, _, noise_, other = verdict.hearings
    left = _percent(other.light(own))
    table = Table("sound", "light left", "map changed", "lit", *STATES)
    for hearing in verdict.hearings:
        count = len(hearing.found)
        states = hearing.states
        shares = [hearing.light(own), hearing.moved(own)]
        table.add_row(
            escape(visible(hearing.name)),
            *("-" if hearing is own else _percent(share) for share in shares),
            f"{100 * hearing.glow:.2f} %",
            *(f"{100 * states[state] / count:.0f} %" for state in STATES),
        )
    Console().print(table)
    print(
        "light left: how much of what the own sound lights is lit by this one. map changed: 0 %\n"
        "as with the own sound, 100 % nothing in common. lit: how much of the picture glows. The\n"
        "rest: on how many pictures. Silence and noise should light nothing."
    )
    if verdict.listens is None and own.states["sounding"]:
        say = "Can't say: the other sound is silent where something glows; name an OTHER file."
    elif verdict.listens is None:
        say = "Can't say: with the file's own sound nothing glows; the engine knows none of it."
    elif verdict.listens:
        say = f"The engine listens: another sound leaves {left} of the light."
    else:
        say = (
            f"The engine does not listen here: another sound leaves {left} of the light, noise "
            f"{_percent(noise_.light(own))}; where OTHER has the same kind of sound, name another."
        )
    print(f"{say}\n{visible(str(verdict.strip))}: some of the pictures, a column for each sound")


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"
