"""How well an engine finds what sounds, and whether it listens: on scenes it has not seen, through
the same resizer, windows and gate as every other picture."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import DRAWN, Box, Cast, Kind, Scene, boxes, make_scene, with_sound_of
from avsl.engines import (
    Engine,
    Localization,
    Localizer,
    Picture,
    Resizer,
    Samples,
    SoundTimeline,
    UserError,
)
from avsl.train.data.clips import pack_clips
from avsl.train.data.pack import At, Pack
from avsl.train.scoring.metrics import (
    RULES,
    Array,
    auc,
    box_mask,
    centre_disc,
    ciou_by_rule,
    in_box,
    map_peak,
    success,
    truth_masks,
    upsample,
)

TEST_SEED = 2_000_000
CALIBRATION_SEED = 1_000_000
"""Series of scenes that no training uses (recipes count their seeds from 1)."""
MOVED_S = 0.2
"""Over which the baseline `most motion` looks back."""
SOUNDS = 8
"""Sounds of other scenes whose maps, averaged, are what an engine makes of the picture alone."""


@dataclass(frozen=True)
class Still:
    """A scene's picture, as the resizer gives it, with the boxes of its things and its sound."""

    scene: Scene
    picture: Picture
    boxes: list[Box]
    samples: Samples
    moved: Array
    """Where it differs from the picture `MOVED_S` before, `[h, w]`."""

    @property
    def truth(self) -> list[Box]:
        """Boxes of what sounds in view."""
        return [self.boxes[i] for i in self.scene.sounding(0)]


def stills(
    seed: int,
    count: int,
    resize: Callable[[av.VideoFrame], Picture],
    *,
    cast: Cast = DRAWN,
    kind: Kind | None = None,
    moving: bool = False,
) -> Iterator[Still]:
    """`count` held-out stills, rendered at 360 lines and resized like any file's frames."""
    for index in range(count):
        scene = make_scene(seed, index, cast=cast, kind=kind, moving=moving)
        height = 360 if scene.aspect >= 1 else 640
        width = round(height * scene.aspect / 2) * 2

        def small(picture: Picture) -> Picture:
            return resize(av.VideoFrame.from_ndarray(picture, format="rgb24"))

        picture, masks = scene.render(0, height, width)
        now = small(picture)
        before = small(scene.render(-MOVED_S, height, width)[0]) if moving else now
        moved = np.abs(now.astype(np.float32) - before).mean(2)
        yield Still(scene, now, boxes(masks), scene.sound(-1, 1), moved)


class Fitting:
    """Resizes pictures to those of an engine that keeps their shape, if it does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._resizers: dict[tuple[int, int], Resizer] = {}

    def __call__(self, frame: av.VideoFrame) -> Picture:
        size = frame.height, frame.width
        if size not in self._resizers:
            self._resizers[size] = Resizer(self._engine.for_pictures(*size).spec.picture_size)
        return self._resizers[size](frame)


def hear(engine: Engine, picture: Picture, samples: Samples) -> Localization:
    """Localizes one still, a picture of the engine's, with the second of sound before it, in a
    fresh gate."""
    engine = engine.for_pictures(*picture.shape[:2])
    window = engine.spec.window
    sound = SoundTimeline(window.rate, 2 * window.length / window.rate)
    sound.write(-len(samples), samples)
    return Localizer(engine)(window.guard / window.rate, picture, sound)


@dataclass
class Tally:
    """Answers to yes-or-no questions and areas, by name."""

    rows: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.rows.setdefault(name, []).append(float(value))

    def mean(self, name: str) -> float:
        values = self.rows.get(name, [])
        return float(np.mean(values)) if values else float("nan")


def evaluate_scenes(
    engine: Engine,
    count: int = 1000,
    *,
    seed: int = TEST_SEED,
    cast: Cast = DRAWN,
    others: dict[str, Engine] | None = None,
    failed: Callable[[Still, Localization], None] = lambda still, heard: None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Measures an engine on `count` held-out scenes; those of a cast that isn't drawn move.

    Args:
        others: engines to set beside it in the table; those that take pictures of another size are
            left out.
        failed: told of each scene in which the peak is not in what sounds, or in which something
            is said to sound that is not in view.

    Returns:
        Shares in 0..1: what the README of a bundle prints, see `SCORES`; `n` counts behind each;
        `kinds`: how often the peak is in what sounds, by its kind, of scenes with two or more.
    """
    resize = Fitting(engine)
    tally, kinds = Tally(), Tally()
    others = {"shuffled sound": engine, "image only": engine} | {
        name: other
        for name, other in (others or {}).items()
        if other.spec.picture_size == engine.spec.picture_size
    }
    rows: dict[str, list[tuple[Array, Array]]] = {"engine": [], **{name: [] for name in others}}
    rows |= {"centre disc": [], "whole picture": []}
    moving = cast is not DRAWN
    if moving:
        rows["most motion"] = []
    before: deque[Samples] = deque(maxlen=SOUNDS)
    held_out = stills(seed, count, resize, cast=cast, moving=moving)
    for done, still in enumerate(held_out, 1):
        heard = hear(engine, still.picture, still.samples)
        _negatives(tally, still.scene.kind, heard)
        if still.truth:
            truth = box_mask(still.truth)
            rows["engine"].append((heard.map, truth))
            rows["centre disc"].append((centre_disc(heard.map.shape), truth))
            rows["whole picture"].append((np.ones_like(heard.map), truth))
            if moving:
                rows["most motion"].append((_cells(still.moved, heard.map.shape), truth))
            for name, other in others.items():
                sounds = {"shuffled sound": list(before)[-1:], "image only": list(before)}
                maps = [
                    hear(other, still.picture, s).map for s in sounds.get(name, [still.samples])
                ]
                if maps:
                    rows[name].append((np.mean(maps, 0), truth))
            before.append(still.samples)
            _positives(tally, kinds, engine, still, heard)
        if _wrong(still, heard):
            failed(still, heard)
        progress(done)
    glow = engine.spec.thresholds.glow
    return {
        **{name: round(tally.mean(name), 4) for name in SCORES},
        "n": {name: len(tally.rows.get(name, [])) for name in SCORES},
        "kinds": {
            name: {"peak": round(kinds.mean(name), 4), "n": len(kinds.rows[name])}
            for name in sorted(kinds.rows)
        },
        "table": {name: summarise(pairs, glow) for name, pairs in rows.items()},
        "scenes": count,
        "seed": seed,
    }


def _cells(values: Array, shape: tuple[int, ...]) -> Array:
    """The mean over each cell of a map, of `[h, w]` that it divides."""
    m, n = shape
    h, w = values.shape
    means: Array = values.reshape(m, h // m, n, w // n).mean((1, 3))
    return means / max(float(means.max()), 1e-9)


def evaluate_pack(
    engine: Engine,
    pack: Pack,
    ids: NDArray[np.int64],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Measures an engine on clips of a pack whose boxes are known and not empty: the field's table,
    in percent. `shuffled sound` hears the clip before."""
    ids = ids[pack.known[ids] & ~np.isnan(pack.boxes[ids, 0, 0])]
    names = ("engine", "shuffled sound", "centre disc", "whole picture")
    rows: dict[str, list[tuple[Array, Array]]] = {name: [] for name in names}
    disc = centre_disc(engine.spec.map_size)
    for done, (i, before) in enumerate(zip(ids, np.roll(ids, 1), strict=True), 1):
        truth = truth_masks(pack.boxes[i : i + 1])[0]
        for name, sound in (("engine", i), ("shuffled sound", before)):
            heard = hear(engine, pack.pictures[i], pack.window(sound, engine.spec.window.length))
            rows[name].append((heard.map, truth))
        rows["centre disc"].append((disc, truth))
        rows["whole picture"].append((np.ones_like(disc), truth))
        progress(done)
    glow = engine.spec.thresholds.glow
    table = {name: summarise(pairs, glow) for name, pairs in rows.items()}
    return {"table": table, "n": len(ids)}


def evaluate_clips(
    engine: Engine,
    clips: Path,
    picture_at: str,
    *,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measures an engine on a folder of clips (see clips.py): those with boxes that sound.

    Raises:
        UserError: a clip can't be used, and is not to be left out (`skip_bad`), or none has boxes.
    """
    spec = engine.spec
    seconds = spec.window.length / spec.window.rate
    if picture_at not in get_args(At):
        raise UserError(f"--picture-at must be one of {', '.join(get_args(At))}")
    at: At = "middle" if picture_at == "middle" else "end"
    with tempfile.TemporaryDirectory() as folder:
        pack = pack_clips(
            clips,
            Path(folder) / "clips",
            spec.picture_size,
            seconds=seconds,
            picture_at=at,
            skip_bad=skip_bad,
        )
        if not (pack.known & ~np.isnan(pack.boxes[:, 0, 0])).any():
            raise UserError(
                f"{clips}: no clip has a box in boxes.json; there is nothing to measure"
            )
        ids = np.arange(len(pack))
        return evaluate_pack(engine, pack, ids, progress=lambda n: progress(n, len(ids)))


SCORES = {
    "peak": "peak inside a sounding thing, two or more things in view",
    "interactive": "given another thing's sound, the peak moves into that thing",
    "both": "two at once: both found",
    "third": "two at once: a third thing glows, too",
    "quiet_area": "silence and noise: share of the picture over p = 0.5",
    "quiet_state": "silence and noise: said to be silent or unseen",
    "outside_area": "sound from out of view: share of the picture over p = 0.5",
    "outside_state": "sound from out of view: said to be silent or unseen",
    "sounding_state": "a thing in view sounds: said to be sounding",
}


def _negatives(tally: Tally, kind: Kind, heard: Localization) -> None:
    name = {"silence": "quiet", "noise": "quiet", "outside": "outside"}.get(kind)
    if name:
        tally.add(f"{name}_area", float((upsample(heard.map) > 0.5).mean()))
        tally.add(f"{name}_state", heard.state in ("silent", "unseen"))


def _positives(
    tally: Tally, kinds: Tally, engine: Engine, still: Still, heard: Localization
) -> None:
    scene = still.scene
    tally.add("sounding_state", heard.state == "sounding")
    if scene.kind == "two":
        hits = [any(in_box(x, y, box) for x, y, _ in heard.peaks) for box in still.truth]
        tally.add("both", all(hits))
        if len(scene.things) > 2:
            tally.add("third", any(_beside(peak, still) for peak in heard.peaks))
    if len(scene.things) < 2:
        return
    found = _found(still, heard)
    tally.add("peak", found)
    if scene.kind == "one":
        kinds.add(scene.things[scene.sounding(0)[0]].family, found)
        other = (scene.sounding(0)[0] + 1) % len(scene.things)
        swapped = hear(engine, still.picture, with_sound_of(scene, other).sound(-1, 1))
        x, y = map_peak(swapped.map)
        tally.add("interactive", swapped.state != "silent" and in_box(x, y, still.boxes[other]))


def _found(still: Still, heard: Localization) -> bool:
    """Whether the peak is in something that sounds."""
    x, y = map_peak(heard.map)
    return heard.state != "silent" and any(in_box(x, y, box) for box in still.truth)


def _wrong(still: Still, heard: Localization) -> bool:
    return not _found(still, heard) if still.truth else heard.state == "sounding"


def _beside(peak: tuple[float, float, float], still: Still) -> bool:
    """Whether a peak lies in a thing, but in none that sounds."""
    x, y, _ = peak
    return any(in_box(x, y, box) for box in still.boxes) and not any(
        in_box(x, y, box) for box in still.truth
    )


def summarise(pairs: Iterable[tuple[Array, Array]], threshold: float) -> dict[str, float]:
    """cIoU at 0.5 and AUC under each rule, in percent, and the peak's share inside the truth, for
    pairs of a map `[m, n]` and a truth `[224, 224]`."""
    values: dict[str, list[float]] = {rule: [] for rule in RULES}
    peaks = []
    for map_, truth in pairs:
        for rule, value in ciou_by_rule(upsample(map_), truth, threshold).items():
            values[rule].append(value)
        x, y = map_peak(map_)
        peaks.append(truth[int(y * len(truth)), int(x * len(truth))] > 0)
    row: dict[str, float] = {"n": len(peaks)}
    for rule in RULES:
        found = np.array(values[rule])
        row[f"ciou_{rule}"] = round(100 * success(found), 2)
        row[f"auc_{rule}"] = round(100 * auc(found), 2)
    row["peak"] = round(100 * float(np.mean(peaks)), 2) if peaks else 0.0
    return row
