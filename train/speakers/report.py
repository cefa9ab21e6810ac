"""What `evaluate --speakers` prints: shares of decisions, with how many decisions and faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from avsl.train.speakers.fit import CALM, DUBBED, GRIMACE, MIME, OWN
from avsl.train.speakers.measure import Face, Said

LATE = "late"
KINDS = (OWN, CALM, GRIMACE, MIME, DUBBED, LATE)
FROM_S = 2.0
"""From then on a decision counts, but where time itself is what is shown."""
OVER_S = ((0.0, 1.5), (1.5, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 6.0), (6.0, np.inf))
WIDE = ((0.0, 60.0), (60.0, 120.0), (120.0, np.inf))
TURNED = ((0.0, 0.15), (0.15, 0.45), (0.45, np.inf))
WHAT = {
    "by": f"each alone, from {FROM_S:g} s on: lit, by",
    "over": "with lips, by how long the face is in view",
    "conditions": f"with lips, from {FROM_S:g} s on, by how it is filmed",
    "two": f"two whose lips move, from {FROM_S:g} s on: right, by",
}


class Alone(NamedTuple):
    """A decision on one face."""

    how: str
    kind: str
    person: str
    time: float
    face: Face
    lips: bool
    map: bool
    look: float


class Sure(NamedTuple):
    """When a face was first said to make its own voice, if it was while it was in view."""

    person: str
    at: float | None
    seconds: float


class Pair(NamedTuple):
    """A decision on two faces, one of whom (0 or 1) is heard, or both (None)."""

    persons: tuple[str, str]
    whose: int | None
    time: float
    faces: tuple[Face, ...]
    lips: Said
    map: Said
    look: tuple[float, ...]


class Turn(NamedTuple):
    """A decision a while after the second of two has begun to speak, and the first has ended."""

    persons: tuple[str, str]
    faces: tuple[Face, ...]
    lips: Said
    map: Said


def summed(
    alone: Sequence[Alone], sure: Sequence[Sure], pairs: Sequence[Pair], turns: Sequence[Turn]
) -> dict[str, Any]:
    """The tables, see `WHAT`; a cell is a share in percent, decisions, faces."""
    plain = [one for one in alone if one.how == "as filmed"]
    settled = [one for one in plain if one.face.since >= FROM_S]
    late = [one for one in pairs if min(face.since for face in one.faces) >= FROM_S]
    return {
        "by": _by(settled),
        "over": {
            _range(span, " s"): _kinds([one for one in plain if _in(one.face.since, span)])
            for span in OVER_S
        },
        "conditions": _conditions([one for one in alone if one.face.since >= FROM_S], settled),
        "two": _two(late, turns),
        "sure": _time_to_be_sure(sure),
    }


def _by(settled: Sequence[Alone]) -> dict[str, Any]:
    own = [one for one in settled if one.kind == OWN]
    kept = np.mean([one.lips for one in own]) if own else 1.0
    least = float(np.quantile([one.face.motion for one in own], 1 - kept)) if own else 0.0
    rows = {
        "with lips": _kinds(settled),
        "map alone": _kinds(settled, lambda one: one.map),
        "mouth motion": _kinds(settled, lambda one: one.face.motion >= least),
        "largest face": _kinds(settled, lambda one: True),
    }
    seen = [one for one in settled if not np.isnan(one.look)]
    return rows | ({"published": _kinds(seen, lambda one: one.look > 0)} if seen else {})


def _conditions(settled: Sequence[Alone], plain: Sequence[Alone]) -> dict[str, Any]:
    rows = {}
    for span in WIDE:
        rows[_range(span, " pixels")] = _kinds([one for one in plain if _in(one.face.pixels, span)])
    for span in TURNED:
        name = f"turned {_range(span, '')}"
        rows[name] = _kinds([one for one in plain if _in(one.face.turned, span)])
    for how in dict.fromkeys(one.how for one in settled):
        rows[how] = _kinds([one for one in settled if one.how == how])
    return rows


def _two(pairs: Sequence[Pair], turns: Sequence[Turn]) -> dict[str, Any]:
    one = [pair for pair in pairs if pair.whose is not None]
    both = [pair for pair in pairs if pair.whose is None]
    seen = [pair for pair in one if pair.look]

    def most(values: Iterable[float]) -> int:
        return int(np.argmax(list(values)))

    def motion(faces: Sequence[Face]) -> int:
        return most(face.motion for face in faces)

    def largest(faces: Sequence[Face]) -> int:
        return most(face.pixels for face in faces)

    rows = {
        "with lips": {
            "one": _share(one, lambda pair: pair.lips.first == pair.whose),
            "the other glows": _share(one, lambda pair: pair.lips.lit[1 - (pair.whose or 0)]),
            "both": _share(both, lambda pair: all(pair.lips.lit)),
            "turn": _share(turns, lambda turn: turn.lips.first == 1),
        },
        "map alone": {
            "one": _share(one, lambda pair: pair.map.first == pair.whose),
            "the other glows": _share(one, lambda pair: pair.map.lit[1 - (pair.whose or 0)]),
            "both": _share(both, lambda pair: all(pair.map.lit)),
            "turn": _share(turns, lambda turn: turn.map.first == 1),
        },
        "mouth motion": {
            "one": _share(one, lambda pair: motion(pair.faces) == pair.whose),
            "turn": _share(turns, lambda turn: motion(turn.faces) == 1),
        },
        "largest face": {
            "one": _share(one, lambda pair: largest(pair.faces) == pair.whose),
            "turn": _share(turns, lambda turn: largest(turn.faces) == 1),
        },
    }
    if seen:
        rows["published"] = {"one": _share(seen, lambda pair: most(pair.look) == pair.whose)}
    return rows


def _time_to_be_sure(sure: Sequence[Sure]) -> dict[str, Any]:
    """Of the faces that are long enough in view."""
    found: dict[str, Any] = {}
    for seconds in (2.0, 3.0, 4.0, 6.0):
        some = [one for one in sure if one.seconds >= seconds or one.at is not None]
        said = [one.at is not None and one.at <= seconds for one in some]
        found[f"within {seconds:g} s"] = _cell(said, {one.person for one in some})
    return found


def _kinds(
    some: Sequence[Alone], lit: Callable[[Alone], bool] = lambda one: one.lips
) -> dict[str, Any]:
    cells = {}
    for kind in KINDS:
        these = [one for one in some if one.kind == kind]
        if these:
            cells[kind] = _cell([lit(one) for one in these], {one.person for one in these})
    return cells


def _share(some: Sequence[Any], right: Callable[[Any], bool]) -> dict[str, Any]:
    people = {person for one in some for person in one.persons}
    return _cell([right(one) for one in some], people)


def _cell(said: Sequence[bool], people: Iterable[str]) -> dict[str, Any]:
    share = round(100 * float(np.mean(said)), 1) if said else None
    return {"share": share, "n": len(said), "faces": len(set(people))}


def _in(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value < span[1]


def _range(span: tuple[float, float], unit: str) -> str:
    low, high = span
    return f"{low:g}{unit} and more" if high == np.inf else f"{low:g} to {high:g}{unit}"


def speakers_lines(scores: Mapping[str, Any]) -> list[str]:
    """The tables as text; a cell: percent (decisions, faces)."""
    lines = [f"{scores['clips']} clips; in {scores['no face found']} no face was found"]
    for name, title in WHAT.items():
        rows = scores[name]
        heads = list(dict.fromkeys(head for row in rows.values() for head in row))
        lines += ["", title, "".join(f"{head:>21}" for head in ("", *heads))]
        for row, cells in rows.items():
            if cells:
                texts = [_text(cells.get(head)) for head in heads]
                lines.append("".join(f"{text:>21}" for text in (row, *texts)))
    lines += ["", "first said to sound, with one's own voice"]
    lines += [f"{name:>21}{_text(cell):>21}" for name, cell in scores["sure"].items()]
    return lines


def _text(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["share"] is None:
        return "-"
    return f"{cell['share']:.0f} ({cell['n']}, {cell['faces']})"
