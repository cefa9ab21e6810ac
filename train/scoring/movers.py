"""How well an engine finds what moves with the sound: on animated scenes, under conditions that
real cameras and microphones bring, beside baselines that take no account of the sound or little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import av
import numpy as np

from avsl.demos.scenes import RATE, Cast
from avsl.demos.scenes.movers import SECONDS, MovingScene, make_moving_scene
from avsl.engines import Localizer, Resizer, SoundTimeline, choose_engine
from avsl.engines.localization import Map
from avsl.engines.motion.engine import LAGS, MEMORY, MotionMaps
from avsl.train.data.workers import in_parallel
from avsl.train.scoring.evaluate import Tally
from avsl.train.scoring.metrics import in_box, map_peak

SEED = 2_000_000
SIZE = (180, 320)
FPS = 25
SETTLED_S = 1.5
"""After a sound starts, what is found counts from here on."""
SLACK = 0.025
"""A peak is the middle of a cell; one that touches the box is in it."""


@dataclass(frozen=True)
class Condition:
    """How the scenes are, and how picture and sound arrive."""

    name: str
    scene: dict[str, Any] = field(default_factory=dict)
    late_s: float = 0.0
    """How much later than the picture the sound comes."""
    fps: int = FPS
    dropped: float = 0.0
    """Share of pictures that never arrive."""
    shuffled: bool = False
    """Whether the sound is that of another scene."""


PHOTOGRAPHED = (
    Condition("what sounds moves with it"),
    Condition("and the camera shakes", {"shake": 0.006, "flicker": 0.03}),
    Condition("three, what sounds keeps still", {"count": 3, "still": True}),
    Condition("another scene's sound", shuffled=True),
    Condition("sound from out of view", {"outside": True}),
)
"""Of scenes of a cast of photographs."""
SHAKY = {"count": 3, "shake": 0.006, "flicker": 0.03}
CONDITIONS = (
    Condition("two movers"),
    Condition("three, camera shakes, light flickers", SHAKY),
    Condition("two, sound 0.2 s late", late_s=0.2),
    Condition("two, sound 0.2 s early", late_s=-0.2),
    Condition("two, 12 pictures a second", fps=12),
    Condition("two, 30 % of pictures dropped", dropped=0.3),
    Condition("two, another scene's sound", shuffled=True),
    Condition("two, sound from out of view", {"outside": True}),
    Condition("three and shake, another scene's sound", SHAKY, shuffled=True),
)


class Baselines(MotionMaps):
    """What the motion engine remembers, without its judgement."""

    def most_motion(self) -> Map:
        """Where most has moved lately, whatever sounds."""
        bins, weight = self._remembered(self._pictured)
        return np.einsum("ct,t->c", self._motion[:, bins % MEMORY], weight).reshape(self._size)

    def correlation(self) -> Map:
        """The normalised correlation of motion and sound at its best lag, as it is."""
        newest = min(self._pictured, self._heard)
        bins = np.arange(max(self._first, newest - MEMORY + 1), newest + 1)
        motion, sound = self._motion[:, bins % MEMORY], self._sound[:, bins % MEMORY]
        motion = motion - motion.mean(1, keepdims=True)
        sound = sound - sound.mean(1, keepdims=True)
        motion /= np.linalg.norm(motion, axis=1, keepdims=True) + 1e-6
        sound /= np.linalg.norm(sound, axis=1, keepdims=True) + 1e-6
        lags = [motion @ np.roll(sound, by, 1).T for by in range(-LAGS, LAGS + 1)]
        best: Map = np.max(lags, (0, 2)).reshape(self._size)
        return best


def evaluate_movers(
    engine: str,
    count: int,
    *,
    cast: Cast | None = None,
    conditions: tuple[Condition, ...] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, float]]:
    """Measures an engine, by its name, on `count` scenes of each condition.

    Args:
        cast: whose things move; by default drawn ones do.

    Returns:
        For each condition, in percent and seconds (nan where nothing in view sounds):
        `peak`, and for each baseline `centre`, `most motion`, `correlation`: of the moments from
        `SETTLED_S` after a sound started, those at which the highest cell lies in the thing.
        `sounding`: those that are said to be sounding, with the peak in the thing; `wrong`: with
        the peak elsewhere. `said`: of all moments, those that are said to be sounding. `lock_s`:
        median time from the start of a sound to the first moment at which it is found; `locked`:
        sounds that are. `loss_s`: median time that it stays after the end.
    """
    conditions = conditions or (PHOTOGRAPHED if cast else CONDITIONS)
    # A cast is made of closures, which travel to other processes by fork alone.
    _job.update(engine=engine, cast=cast)
    # All at once: of one condition there are too few to go round among the processes.
    work = [(condition, index) for condition in conditions for index in range(count)]
    found = []
    for one in in_parallel(_one, work):
        found.append(one)
        progress(len(found), len(work))
    return {
        condition.name: _summary(found[k * count : (k + 1) * count])
        for k, condition in enumerate(conditions)
    }


_job: dict[str, Any] = {}
_opened = lru_cache(1)(choose_engine)  # in each process; an opened network can't travel


def _one(which_scene: tuple[Condition, int]) -> Tally:
    """All moments of one scene."""
    condition, index = which_scene
    opened = _opened(_job["engine"]).for_pictures(*SIZE)
    scene = make_moving_scene(SEED, index, **condition.scene, cast=_job["cast"])
    heard = scene
    if condition.shuffled:
        # What begins to move just when a sound begins would be taken for it, and rightly so.
        always = tuple(replace(mover, rests=False) for mover in scene.movers)
        scene = replace(scene, movers=always)
        heard = make_moving_scene(SEED, index + 1000, **condition.scene, cast=_job["cast"])
    sound = SoundTimeline(RATE, SECONDS + 2)
    sound.write(round((1 + condition.late_s) * RATE), heard.sound(0, SECONDS))
    localize, resize = Localizer(opened), Resizer(opened.spec.picture_size)
    baselines, tally = Baselines(opened.spec), Tally()
    rng = np.random.default_rng((SEED, index))
    lock: dict[int, float] = {}
    last: dict[int, float] = {}
    for k in range(round(SECONDS * condition.fps)):
        time = k / condition.fps
        if rng.random() < condition.dropped:
            continue
        rendered, boxes = scene.render(time, *SIZE)
        picture = resize(av.VideoFrame.from_ndarray(rendered, format="rgb24"))
        # A second of nothing comes first, so that early sound has where to be.
        found = localize(time + 1, picture, sound)
        baselines.watch(time + 1, picture, sound)
        turn = _turn(scene, time - max(0.0, condition.late_s))
        if turn is None:
            continue
        which, since = turn
        who = -1 if condition.shuffled else scene.turns[which].things[0]
        sounding = found.state == "sounding"
        right = who >= 0 and _inside(found.map, boxes[who])
        if since <= scene.turns[which].stop - scene.turns[which].start:
            if sounding and right:
                lock.setdefault(which, since)
                last[which] = since
            tally.add("said", sounding)
            if who < 0 or since < SETTLED_S:
                continue
            tally.add("peak", right)
            tally.add("sounding", sounding and right)
            tally.add("wrong", sounding and not right)
            tally.add("centre", in_box(0.5, 0.5, _wider(boxes[who])))
            tally.add("most motion", _inside(baselines.most_motion(), boxes[who]))
            tally.add("correlation", _inside(baselines.correlation(), boxes[who]))
        elif sounding and which in lock:
            last[which] = since
    for which, turn_ in enumerate(scene.turns):
        tally.add("locked", which in lock)
        if which in lock:
            tally.add("lock_s", lock[which])
            length = turn_.stop - turn_.start
            tally.add("loss_s", max(0.0, last[which] - length))
    return tally


def _turn(scene: MovingScene, time: float) -> tuple[int, float] | None:
    """The newest turn that has begun, and the time since."""
    begun = [i for i, turn in enumerate(scene.turns) if turn.start <= time]
    return (begun[-1], time - scene.turns[begun[-1]].start) if begun else None


def _wider(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box[0] - SLACK, box[1] - SLACK, box[2] + SLACK, box[3] + SLACK


def _inside(map_: Map, box: tuple[float, float, float, float]) -> bool:
    return in_box(*map_peak(map_), _wider(box))


def _summary(found: list[Tally]) -> dict[str, float]:
    def all_of(name: str) -> list[float]:
        return [value for one in found for value in one.rows.get(name, [])]

    shares = ("peak", "sounding", "wrong", "said", "locked", "centre", "most motion", "correlation")
    row = {name: 100 * float(np.mean(all_of(name) or [np.nan])) for name in shares}
    return row | {k: float(np.median(all_of(k) or [np.nan])) for k in ("lock_s", "loss_s")}


COLUMNS = {
    "peak": "peak in the thing",
    "centre": "centre",
    "most motion": "most motion",
    "correlation": "correlation",
    "said": "said to sound",
    "wrong": "and wrong",
    "lock_s": "found after",
    "loss_s": "lost after",
}


def movers_lines(rows: dict[str, dict[str, float]]) -> list[str]:
    """The table, in Markdown."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [
            "" if np.isnan(row[key]) else f"{row[key]:.1f} {'s' if key.endswith('_s') else '%'}"
            for key in COLUMNS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
