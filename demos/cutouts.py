"""A cast from a person's own things: cut-outs with alpha, their sounds, their backgrounds.

mine/
  kettle/        a family: any number of PNGs with alpha and of sounds (WAV, FLAC, MP3, ...)
  doorbell/
  backgrounds/   pictures of the place without the things (JPEG, PNG); may be missing
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from avsl.demos.looks import background as drawn_background
from avsl.demos.scenes import RATE, Cast, Family, Mask, Painter
from avsl.demos.voices import Samples, Voice

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
BACKGROUNDS = "backgrounds"
LARGEST = 640
"""Pictures are kept at no more than this many pixels a side."""
LONGEST_S = 30


def load_cutouts(folder: Path) -> Cast:
    """Reads a folder of cut-outs.

    Raises:
        ValueError: the folder has no family, or a file in it can't be used; the message names it.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    families = [_family(path) for path in folders if path.name != BACKGROUNDS]
    if len(families) < 2:
        raise ValueError(
            f"{folder}: needs a folder for each of two or more families, with PNGs and sounds"
        )
    places = [
        picture(path).astype(np.float32)[..., :3] / 255
        for path in _files(folder / BACKGROUNDS, PICTURES)
    ]

    def background(rng: np.random.Generator, height: int, width: int, aspect: float) -> Mask:
        if not places:
            return drawn_background(rng, height, width, aspect)
        place = places[rng.integers(len(places))]
        h, w = place.shape[:2]
        # A part of the picture of the right aspect, so that nothing in it is squeezed.
        part = rng.uniform(0.7, 1) * min(w, h * aspect)
        tall = part / aspect
        x0, y0 = rng.uniform(0, w - part), rng.uniform(0, h - tall)
        rows = np.minimum(y0 + (np.arange(height) + 0.5) * tall / height, h - 1).astype(int)
        columns = np.minimum(x0 + (np.arange(width) + 0.5) * part / width, w - 1).astype(int)
        return place[rows[:, None], columns] * np.float32(rng.uniform(0.6, 1.1)).clip(0, 1)

    return Cast(tuple(families), background)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes)


def _family(folder: Path) -> Family:
    pictures = [_cutout(path) for path in _files(folder, (".png",))]
    sounds = [sound(path) for path in _files(folder, SOUNDS)]
    if not pictures or not sounds:
        missing = "sounds" if pictures else "PNGs with alpha"
        raise ValueError(f"{folder}: has no {missing}; a family needs both")
    return Family(
        folder.name,
        lambda rng: _painter(pictures[rng.integers(len(pictures))]),
        lambda rng: _voice(sounds[rng.integers(len(sounds))], rng.uniform(0, 30)),
    )


def picture(path: Path) -> NDArray[np.uint8]:
    """Reads a still picture as RGBA `[h, w, 4]`, made smaller where it is over `LARGEST`."""
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration, IndexError):
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
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def sound(path: Path) -> Samples:
    """Reads a sound as mono float32 at `RATE`, no more than `LONGEST_S`, its peak at 1."""
    resampler = av.AudioResampler("flt", "mono", RATE)
    blocks: list[Any] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                blocks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
                if sum(map(len, blocks)) > LONGEST_S * RATE:
                    break
            blocks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, IndexError):
        raise ValueError(f"{path}: can't be read as a sound") from None
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    if peak < 1e-4:
        raise ValueError(f"{path}: is silent")
    return (samples / peak).astype(np.float32)


def _voice(samples: Samples, start: float) -> Voice:
    """The sound, again and again, from somewhere in it on."""
    return lambda t: samples[np.floor((t + start) * RATE).astype(np.int64) % len(samples)]


def _painter(rgba: NDArray[np.uint8]) -> Painter:
    h, w = rgba.shape[:2]

    def paint(
        canvas: Mask, x: float, y: float, size: float, pixels: tuple[float, float]
    ) -> tuple[Mask, tuple[slice, slice]]:
        width = size if w >= h else size * w / h
        height = width * h / w
        across, down = max(2, round(width * pixels[0])), max(2, round(height * pixels[1]))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), format="rgba")
        scaled: Any = frame.reformat(across, down, "rgba", interpolation=Interpolation.AREA)
        part = scaled.to_ndarray()
        left, top = round(x * pixels[0] - across / 2), round(y * pixels[1] - down / 2)
        x0, y0 = max(0, left), max(0, top)
        x1 = max(x0, min(canvas.shape[1], left + across))
        y1 = max(y0, min(canvas.shape[0], top + down))
        where = slice(y0, y1), slice(x0, x1)
        part = part[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32) / 255
        cover = part[..., 3]
        canvas[where] += (part[..., :3] - canvas[where]) * cover[..., None]
        return cover, where

    return paint
