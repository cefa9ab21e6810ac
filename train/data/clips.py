"""A folder of clips in the field's layout, packed; what can't be used is found here, all of it,
before anything is trained.

frames/<id>.jpg    audio/<id>.wav    boxes.json (a list of {file, class, bbox}, as VGG-SS has it)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import RATE, Box
from avsl.demos.scenes.cutouts import PICTURES
from avsl.demos.scenes.recordings import SOUNDS
from avsl.engines import Picture, Resizer, UserError
from avsl.train.data.pack import At, Clip, Pack, write_pack
from avsl.train.data.workers import in_parallel

# What a hostile or mistaken folder may cost at most.
LARGEST_JSON = 512 << 20
MOST_PIXELS = 100_000_000
MOST_BOXES = 100
LONGEST_S = 600
LOWEST_RATE = 1000
LOUDEST = 100.0
"""Times full scale: a sample over it, or one that is no number, is damage."""

OUTSIDE = 0.01
"""How far a box may reach out of the picture by rounding; it is cut off there."""

_BOUNDED = {"protocol_whitelist": "none", "max_pixels": str(MOST_PIXELS)}
"""A playlist that calls itself a picture or a sound may not open other files."""


class _Bad(Exception):
    """Why a clip can't be used."""


@dataclass(frozen=True)
class Listing:
    """A folder of clips by its names and boxes alone; nothing is decoded yet."""

    folder: Path
    pictures: dict[str, list[Path]]
    sounds: dict[str, list[Path]]
    boxes: dict[str, list[Box]]
    bad: dict[str, str]
    """Clips that can't be used, and why, as far as it is known."""

    @property
    def there(self) -> set[str]:
        """Clips with a picture or a sound."""
        return self.pictures.keys() | self.sounds.keys()

    @property
    def good(self) -> list[str]:
        """What is left, in order."""
        return sorted(self.there - self.bad.keys())

    def check(self, skip_bad: bool) -> None:
        """
        Raises:
            UserError: a clip can't be used and is not to be left out, or none is left.
        """
        if self.bad and (not skip_bad or self.bad.keys() >= self.there):
            total = len(self.there | self.bad.keys())
            raise UserError(f"{self.folder}: {_complaint(self.bad, total, skip_bad)}")


def list_clips(clips: Path) -> Listing:
    """What lies in a folder of clips.

    Raises:
        UserError: it has no frames or no audio, or its boxes.json can't be read.
    """
    pictures, sounds = _by_id(clips / "frames", PICTURES), _by_id(clips / "audio", SOUNDS)
    known, bad = _read_boxes(clips / "boxes.json")
    found = Listing(clips, pictures, sounds, known, bad)
    for name in known.keys() - found.there:
        bad[name] = "is in boxes.json, but has no picture and no sound"
    for name in found.there:
        for what, files in ("picture", pictures.get(name, [])), ("sound", sounds.get(name, [])):
            if len(files) != 1:
                bad[name] = f"has {len(files)} {what}s" if files else f"has no {what}"
            elif not files[0].is_file():  # opening a pipe would wait for ever
                bad[name] = f"has a {what} that is no file"
    return found


def pack_clips(
    clips: Path,
    folder: Path,
    size: tuple[int, int],
    *,
    seconds: float,
    rate: int = RATE,
    picture_at: At = "end",
    skip_bad: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pack:
    """Packs the clips in `clips` that have a picture and a sound, in the order of their ids.

    Args:
        size: height and width that pictures are stretched to.
        seconds: how much sound is kept.
        picture_at: `end` keeps the last of the sound, after silence where it is short; `middle`
            what is around its middle, repeated where it is short, as the field does.
        skip_bad: leave out what can't be used; `Pack.left_out` says what and why.
        progress: told how many clips are done, and of how many.

    Raises:
        UserError: a clip can't be used, there are none, or `folder` can't be written.
    """
    found = list_clips(clips)
    good = found.good
    read = partial(_read, size=size, length=round(seconds * rate), rate=rate, picture_at=picture_at)
    jobs = (
        (name, found.pictures[name][0], found.sounds[name][0], found.boxes.get(name))
        for name in good
    )

    def usable() -> Generator[Clip, None, None]:
        for done, (name, clip) in enumerate(zip(good, in_parallel(read, jobs), strict=True), 1):
            if isinstance(clip, str):
                found.bad[name] = clip
            elif skip_bad or not found.bad:
                yield clip
            progress(done, len(good))
        found.check(skip_bad)

    return write_pack(folder, usable(), rate, picture_at=picture_at, left_out=found.bad)


def _by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Files by what their names are without the suffix."""
    found: dict[str, list[Path]] = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in suffixes and not path.name.startswith("."):
                found.setdefault(path.stem, []).append(path)
    except OSError as error:
        raise UserError(
            f"{folder}: can't be read ({error.strerror}); clips are frames/<id>.jpg and "
            "audio/<id>.wav"
        ) from None
    if not found:
        raise UserError(f"{folder}: holds no {', '.join(suffixes)}")
    return found


def _complaint(bad: dict[str, str], total: int, skip_bad: bool) -> str:
    first = [f"{shown(name)} {reason}" for name, reason in sorted(bad.items())[:3]]
    more = ["..."] if len(bad) > len(first) else []
    advice = "none is left" if skip_bad else "--skip-bad leaves them out"
    return f"{len(bad)} of {total} clips can't be used: {'; '.join(first + more)} ({advice})"


def shown(name: str) -> str:
    """An id as it can be printed in a line, whatever is in it."""
    return (name if name.isprintable() else ascii(name))[:80]


def _read_boxes(path: Path) -> tuple[dict[str, list[Box]], dict[str, str]]:
    """Boxes by id, and which ids have impossible ones, and why; nothing where there is no file."""
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path}: is no file; boxes.json is a list of boxes")
        if path.stat().st_size > LARGEST_JSON:
            raise UserError(f"{path}: is over {LARGEST_JSON >> 20} MB; is it a list of boxes?")
        entries = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: must be a list of {{file, class, bbox}}")
    known: dict[str, list[Box]] = {}
    bad: dict[str, str] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        name, found = (entry.get(key) if isinstance(entry, dict) else None for key in _KEYS)
        if not isinstance(name, str) or not isinstance(found, list):
            raise UserError(f"{where}: must be {{file: an id, bbox: [[x0, y0, x1, y1], ...]}}")
        if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
            raise UserError(f"{where}: {shown(name)!r} is not an id; it may not name a folder")
        if name in known:
            bad[name] = "is in boxes.json twice"
        known[name] = []
        try:
            known[name] = _boxes(found)
        except _Bad as reason:
            bad.setdefault(name, str(reason))
    return known, bad


_KEYS = ("file", "bbox")


def _boxes(values: list[Any]) -> list[Box]:
    if len(values) > MOST_BOXES:
        raise _Bad(f"has {len(values)} boxes; {MOST_BOXES} are the most")
    return [_box(value) for value in values]


def _box(value: Any) -> Box:
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(type(v) in (int, float) and abs(v) < 1e300 for v in value)
    ):
        raise _Bad("has a box that is not four finite numbers")
    text = ", ".join(f"{v:.4g}" for v in value)
    if min(value) < -OUTSIDE or max(value) > 1 + OUTSIDE:
        raise _Bad(f"has a box outside 0..1 [{text}]")
    x0, y0, x1, y1 = (min(max(float(v), 0.0), 1.0) for v in value)
    if x1 <= x0 or y1 <= y0:
        raise _Bad(f"has an empty box [{text}]")
    return x0, y0, x1, y1


def _read(
    job: tuple[str, Path, Path, list[Box] | None],
    *,
    size: tuple[int, int],
    length: int,
    rate: int,
    picture_at: At,
) -> Clip | str:
    """A clip, or why it can't be used."""
    name, picture, sound, known = job
    try:
        samples = _cut(_sound(sound, rate), length, picture_at)
        return Clip(name, "", _picture(picture, size), samples, known)
    except _Bad as reason:
        return str(reason)


def _picture(path: Path, size: tuple[int, int]) -> Picture:
    try:
        with path.open("rb") as file, av.open(file, "r", options=_BOUNDED) as container:
            container.streams.video[0].codec_context.options = _BOUNDED
            return Resizer(size)(next(container.decode(video=0)))
    except (av.FFmpegError, OSError, ValueError, IndexError, StopIteration):
        raise _Bad("has a picture that can't be read, or of over 100 megapixels") from None


def _sound(path: Path, rate: int) -> NDArray[np.int16]:
    """The whole of a sound, mono."""
    resampler = av.AudioResampler("s16", "mono", rate)
    blocks: list[NDArray[np.int16]] = []
    left = LONGEST_S * rate
    try:
        with path.open("rb") as file, av.open(file, "r", options=_BOUNDED) as container:
            stream = container.streams.audio[0]
            if stream.rate < LOWEST_RATE:
                raise _Bad(f"has a sound of {stream.rate} samples a second")
            for frame in chain(container.decode(stream), [None]):
                if frame and frame.format.name.startswith(("flt", "dbl")):
                    peak = np.abs(frame.to_ndarray()).max(initial=0)
                    if not peak <= LOUDEST:
                        raise _Bad(f"has a sound with samples of {peak:.3g} times full scale")
                for out in resampler.resample(frame):
                    blocks.append(out.to_ndarray()[0])
                    left -= out.samples
                if left < 0:
                    raise _Bad(f"has a sound of over {LONGEST_S} s")
    except (av.FFmpegError, OSError, ValueError, IndexError):
        raise _Bad("has a sound that can't be read") from None
    if not any(map(len, blocks)):
        raise _Bad("has a sound without samples")
    return np.concatenate(blocks)


def _cut(samples: NDArray[np.int16], length: int, picture_at: At) -> NDArray[np.int16]:
    if picture_at == "end":
        end = samples[-length:]
        return np.pad(end, (length - len(end), 0))
    if len(samples) < length:
        return np.tile(samples, -(-length // len(samples)))[:length]
    start = (len(samples) - length) // 2
    return samples[start : start + length]
