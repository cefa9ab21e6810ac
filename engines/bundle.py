"""The bundle: a folder with `model.json` and two ONNX graphs, the one truth for every backend.

`sound.onnx`    samples `[B, S]` float32 -> embedding `[B, E]` float32
`picture.onnx`  picture `[B, h, w, 3]` uint8 RGB, embedding `[B, E]` -> map `[B, m, n]` float32

A bundle that knows things by name lists their kinds, K words, and joins the two by them:

`sound.onnx`    samples `[B, S]` float32 -> heard `[B, K]` float32, independent probabilities
`picture.onnx`  picture `[B, h, w, 3]` uint8 RGB, heard `[B, K]` -> map `[B, m, n]` float32, that is
                1 - prod over k of (1 - heard_k seen_k), and kind `[B, m, n]` int32, which of the
                kinds carries each cell most
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from avsl.engines.errors import UserError
from avsl.engines.windows import WindowSpec

SCHEMA = 1
GRAPHS = ("sound.onnx", "picture.onnx")
NAME_LETTERS = 100
"""The most that an engine's name may have, or a kind's."""
MOST_KINDS = 1024
LEAST_SIDE, LARGEST_SIDE = 32, 4096
"""Pixels of a network's picture; the first holds for those that are fitted to a stream."""
NEARLY = 0.9
"""By this much a picture may be smaller than the largest there is room for, if that keeps its
shape."""
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
    kinds: tuple[str, ...] = field(default=(), kw_only=True)
    """What it knows by name, in plain words; empty where it has no names for things."""
    unheard: tuple[str, ...] = field(default=(), kw_only=True)
    """Those of them that it is not to hear."""
    picture_step: int | None = field(default=None, kw_only=True)
    """It takes any height and width that this divides; None: `picture_size` only."""
    room: int | None = field(default=None, kw_only=True)
    """Pixels that there are at most in what is fitted; None: as many as in `picture_size`."""

    def fitted(self, height: int, width: int) -> Self:
        """For a stream of pictures of this size: with the `picture_size` that keeps their shape as
        nearly as multiples of `picture_step` can, and has no more pixels than there is room for."""
        step, (tall, wide) = self.picture_step, self.picture_size
        if step is None:
            return self
        room = self.room or tall * wide
        least = max(step, -(-LEAST_SIDE // step) * step)
        shapes = []
        for h in range(least, min(LARGEST_SIDE, room // least) + 1, step):
            most = min(LARGEST_SIDE, room // h) // step * step
            near = h * width // height // step * step
            shapes += [(h, min(max(w, least), most)) for w in (near, near + step)]
        # How much smaller a picture gets is decided by the side that shrinks most. Of those that
        # lose but little to the best by it, the one that is stretched least.
        sizes = {shape: min(shape[0] / height, shape[1] / width) for shape in shapes}
        enough = NEARLY * max(sizes.values())

        def worth(shape: tuple[int, int]) -> tuple[float, float]:
            stretched = (shape[0] * width) / (shape[1] * height)
            return -max(stretched, 1 / stretched), sizes[shape]

        h, w = max((shape for shape in sizes if sizes[shape] >= enough), key=worth)
        m, n = self.map_size
        map_size = h * m // tall, w * n // wide
        return replace(self, picture_size=(h, w), map_size=map_size, room=room)


@dataclass(frozen=True)
class Bundle(EngineSpec):
    """A bundle on disk, its `model.json` read and its graphs checked against their hashes."""

    folder: Path
    embedding_size: int
    """Of what goes from the sound graph to the picture graph: one number for each kind, if there
    are kinds."""
    meta: dict[str, Any]
    """All of `model.json`: how and on what it was trained, calibration, measured scores."""

    @property
    def sound_graph(self) -> Path:
        return self.folder / "sound.onnx"

    @property
    def picture_graph(self) -> Path:
        return self.folder / "picture.onnx"

    @property
    def join(self) -> str:
        """What goes from the sound graph to the picture graph."""
        return "heard" if self.kinds else "embedding"


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


def check_graph(
    bundle: Bundle, graph: Path, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> None:
    """Holds one of a bundle's graphs, as the backend that opened it sees it, against `model.json`.

    Raises:
        UserError: it takes or gives something else.
    """
    join: tuple[int, ...] = (bundle.embedding_size,)
    wanted: dict[str, tuple[int, ...]] = {"samples": (bundle.window.length,)}
    gives: dict[str, tuple[int, ...]] = {bundle.join: join}
    if graph == bundle.picture_graph:
        wanted = {"picture": (*bundle.picture_size, 3), bundle.join: join}
        gives = dict.fromkeys(("map", "kind") if bundle.kinds else ("map",), bundle.map_size)
    if inputs.keys() != wanted.keys():
        raise UserError(f"{graph}: takes no {' and '.join(wanted)}; get the engine again")
    if not bundle.kinds:  # what comes out may have any name, for there is but one
        outputs = dict(zip(gives, outputs.values(), strict=False))
    if not gives.keys() <= outputs.keys():
        raise UserError(f"{graph}: gives no {' and '.join(gives)}; get the engine again")
    if bundle.picture_step and any(
        isinstance(side, int) for side in inputs.get("picture", ())[1:3]
    ):
        raise UserError(f"{graph}: takes pictures of one size, model.json says picture_step")
    found = {**inputs, **outputs}
    for name, sizes in {**wanted, **gives}.items():
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
    kinds = _kinds(meta["kinds"]) if "kinds" in meta else ()
    bundle = Bundle(
        folder=folder,
        name=meta["name"],
        version=meta["version"],
        window=WindowSpec(**{k: _whole(window, k) for k in WindowSpec.__annotations__}),
        picture_size=_size(meta, "picture_size"),
        map_size=_size(meta, "map_size"),
        embedding_size=len(kinds) or _whole(meta, "embedding_size"),
        thresholds=Thresholds(**{k: _number(thresholds, k) for k in Thresholds.__annotations__}),
        meta=meta,
        kinds=kinds,
        picture_step=_whole(meta, "picture_step") if "picture_step" in meta else None,
    )
    w, t, step = bundle.window, bundle.thresholds, bundle.picture_step
    sides = [*zip(bundle.picture_size, bundle.map_size, strict=True)]
    # What is asked of each, and the words for it. NaN fails each comparison.
    for sense, words in (
        (4_000 <= w.rate <= 192_000, "rate must lie in 4000..192000"),
        (w.rate / 20 <= w.length <= 60 * w.rate, "length must be 0.05 to 60 s of samples"),
        (w.rate / 1000 <= w.hop <= w.length, "hop must be 1 ms of samples to length"),
        (0 <= w.guard <= w.length, "guard must lie in 0..length"),
        (all(16 <= n <= LARGEST_SIDE for n, _ in sides), "picture_size must lie in 16..4096"),
        (
            all(1 <= m <= n for n, m in sides),
            "map_size must be at least 1 and at most picture_size",
        ),
        # All of these are worked out, whichever fails.
        (step is None or (step >= 8 and step % 2 == 0), "picture_step must be even and at least 8"),
        (
            not step or all(n % step == 0 and n >= LEAST_SIDE for n, _ in sides),
            f"picture_step must divide picture_size, of {LEAST_SIDE} or more",
        ),
        (
            not step or all(1 <= m <= n and n % m == 0 and step % (n // m) == 0 for n, m in sides),
            "map_size must divide picture_size into cells that divide picture_step",
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


def _kinds(words: Any) -> tuple[str, ...]:
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise ValueError("kinds must be a list of words")
    if not all(is_name(word) and word == word.strip() and "," not in word for word in words):
        raise ValueError(
            f"each of kinds must be up to {NAME_LETTERS} letters that can be printed, no comma"
        )
    if not 1 <= len({word.casefold() for word in words}) == len(words) <= MOST_KINDS:
        raise ValueError(f"kinds must be 1 to {MOST_KINDS} different words")
    return tuple(words)


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
