"""A cast from a person's own things: cut-outs with alpha, their sounds, their backgrounds.

mine/
  kettle/        a family: any number of PNGs with alpha and of sounds (WAV, FLAC, MP3, ...)
  doorbell/
  backgrounds/   pictures of the place without the things (JPEG, PNG); may be missing
  strangers/     what makes no sound, a folder of PNGs for each kind, and sounds of what is never in
                 view; may be missing

`avsl-train prepare` makes such folders out of photographs. In those the alpha marks the thing, and
the photograph goes on under it; a family may be sounds alone, then it is never in view, or pictures
alone, then it is a stranger.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from avsl.demos.scenes.cast import Cast, Family
from avsl.demos.scenes.looks import background as drawn_background
from avsl.demos.scenes.photos import Rgba, photo_host, photo_painter, photo_place, webcam
from avsl.demos.scenes.recordings import SOUNDS, recorded_voice, sound, without_gaps
from avsl.demos.scenes.voices import Samples, stranger_voice

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
BACKGROUNDS, STRANGERS = "backgrounds", "strangers"
PREPARED = "prepared.json"
"""Beside folders that `avsl-train prepare` has made."""
LARGEST = 640
"""Pictures are kept at no more than this many pixels a side."""
WHOLE_SIZES = (0.13, 0.65)
"""Of photographed things, which may fill more of the picture than drawn ones: `Cast.sizes`."""


def load_cutouts(folder: Path) -> Cast:
    """Reads a folder of cut-outs.

    Raises:
        ValueError: the folder has no family, or a file in it can't be used; the message names it.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    folders = [path for path in folders if path.name not in (BACKGROUNDS, STRANGERS)]
    if len(folders) < 2:
        raise ValueError(
            f"{folder}: needs a folder for each of two or more families, with PNGs and sounds"
        )
    whole = (folder.parent / PREPARED).exists()
    behind = _sounds(folder / STRANGERS)
    families, photos = [], []
    dumb: list[tuple[str, list[Rgba]]] = []
    for path in folders:
        looks, voices = _cutouts(path), _sounds(path)
        if whole and bool(looks) != bool(voices):  # heard and never in view, or seen and silent
            behind += voices
            dumb += [(path.name, looks)] if looks else []
            continue
        if not looks or not voices:
            missing = "sounds" if looks else "PNGs with alpha"
            raise ValueError(f"{path}: has no {missing}; a family needs both")
        families.append(_family(path.name, looks, voices, behind, whole))
        photos.append((families[-1], looks))
    places = [picture(path)[..., :3] for path in _files(folder / BACKGROUNDS, PICTURES)]
    cast: dict[str, Any] = {}
    dumb += _strangers(folder / STRANGERS)
    silent = tuple(_family(name, looks, behind, [], whole) for name, looks in dumb)
    if silent:
        cast["strangers"] = silent
    if behind:
        cast["outside"] = lambda rng: recorded_voice(rng, behind)
    if whole:
        cast["host"] = lambda rng, aspect: photo_host(rng, aspect, photos)
        cast["camera"] = webcam
        cast["sizes"] = WHOLE_SIZES
    return Cast(tuple(families), photo_place(places) if places else drawn_background, **cast)


def _family(
    name: str, looks: list[Rgba], voices: list[Samples], behind: list[Samples], whole: bool
) -> Family:
    return Family(
        name,
        lambda rng: photo_painter(rng, looks[rng.integers(len(looks))], whole),
        (lambda rng: recorded_voice(rng, voices, behind)) if voices else stranger_voice,
    )


def _strangers(folder: Path) -> list[tuple[str, list[Rgba]]]:
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    return [(path.name, looks) for path in folders if (looks := _cutouts(path))]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes)


def _sounds(folder: Path) -> list[Samples]:
    return [without_gaps(sound(path)) for path in _files(folder, SOUNDS)]


def _cutouts(folder: Path) -> list[Rgba]:
    return [_cutout(path) for path in _files(folder, (".png",))]


def picture(path: Path) -> NDArray[np.uint8]:
    """Reads a still picture as RGBA `[h, w, 4]`, made smaller where it is over `LARGEST`."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: is no file")
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, OSError, StopIteration, IndexError):
        raise ValueError(f"{path}: can't be read as a picture") from None
    scale = min(1.0, LARGEST / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    small: Any = frame.reformat(width, height, "rgba", interpolation=Interpolation.AREA)
    return small.to_ndarray()


def _cutout(path: Path) -> NDArray[np.uint8]:
    rgba = picture(path)
    alpha = rgba[..., 3] > 127
    if alpha.all() or not alpha.any():
        raise ValueError(f"{path}: has no alpha that cuts something out")
    return rgba
