"""The bundle: a folder with `model.json` and two ONNX graphs, the one truth for every backend.

`sound.onnx`    samples `[B, S]` float32 -> embedding `[B, E]` float32
`picture.onnx`  picture `[B, h, w, 3]` uint8 RGB, embedding `[B, E]` -> map `[B, m, n]` float32
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsl.engines.errors import UserError
from avsl.engines.windows import WindowSpec

SCHEMA = 1
GRAPHS = ("sound.onnx", "picture.onnx")
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
    try:
        meta = json.loads((folder / "model.json").read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: not an engine, model.json is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'model.json'}: can't be read as JSON ({error})") from None
    try:
        if meta["schema"] != SCHEMA:
            raise UserError(
                f"{folder}: engine schema {meta['schema']}, this avsl reads {SCHEMA}; "
                "build the engine again or update avsl"
            )
        bundle = Bundle(
            folder=folder,
            name=str(meta["name"]),
            version=str(meta["version"]),
            window=WindowSpec(**{k: int(meta["window"][k]) for k in WindowSpec.__annotations__}),
            picture_size=(int(meta["picture_size"][0]), int(meta["picture_size"][1])),
            map_size=(int(meta["map_size"][0]), int(meta["map_size"][1])),
            embedding_size=int(meta["embedding_size"]),
            thresholds=Thresholds(
                **{k: float(meta["thresholds"][k]) for k in Thresholds.__annotations__}
            ),
            meta=meta,
        )
        hashes = {name: str(meta["sha256"][name]) for name in GRAPHS}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{folder / 'model.json'}: not a bundle's description ({type(error).__name__}: {error})"
        ) from None
    w = bundle.window
    sizes = (w.rate, w.length, w.hop, *bundle.picture_size, *bundle.map_size, bundle.embedding_size)
    if min(sizes) < 1 or max(sizes) > 1_000_000 or not 0 <= w.guard <= w.length:
        raise UserError(f"{folder / 'model.json'}: a size in it makes no sense")
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
