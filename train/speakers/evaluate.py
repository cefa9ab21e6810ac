"""`avsl-train evaluate --speakers`: is the voice given to whose it is? Clips of one person each, as
they are and staged, through the program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avsl.engines import Engine, UserError
from avsl.engines.engine import knows_voices
from avsl.engines.speakers.tracks import HAIR
from avsl.engines.speakers.voice import RATE
from avsl.train.bars import Progress
from avsl.train.speakers import crops, staged
from avsl.train.speakers.crops import Look
from avsl.train.speakers.films import sound_of
from avsl.train.speakers.fit import CALM, DUBBED, GRIMACE, MIME, OWN
from avsl.train.speakers.measure import Array, Face, Moment, as_long, late, watched
from avsl.train.speakers.report import LATE, Alone, Pair, Sure, Turn, summed
from avsl.train.speakers.staged import Shot, Take, filmed, rgb_of
from avsl.train.speakers.table import Clip, read_tests

LONGEST_S = 8.0
"""How much of a clip is looked at."""
OTHERS = 2
"""How many others' voices each face is held against."""
FEW, SELDOM_S = (OWN, LATE, "0"), 1.0
"""Of those, what a face is held against that is filmed worse, and how often that is decided."""
LATE_S = 1.0
PAIRS = 24
"""Pairs at most."""
PAIR_S, TURN_S, AFTER_S = 3.0, 5.0, 1.5
"""Seconds that a pair lasts at least, before the second one's turn at most, and after which that
one is to be found."""
BROWS = 0.45
"""Above the eyes, of the way from eyes to chin: as high as published networks have a face."""
LOOK_S = 2
"""Seconds of the windows in which they see it."""


class Known(NamedTuple):
    """A clip that was seen once."""

    clip: Clip
    take: Take
    samples: Array
    """Its sound; of who is silent none."""
    times: Array
    boxes: Array
    """`[n, 4]` in parts of the picture: the face at `times`."""


def evaluate_speakers(
    engine: Engine, table: Path, look: Look | None, progress: Progress
) -> dict[str, Any]:
    """Measures who is said to speak, on the clips of a table (see table.py): those to test on, or
    all if it says of none what it is for.

    Raises:
        UserError: the table is none, a clip can't be read, or the engine knows no voices.
    """
    if not knows_voices(engine.spec):
        raise UserError(
            f"{engine.spec.name}: knows no voices; --speakers needs an engine that does"
        )
    clips = read_tests(table)
    voices = {clip: sound_of(clip.path) for clip in clips if clip.speaks}
    if len({clip.person for clip in voices}) < 2:
        raise UserError(f"{table}: fewer than two persons who speak; nothing to hold them against")
    alone: list[Alone] = []
    sure: list[Sure] = []
    known: list[Known] = []
    for done, clip in enumerate(clips):
        progress("each alone", done, len(clips))
        sounds = _sounds(clip, voices, done)
        moments = list(watched(engine, filmed(clip.path, LONGEST_S), sounds, 1))
        one = _known(clip, moments, sounds)
        if one is None:
            continue
        known.append(one)
        scores = {name: _look(look, one, sound) for name, sound in sounds.items()} if look else {}
        alone += _alone("as filmed", clip, moments, scores)
        if clip.speaks:
            sure.append(_sure(clip, moments))
        few = {name: sound for name, sound in sounds.items() if name.split()[-1] in FEW}
        for how, shots in _worse(one).items():
            alone += _alone(how, clip, watched(engine, shots, few, 1, SELDOM_S), {})
    progress("each alone", len(clips), len(clips))
    pairs: list[Pair] = []
    turns: list[Turn] = []
    couples = _couples([one for one in known if one.clip.speaks])
    for done, (left, right) in enumerate(couples):
        progress("two at once", done, len(couples))
        pairs += _pair(engine, left, right, look)
        turns += _turn(engine, left, right)
    progress("two at once", len(couples), len(couples))
    unseen = len(clips) - len(known)
    return summed(alone, sure, pairs, turns) | {"clips": len(clips), "no face found": unseen}


def _sounds(clip: Clip, voices: Mapping[Clip, Array], seed: int) -> dict[str, Array]:
    """What a face is held against, by kind: its own voice and that a second late, and others'."""
    rng = np.random.default_rng(seed)
    others = [samples for one, samples in voices.items() if one.person != clip.person]
    picked = [others[i] for i in rng.permutation(len(others))[:OTHERS]]
    if not clip.speaks:
        kind = clip.set if clip.set in (GRIMACE, MIME) else CALM
        return {f"{kind} {i}": as_long(one, LONGEST_S) for i, one in enumerate(picked)}
    own = voices[clip][: round(LONGEST_S * RATE)]
    seconds = len(own) / RATE
    dubbed = {f"{DUBBED} {i}": as_long(one, seconds) for i, one in enumerate(picked)}
    return {OWN: own, LATE: late(own, LATE_S), **dubbed}


def _known(clip: Clip, moments: Sequence[Moment], sounds: Mapping[str, Array]) -> Known | None:
    seen = [(one.time, one.faces[0].box) for one in moments if one.faces[0]]
    if not seen:
        return None
    times, boxes = (np.array(column, np.float32) for column in zip(*seen, strict=True))
    x0, y0, x1, y1 = np.median(boxes, 0)
    samples = sounds.get(OWN, np.zeros(0, np.float32))
    seconds = len(samples) / RATE if clip.speaks else LONGEST_S
    take = Take(clip.path, ((x0 + x1) / 2, (y0 + y1) / 2), x1 - x0, seconds)
    return Known(clip, take, samples, times, boxes)


def _worse(one: Known) -> dict[str, Iterator[Shot]]:
    def shots() -> Iterator[Shot]:
        return filmed(one.clip.path, LONGEST_S)

    return {
        "every second picture": staged.every_second(shots()),
        "hand-held": staged.hand_held(shots()),
        "60 pixels": staged.small(shots(), one.take, 60),
        "40 pixels": staged.small(shots(), one.take, 40),
    }


def _alone(
    how: str, clip: Clip, moments: Iterable[Moment], scores: Mapping[str, Array]
) -> Iterator[Alone]:
    for moment in moments:
        face = moment.faces[0]
        if face is None:
            continue
        score = _at(scores.get(moment.sound), moment.time)
        kind = moment.sound.split()[0]
        said = moment.lips.lit[0], moment.map.lit[0]
        yield Alone(how, kind, clip.person, moment.time, face, *said, score)


def _sure(clip: Clip, moments: Sequence[Moment]) -> Sure:
    """When it is first said to sound."""
    own = [moment for moment in moments if moment.sound == OWN]
    at = next((moment.time for moment in own if moment.lips.sure[0]), None)
    return Sure(clip.person, at, own[-1].time if own else 0.0)


def _couples(known: Sequence[Known]) -> list[tuple[Known, Known]]:
    """Who sits beside whom."""
    long = [one for one in known if one.take.seconds >= PAIR_S]
    order = [long[i] for i in np.random.default_rng(3).permutation(len(long))]
    couples = zip(order, order[1:] + order[:1], strict=True)
    return [(a, b) for a, b in couples if a.clip.person != b.clip.person][:PAIRS]


def _pair(engine: Engine, left: Known, right: Known, look: Look | None) -> Iterator[Pair]:
    """Both move their lips; one is heard, or both are."""
    seconds = min(left.take.seconds, right.take.seconds)
    a, b = (_even(one.samples[: round(seconds * RATE)]) for one in (left, right))
    sounds = {"0": a, "1": b, "both": a + b}
    scores: dict[str, list[Array]] = {}
    if look:
        scores = {n: [_look(look, one, sounds[n]) for one in (left, right)] for n in ("0", "1")}
    persons = left.clip.person, right.clip.person
    shots = staged.side_by_side(left.take, right.take, seconds)
    for moment in watched(engine, shots, sounds, 2):
        faces = _all(moment.faces)
        if faces is None:
            continue
        whose = None if moment.sound == "both" else int(moment.sound)
        seen = tuple(_at(series, moment.time) for series in scores.get(moment.sound, []))
        yield Pair(persons, whose, moment.time, faces, moment.lips, moment.map, seen)


def _turn(engine: Engine, left: Known, right: Known) -> Iterator[Turn]:
    """One speaks, then the other."""
    turn = np.floor(2 * min(left.take.seconds, TURN_S)) / 2
    after = min(right.take.seconds, TURN_S)
    first = as_long(_even(left.samples), turn)
    sound = np.concatenate([first, _even(right.samples)[: round(after * RATE)]])
    shots = staged.in_turns(left.take, right.take, turn, turn + after)
    for moment in watched(engine, shots, {"turns": sound}, 2):
        faces = _all(moment.faces)
        if faces is not None and abs(moment.time - turn - AFTER_S) < 0.1:
            yield Turn((left.clip.person, right.clip.person), faces, moment.lips, moment.map)


def _all(faces: Sequence[Face | None]) -> tuple[Face, ...] | None:
    found = tuple(face for face in faces if face)
    return found if len(found) == len(faces) else None


def _even(samples: Array) -> Array:
    """As loud as others."""
    out: Array = samples * np.float32(0.1 / (np.sqrt(np.square(samples).mean()) + 1e-6))
    return out


def _look(look: Look, one: Known, samples: Array) -> Array:
    """A published network's scores, 25 a second, of a face and a sound."""
    shots = list(filmed(one.clip.path, len(samples) / RATE))
    at = np.array([time for time, _ in shots])
    x0, top, x1, y1 = (np.interp(at, one.times, column) for column in one.boxes.T)
    eyes = (top + HAIR * y1) / (1 + HAIR)
    boxes = np.stack([x0, eyes - BROWS * (y1 - eyes), x1, y1], 1)
    pictures = [rgb_of(frame) for _, frame in shots]
    h, w = pictures[0].shape[:2]
    return crops.scores(look, pictures, boxes * [w, h, w, h], samples, at, [LOOK_S])


def _at(scores: Array | None, time: float) -> float:
    """The mean of the last second."""
    if scores is None:
        return float("nan")
    end = min(len(scores), round(time * crops.PER_SECOND))
    return float(scores[max(0, end - crops.PER_SECOND) : end].mean()) if end else float("nan")
