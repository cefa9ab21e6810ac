"""The kinds of things that an engine knows by name, and which classes of the teachers mean each.

`kinds.tsv` has a row for each: its words, its group, AudioSet classes that are its own sounds,
those of its family (`audioset_parents`: a parent says only that something of the family sounds),
and ImageNet classes that show it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl.engines import UserError

TABLE = Path(__file__).parent / "kinds.tsv"
AUDIOSET, IMAGENET = 521, 1000


@dataclass(frozen=True)
class Kind:
    """A kind of thing."""

    key: str
    """What folders of pictures and sounds are called."""
    words: str
    group: str
    own: tuple[int, ...]
    parents: tuple[int, ...]
    imagenet: tuple[int, ...]


def load_kinds(path: Path = TABLE) -> tuple[Kind, ...]:
    """Reads a table of kinds; a kind that is never heard is left out.

    Raises:
        UserError: the table can't be read, or names a class that there isn't.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        kinds = [
            Kind(
                row["kind"],
                row["words"],
                row["group"],
                _classes(row["audioset"], AUDIOSET),
                _classes(row["audioset_parents"], AUDIOSET),
                _classes(row["imagenet"], IMAGENET),
            )
            for row in rows
        ]
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except (KeyError, AttributeError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table of kinds ({error})") from None
    heard = tuple(kind for kind in kinds if kind.own or kind.parents)
    for names in ([kind.key for kind in heard], [kind.words for kind in heard]):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path}: {twice[0]} stands there twice")
    if not heard:
        raise UserError(f"{path}: no kind in it that can be heard")
    return heard


def _classes(cell: str, count: int) -> tuple[int, ...]:
    found = tuple(int(part.split(maxsplit=1)[0]) for part in cell.split(";") if part.strip())
    for number in found:
        if not 0 <= number < count:
            raise ValueError(f"there is no class {number}, they end at {count - 1}")
    return found


@lru_cache(4)
def families(kinds: tuple[Kind, ...]) -> tuple[tuple[int, ...], ...]:
    """The different sets of parents that there are."""
    return tuple(sorted({kind.parents for kind in kinds if kind.parents}))


def belongs(kinds: tuple[Kind, ...]) -> NDArray[np.float32]:
    """`[K, K]`: 1 where the second is the first itself, or the family that it belongs to."""
    return np.array(
        [
            [
                one is other or (bool(one.parents) and {*one.parents} <= {*other.own})
                for other in kinds
            ]
            for one in kinds
        ],
        np.float32,
    )


def most(scores: NDArray[np.float32], classes: tuple[tuple[int, ...], ...]) -> NDArray[np.float32]:
    """The highest score of each set of `classes`, `[..., C]` to `[..., len(classes)]`; none: 0."""
    none = np.zeros(scores.shape[:-1], np.float32)
    return np.stack([scores[..., list(c)].max(-1) if c else none for c in classes], -1)
