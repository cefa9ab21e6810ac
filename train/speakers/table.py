"""The table of clips that the networks of who speaks are taught from and measured on.

Tab-separated, with a line of names: `file` (relative to the table), `person`, `speaks` (`own`: the
face makes the voice that the clip has; `silent`: it makes none), `set` (`grimace` and `mime` mean
faces that move without a voice; others are only names), `licence_class` (`web`: nothing is learnt
from its pictures or voice) and, if you like, `split` (`train`, `fit` or `test`; else persons are
dealt). Other columns are passed over.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from avsl.engines import UserError

COLUMNS = ("file", "person", "speaks", "set", "licence_class")
TEST = "test"
SPLITS = ("train", "fit", TEST)
"""Whom `sync` learns from, whom the numbers of lips.json are fitted on, whom all is measured on."""
OWN, SILENT = "own", "silent"
WEB = "web"


@dataclass(frozen=True)
class Clip:
    """A film of one person, or in which one is largest."""

    path: Path
    person: str
    speaks: bool
    set: str
    learns: bool
    """Whether its pictures and its voice may be learnt from."""
    split: str


def read_table(path: Path) -> list[Clip]:
    """All clips.

    Raises:
        UserError: it isn't such a table, one of its files can't be read, or it has too few persons.
    """
    rows = _rows(path)
    clips = _clips(path, rows, _splits(path, rows) if rows[0].get("split") else _dealt(rows))
    for clip in clips:
        _look_into(clip)
    enough(path, clips)
    return clips


def read_tests(path: Path) -> list[Clip]:
    """The clips to test on; all, in a table that says of none what it is for.

    Raises:
        UserError: it isn't such a table, or one of its files can't be read.
    """
    rows = _rows(path)
    tests = dict.fromkeys((row["person"] for row in rows), TEST)
    clips = _clips(path, rows, _splits(path, rows) if rows[0].get("split") else tests)
    clips = [clip for clip in clips if clip.split == TEST]
    for clip in clips:
        _look_into(clip)
    return clips


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error})") from None
    if not rows:
        raise UserError(f"{path}: no clips in it")
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        raise UserError(f"{path}: has no column {missing[0]!r} (wanted: {', '.join(COLUMNS)})")
    for number, row in enumerate(rows, 2):
        if any(not row[name] for name in COLUMNS) or row["speaks"] not in (OWN, SILENT):
            raise UserError(
                f"{path}: line {number}: a column is empty, or speaks neither own nor silent"
            )
    return rows


def _clips(path: Path, rows: Sequence[dict[str, str]], dealt: Mapping[str, str]) -> list[Clip]:
    return [
        Clip(
            path.parent / row["file"],
            row["person"],
            row["speaks"] == OWN,
            row["set"],
            row["licence_class"] != WEB,
            dealt[row["person"]],
        )
        for row in rows
    ]


def _splits(path: Path, rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """Each person's split, as the table has it."""
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        split = row["split"]
        if split not in SPLITS:
            raise UserError(f"{path}: line {number}: split is none of {', '.join(SPLITS)}")
        if found.setdefault(row["person"], split) != split:
            raise UserError(f"{path}: line {number}: {row['person']} is in two splits")
        if split == "train" and row["licence_class"] == WEB:
            raise UserError(f"{path}: line {number}: of the class web nothing is learnt; not train")
    return found


def _dealt(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """Each person's split, by a hash of the name: a third each of those who may be learnt from and
    speak, halves of the others to fit and to measure on."""
    others = {row["person"] for row in rows if row["licence_class"] == WEB}
    speak = {row["person"] for row in rows if row["speaks"] == OWN}
    learns = speak - others
    groups = ((learns, SPLITS), (speak - learns, SPLITS[1:]))
    silent = {row["person"] for row in rows} - speak
    return {
        person: splits[i % len(splits)]
        for group, splits in (*groups, (silent, SPLITS[1:]))
        for i, person in enumerate(sorted(group, key=_hash))
    }


def _hash(person: str) -> bytes:
    return hashlib.sha256(person.encode()).digest()


def _look_into(clip: Clip) -> None:
    try:
        with av.open(f"file:{clip.path}") as container:
            pictures, sounds = container.streams.video, container.streams.audio
            if not pictures:
                raise UserError(f"{clip.path}: has no pictures")
            if clip.speaks and not sounds:
                raise UserError(f"{clip.path}: is to speak, and has no sound")
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{clip.path}: can't be read as a film ({error.strerror})") from None


def enough(path: Path, clips: Sequence[Clip], why: str = "") -> None:
    """
    Raises:
        UserError: there are too few persons of a split.
    """
    for split in SPLITS:
        some = [clip for clip in clips if clip.split == split]
        if len({clip.person for clip in some if clip.speaks}) < 2:
            raise UserError(f"{path}: fewer than two persons to {split} on who speak{why}")
        if split == "fit" and all(clip.speaks for clip in some):
            raise UserError(f"{path}: nobody to fit on who is silent{why}")
