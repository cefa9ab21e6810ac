"""The bundle: a folder with `model.json` and two ONNX graphs, the one truth for every backend.

`sound.onnx`    samples `[B, S]` float32 -> embedding `[B, E]` float32
`picture.onnx`  picture `[B, h, w, 3]` uint8 RGB, embedding `[B, E]` -> map `[B, m, n]` float32
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsl.engines.errors import UserError
from avsl.engines.windows import WindowSpec

SCHEMA = 1
GRAPHS = ("sound.onnx", "picture.onnx")
NAME_LETTERS = 100
"""The most that an engine's name may have."""
DEFAULT = Path(__file__).parent / "default"
"""The engine for real things that ships."""
DRAWN = Path(__file__).parent / "drawn"
"""The engine for drawn things, of the demo and the tests."""


@dataclass(frozen=True)
class Thresholds:
    """Where the states begin; probabilities lie in 0..1, levels in dBFS.

    `glow` is the probability from which a cell counts as sounding (boxes, overlay); a score under
    `unseen` means that nothing in view makes the sound, from `sounding` on something does, between
    them the engine is unsure. Sound under `gate_db`, or less than `gate_margin_db` above the
    room's own noise, is silence.
    """

    glow: float
    unseen: float
    sounding: float
    gate_db: float
    gate_margin_db: float


@dataclass(frozen=True)
class EngineSpec:
    """What those who feed an engine, draw its maps or write them down must know of it."""

    name: str
    version: str
    window: WindowSpec
    picture_size: tuple[int, int]
    """Height and width of the engine's picture; every picture is stretched to it."""
    map_size: tuple[int, int]
    thresholds: Thresholds


@dataclass(frozen=True)
class Bundle(EngineSpec):
    """A bundle on disk, its `model.json` read and its graphs checked against their hashes."""

    folder: Path
    embedding_size: int
    meta: dict[str, Any]
    """All of `model.json`: how and on what it was trained, calibration, measured scores."""

    @property
    def sound_graph(self) -> Path:
        return self.folder / "sound.onnx"

    @property
    def picture_graph(self) -> Path:
        return self.folder / "picture.onnx"


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_bundle(folder: Path | str = DEFAULT) -> Bundle:
    """Reads and checks a bundle.

    Raises:
        UserError: a file is missing, `model.json` doesn't say what a bundle must, or a graph is
            not the one that `model.json` was written for.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such engine folder; an engine is a folder with model.json")
    about = folder / "model.json"
    if not about.is_file():
        raise UserError(f"{folder}: not an engine, model.json is missing")
    try:
        meta = json.loads(about.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{about}: can't be read as JSON ({error})") from None
    try:
        if (schema := _whole(meta, "schema")) != SCHEMA:
            raise UserError(
                f"{folder}: engine schema {schema}, this avsl reads {SCHEMA}; "
                "build the engine again or update avsl"
            )
        bundle = _bundle(folder, meta)
        hashes = {name: str(meta["sha256"][name]) for name in GRAPHS}
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(
            f"{about}: not a bundle's description ({type(error).__name__}: {error})"
        ) from None
    for name, digest in hashes.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{folder}: not a whole engine, {name} is missing")
        if sha256(path) != digest:
            raise UserError(
                f"{path}: changed or damaged (its sha256 is not the one in model.json); "
                "get the engine again"
            )
    return bundle


Shape = Sequence[int | str | None]
"""Of what goes into a graph or comes out of it; a side that is no number may be any, and none at
all says nothing."""


def check_graph(bundle: Bundle, graph: Path, inputs: Mapping[str, Shape], output: Shape) -> None:
    """Holds one of a bundle's graphs, as the backend that opened it sees it, against `model.json`.

    Raises:
        UserError: it takes or gives something else.
    """
    embedding: tuple[int, ...] = (bundle.embedding_size,)
    wanted: dict[str, tuple[int, ...]] = {"samples": (bundle.window.length,)}
    gives, made = "embedding", embedding
    if graph == bundle.picture_graph:
        wanted = {"picture": (*bundle.picture_size, 3), "embedding": embedding}
        gives, made = "map", bundle.map_size
    if inputs.keys() != wanted.keys():
        raise UserError(f"{graph}: takes no {' and '.join(wanted)}; get the engine again")
    found = {**inputs, gives: output}
    for name, sizes in {**wanted, gives: made}.items():
        sides = (found[name] or (None, *sizes))[1:]  # the first one is of rows
        if len(sides) != len(sizes) or any(
            isinstance(side, int) and side != size for side, size in zip(sides, sizes, strict=True)
        ):
            has = " x ".join(str(side) for side in sides if isinstance(side, int))
            says = " x ".join(map(str, sizes))
            raise UserError(
                f"{graph}: its {name} is {has or 'one number'}, model.json says {says}; "
                "get the engine again"
            )


def is_name(word: str) -> bool:
    """Whether an engine may be called so: names are shown in windows, lines and file names."""
    return 0 < len(word) <= NAME_LETTERS and word.isprintable()


def _bundle(folder: Path, meta: dict[str, Any]) -> Bundle:
    """What `model.json` says, if it makes sense.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it doesn't.
    """
    for key in ("name", "version"):
        if not isinstance(meta[key], str) or not is_name(meta[key]):
            raise ValueError(f"{key} must be up to {NAME_LETTERS} letters that can be printed")
    window, thresholds = meta["window"], meta["thresholds"]
    bundle = Bundle(
        folder=folder,
        name=meta["name"],
        version=meta["version"],
        window=WindowSpec(**{k: _whole(window, k) for k in WindowSpec.__annotations__}),
        picture_size=_size(meta, "picture_size"),
        map_size=_size(meta, "map_size"),
        embedding_size=_whole(meta, "embedding_size"),
        thresholds=Thresholds(**{k: _number(thresholds, k) for k in Thresholds.__annotations__}),
        meta=meta,
    )
    w, t = bundle.window, bundle.thresholds
    # What is asked of each, and the words for it. NaN fails each comparison.
    for sense, words in (
        (4_000 <= w.rate <= 192_000, "rate must lie in 4000..192000"),
        (w.rate / 20 <= w.length <= 60 * w.rate, "length must be 0.05 to 60 s of samples"),
        (w.rate / 1000 <= w.hop <= w.length, "hop must be 1 ms of samples to length"),
        (0 <= w.guard <= w.length, "guard must lie in 0..length"),
        (all(16 <= n <= 4096 for n in bundle.picture_size), "picture_size must lie in 16..4096"),
        (
            all(1 <= m <= n for m, n in zip(bundle.map_size, bundle.picture_size, strict=True)),
            "map_size must be at least 1 and at most picture_size",
        ),
        (1 <= bundle.embedding_size <= 65_536, "embedding_size must lie in 1..65536"),
        (0 < t.glow <= 1, "glow must lie in 0..1"),
        (0 <= t.unseen <= t.sounding <= 1, "unseen and sounding must lie in 0..1, in this order"),
        (-120 <= t.gate_db <= 0, "gate_db must lie in -120..0"),
        (0 <= t.gate_margin_db <= 60, "gate_margin_db must lie in 0..60"),
    ):
        if not sense:
            raise ValueError(words)
    return bundle


def _whole(values: Any, key: str) -> int:
    if type(values[key]) is not int:
        raise ValueError(f"{key} must be a whole number")
    return int(values[key])


def _size(values: Any, key: str) -> tuple[int, int]:
    height, width = values[key]
    if (type(height), type(width)) != (int, int):
        raise ValueError(f"{key} must be two whole numbers")
    return height, width


def _number(values: Any, key: str) -> float:
    if type(values[key]) not in (int, float):
        raise ValueError(f"{key} must be a number")
    return float(values[key])
