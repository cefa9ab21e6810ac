"""Packs: the clips of a training at the network's sizes, in arrays that processes share by memory
map. Nothing is decoded or drawn while a network learns.

pack.json      {"schema", "count", "size": [h, w], "rate", "picture_at", "names", "kinds",
                "left_out"}
pictures.npy   uint8 [N, h, w, 3], RGB
samples.npy    int16 [N, S]
boxes.npy      float32 [N, K, 4]: x0, y0, x1, y1 in 0..1 of what sounds, then rows of NaN
known.npy      bool [N]: whether the boxes are known; known and without a box is a negative
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import DRAWN, RATE, Box, Cast, boxes, make_scene, with_sound_of
from avsl.engines import Samples, UserError
from avsl.train.data.folders import new_folder
from avsl.train.data.pool import half_size
from avsl.train.data.workers import in_parallel

SCHEMA = 1
At = Literal["end", "middle"]
"""Which moment of the sound a clip's picture is of."""


@dataclass(frozen=True)
class Pack:
    """An open pack; see the top of this file. Other processes open it for themselves."""

    folder: Path
    names: list[str]
    kinds: list[str]
    """Kind of each scene; empty for a folder's clips."""
    rate: int
    picture_at: At
    """Where in the samples the moment of the picture lies."""
    pictures: NDArray[np.uint8]
    samples: NDArray[np.int16]
    boxes: NDArray[np.float32]
    known: NDArray[np.bool_]
    left_out: dict[str, str]
    """Clips of the folder that could not be used, and why."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.pictures.shape[1], self.pictures.shape[2]

    def __len__(self) -> int:
        return len(self.names)

    def window(self, index: int, length: int) -> Samples:
        """The `length` samples, in [-1, 1], that belong to the moment of a clip's picture: they end
        there, or lie around it where sound goes on after it."""
        spare = self.samples.shape[1] - length
        start = spare if self.picture_at == "end" else spare // 2
        heard = self.samples[index, start : start + length]
        return heard.astype(np.float32) / np.float32(32767)


@dataclass(frozen=True)
class Clip:
    """A row of a pack: picture `[h, w, 3]`, samples `[S]`, boxes of what sounds if they are
    known."""

    name: str
    kind: str
    picture: NDArray[np.uint8]
    samples: NDArray[np.int16]
    boxes: list[Box] | None


def open_pack(folder: Path) -> Pack:
    """Opens a pack; pictures and samples stay on disk.

    Raises:
        UserError: there is no pack in `folder`, or it is damaged.
    """
    try:
        about = json.loads((folder / "pack.json").read_text("utf-8"))
        pack = Pack(
            folder,
            _strings(about["names"]),
            _strings(about["kinds"]),
            about["rate"],
            about["picture_at"],
            pictures=np.load(folder / "pictures.npy", mmap_mode="r"),
            samples=np.load(folder / "samples.npy", mmap_mode="r"),
            boxes=np.load(folder / "boxes.npy"),
            known=np.load(folder / "known.npy"),
            left_out=about["left_out"],
        )
        _check(pack, about)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: missing; pack the clips again") from None
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({error.strerror})") from None
    except KeyError as error:
        raise UserError(f"{folder}: damaged (no {error} in pack.json); pack it again") from None
    except (
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        EOFError,
        RecursionError,
    ) as error:
        raise UserError(f"{folder}: damaged ({error}); pack the clips again") from None
    return pack


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("names and kinds must be lists of words")
    return value


def _check(pack: Pack, about: dict[str, Any]) -> None:
    if about["schema"] != SCHEMA:
        raise ValueError(f"schema {about['schema']!r}, not {SCHEMA}")
    if pack.picture_at not in get_args(At):
        raise ValueError("picture_at makes no sense")
    if type(pack.rate) is not int or pack.rate <= 0 or type(pack.left_out) is not dict:
        raise ValueError("rate or left_out makes no sense")
    n, size = about["count"], tuple(about["size"])
    if n < 1 or not n == len(pack.names) == len(pack.kinds):
        raise ValueError("the count is not that of the names")
    expected = {
        "pictures": (np.uint8, (n, *size, 3)),
        "samples": (np.int16, (n, *pack.samples.shape[1:2])),
        "boxes": (np.float32, (n, *pack.boxes.shape[1:2], 4)),
        "known": (np.bool_, (n,)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(pack, name)
        if array.dtype != dtype or array.shape != shape or not array.size:
            raise ValueError(f"{name}.npy holds {array.dtype} {list(array.shape)}")


def write_pack(
    folder: Path,
    clips: Generator[Clip, None, None],
    rate: int,
    *,
    picture_at: At = "end",
    left_out: dict[str, str] | None = None,
) -> Pack:
    """Writes clips of one size as they come, beside `folder` first.

    Args:
        left_out: read after the last clip, so that whoever makes the clips can fill it.

    Raises:
        UserError: `folder` exists or can't be written, or there are no clips.
    """
    with new_folder(folder) as beside:
        names: list[str] = []
        kinds: list[str] = []
        known: list[list[Box] | None] = []
        size: tuple[int, ...] = ()
        with (
            closing(clips),  # or its processes outlive a failure for as long as its traceback
            (beside / "pictures.npy").open("wb") as pictures,
            (beside / "samples.npy").open("wb") as samples,
        ):
            for clip in clips:
                if not names:
                    size = clip.picture.shape
                    pictures.write(_header(clip.picture, 0))
                    samples.write(_header(clip.samples, 0))
                pictures.write(clip.picture.tobytes())
                samples.write(clip.samples.tobytes())
                names.append(clip.name)
                kinds.append(clip.kind)
                known.append(clip.boxes)
            if not names:
                raise UserError(f"{folder}: there is nothing to pack")
            for file, row in (pictures, clip.picture), (samples, clip.samples):
                file.seek(0)
                file.write(_header(row, len(names)))
        np.save(beside / "boxes.npy", _table(known))
        np.save(beside / "known.npy", np.array([found is not None for found in known]))
        about = {
            "schema": SCHEMA,
            "count": len(names),
            "size": size[:2],
            "rate": rate,
            "picture_at": picture_at,
            "names": names,
            "kinds": kinds,
            "left_out": dict(sorted((left_out or {}).items())),
        }
        (beside / "pack.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return open_pack(folder)


def _header(row: NDArray[Any], count: int) -> bytes:
    """The head of a .npy file of `count` such rows. numpy pads it so that its length is the same
    for any count: rows can be written before it is known how many there are."""
    head = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(row.dtype)
    about = {"descr": descr, "fortran_order": False, "shape": (count, *row.shape)}
    np.lib.format.write_array_header_1_0(head, about)
    return head.getvalue()


def _table(known: list[list[Box] | None]) -> NDArray[np.float32]:
    most = max(len(found or []) for found in known)
    table = np.full((len(known), max(1, most), 4), np.nan, np.float32)
    for row, found in zip(table, known, strict=True):
        if found:
            row[: len(found)] = found
    return table


def pack_scenes(
    folder: Path,
    seed: int,
    count: int,
    size: tuple[int, int],
    *,
    cast: Cast = DRAWN,
    swapped: bool = False,
    seconds: float = 1.5,
    progress: Callable[[int], None] = lambda done: None,
) -> Pack:
    """Packs scenes 0 to `count` - 1 of series `seed`, at time 0.

    Args:
        size: height and width; rendered at twice that and averaged.
        swapped: each scene in which one thing sounds is given the sound, and the box, of another
            thing in view; scenes where that can't be done are left out.
        seconds: how much sound; it ends at the moment of the picture.

    Raises:
        UserError: `folder` exists or can't be written.
    """
    # A cast is made of closures, which travel to other processes by fork alone.
    _job.update(seed=seed, size=size, cast=cast, swapped=swapped, seconds=seconds)
    return write_pack(folder, _scenes(count, progress), RATE)


def _scenes(count: int, progress: Callable[[int], None]) -> Generator[Clip, None, None]:
    for done, clip in enumerate(in_parallel(_scene, range(count)), 1):
        if clip:
            yield clip
        progress(done)


_job: dict[str, Any] = {}


def _scene(index: int) -> Clip | None:
    seed, seconds = _job["seed"], _job["seconds"]
    height, width = _job["size"]
    scene = make_scene(seed, index, cast=_job["cast"])
    if _job["swapped"]:
        if scene.kind != "one" or len(scene.things) < 2:
            return None
        scene = with_sound_of(scene, (scene.sounding(0)[0] + 1) % len(scene.things))
    picture, masks = scene.render(0, 2 * height, 2 * width)
    found = boxes(masks)
    seen = [found[i] for i in scene.sounding(0) if any(found[i])]
    if _job["swapped"] and not seen:
        return None
    samples = to_int16(scene.sound(-seconds, seconds))
    return Clip(f"s{seed}_{index:06d}", scene.kind, half_size(picture), samples, seen)


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Samples in [-1, 1] as int16."""
    return np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
