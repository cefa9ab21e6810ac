"""The few numbers that join look, pairs and sync (lips.json): a logistic regression on persons whom
sync hasn't learnt from, and what comes of it on others still.

A decision is half a second's: a face, and what is heard: its own voice, that moved by a while
(*late*), or somebody else's under a face that speaks (*dubbed*) or doesn't (*calm*, *grimace*,
*mime*).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl.engines.speakers import lips
from avsl.engines.speakers.answer import DIFFERS
from avsl.engines.speakers.speakers import TURNED
from avsl.engines.speakers.voice import BINS_PER_S
from avsl.train.bars import Progress
from avsl.train.speakers.series import Array, Series

LENGTHS_S = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
SHOWN_S = (1.5, 2.0, 3.0, 4.0, 6.0)
"""Seconds that are looked back on: when fitting, and in the table."""
EVERY = 12
"""Bins between two decisions."""
LATE = {"late 0.5 s": 12, "late 1 s": 25, "late 2 s": 50}
"""Bins that an own voice is moved by, either way."""
OTHERS = 4
"""How many others' voices each face is held against."""
VOICED_DB, VOICED_LAST, VOICED = 22.0, 0.3, 0.4
"""A voice is heard within so many dB of its loudest; there are decisions where it is in these parts
of the last second and of all that is looked back on."""
LOUDEST = 95
"""Percentile of a clip's level that is its loudest."""
OWN, DUBBED, CALM, GRIMACE, MIME = "own", "dubbed", "calm", "grimace", "mime"
SHARES = {
    OWN: 1.0, DUBBED: 0.3, CALM: 0.2, GRIMACE: 0.15, MIME: 0.1,
    "late 0.5 s": 0.08, "late 1 s": 0.09, "late 2 s": 0.08,
}  # fmt: skip
"""What all decisions of a kind count together, of each length."""
LOOKS = (OWN, CALM, GRIMACE)
"""What the look alone is fitted on: a mouth that mimes looks as one that speaks."""
PULL = 3.0
"""How much numbers are held near zero, against a weight of 1000 for each share of 1."""
LOOK = 7


class Case(NamedTuple):
    """A decision to take."""

    kind: str
    seconds: float
    person: str
    numbers: NDArray[np.float64]
    """`[9]`: pairs, sync, and the look's seven."""


def cases(series: Sequence[Series], networks: Path, progress: Progress, what: str) -> list[Case]:
    """All decisions there are on these clips, own voices and others'."""
    voices = [one for one in series if one.clip.speaks]
    found = []
    for done, one in enumerate(series, 1):
        rng = np.random.default_rng(done)
        for kind, heard, level in _heard_with(one, voices, rng):
            for seconds in LENGTHS_S:
                n = round(seconds * BINS_PER_S)
                for part in _decisions(one, level, n):
                    moved, said = one.moves[part], heard[part]
                    two = lips.pairs(moved, said), lips.sync(moved, said, networks)
                    numbers = np.array([*two, *lips.look(moved)])
                    found.append(Case(kind, seconds, one.clip.person, numbers))
        progress(f"decisions to {what}", done, len(series))
    return found


def _heard_with(
    one: Series, voices: Sequence[Series], rng: np.random.Generator
) -> Iterator[tuple[str, Array, Array]]:
    """What a face is held against: the kind, `SERIES` and level, as long as the face is there."""
    n = len(one.moves)
    if one.clip.speaks:
        yield OWN, one.heard, one.level
        for kind, bins in LATE.items():
            for by in (bins, -bins):
                yield kind, np.roll(one.heard, by, 0), np.roll(one.level, by)
    kind = DUBBED if one.clip.speaks else one.clip.set if one.clip.set in (GRIMACE, MIME) else CALM
    others = [voice for voice in voices if voice.clip.person != one.clip.person]
    for i in rng.permutation(len(others))[:OTHERS]:
        at = (np.arange(n) + rng.integers(len(others[i].heard))) % len(others[i].heard)
        yield kind, others[i].heard[at], others[i].level[at]


def _decisions(one: Series, level: Array, n: int) -> Iterator[slice]:
    """The windows of n bins at whose end a voice is heard and a face is seen well enough."""
    loud = voiced(level)
    for end in range(n, len(level) + 1, EVERY):
        heard = is_heard(loud[end - n : end])
        if heard and abs(one.turned[end - 1]) <= TURNED and one.logits[end - 1] >= 0:
            yield slice(end - n, end)


def voiced(level: Array) -> NDArray[np.bool_]:
    """In which bins a voice is heard."""
    return np.asarray(level > np.percentile(level, LOUDEST) - VOICED_DB)


def is_heard(looked_back_on: NDArray[np.bool_]) -> bool:
    """Whether there is enough of a voice in bins, and in the last second of them, to decide."""
    last = looked_back_on[-BINS_PER_S:]
    return bool(last.mean() >= VOICED_LAST and looked_back_on.mean() >= VOICED)


def fit(known: Sequence[Case]) -> dict[str, NDArray[np.float64]]:
    """What lips.json holds."""
    looks = np.array([case.numbers[2:] for case in known])
    model = {"mean": looks.mean(0), "deviation": looks.std(0) + 1e-6}
    own = np.array([case.kind == OWN for case in known], float)
    weight = _weights(known)
    x = _columns(known, model)
    both = logistic(x, own, weight)
    model |= {"sync": both[:5], "both": both[5:12], "bias": both[12]}
    seen = np.array([case.kind in LOOKS for case in known])
    look = logistic(x[seen, 5:], own[seen], weight[seen])
    return model | {"look": look[:LOOK], "look_bias": look[LOOK]}


def _weights(known: Sequence[Case]) -> NDArray[np.float64]:
    groups = [(case.kind, case.seconds) for case in known]
    many = Counter(groups)
    return np.array([1000 * SHARES[group[0]] / many[group] for group in groups])


def _columns(some: Sequence[Case], model: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """What `lips.speaks` joins, `[N, 12]`."""
    two = np.array([case.numbers[:2] for case in some])
    long = np.log(np.array([case.seconds for case in some]) / 3)
    looks = (np.array([case.numbers[2:] for case in some]) - model["mean"]) / model["deviation"]
    return np.column_stack([two, two * long[:, None], long, looks])


def logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights of `x` `[N, F]` and a bias, `[F + 1]`, for which `y` is likeliest, by Newton."""
    x = np.column_stack([x, np.ones(len(x))])
    pull = np.diag([*[PULL] * (x.shape[1] - 1), 1e-6])
    b = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ b))
        slope = x.T @ (weight * (p - y)) + pull @ b
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + pull
        b -= np.linalg.solve(curve, slope)
    return b


def speaking(some: Sequence[Case], model: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The probability of each that the face makes the voice."""
    joined = np.concatenate([model["sync"], model["both"]])
    return 1 / (1 + np.exp(-_columns(some, model) @ joined - model["bias"]))


def write_model(path: Path, model: dict[str, Any]) -> None:
    """Writes lips.json."""
    from avsl.train.run import write_text  # and torch with it, which who only measures needn't have

    said = {key: np.round(value, 5).tolist() for key, value in model.items()}
    write_text(path, json.dumps(said, indent=1) + "\n")


def table(some: Sequence[Case], model: dict[str, NDArray[np.float64]]) -> list[str]:
    """How many are lit (not known to be dark), by what is heard and by how long is looked back, in
    percent; with how many decisions and faces."""
    lit = speaking(some, model) >= DIFFERS
    kinds = np.array([case.kind.split()[0] for case in some])
    seconds = np.array([case.seconds for case in some])
    people = np.array([case.person for case in some])
    shown = [kind for kind in (OWN, DUBBED, "late", CALM, GRIMACE, MIME) if kind in kinds]
    lines = ["lit, % (decisions, faces)", "".join(f"{head:>18}" for head in ("over", *shown))]
    for length in SHOWN_S:
        cells = [f"{length:g} s"]
        for kind in shown:
            these = (kinds == kind) & (seconds == length)
            share = f"{100 * lit[these].mean():.0f} " if these.any() else "- "
            cells.append(share + f"({these.sum()}, {len(set(people[these]))})")
        lines.append("".join(f"{cell:>18}" for cell in cells))
    return lines
