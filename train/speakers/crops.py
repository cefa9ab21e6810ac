"""What Light-ASD and LR-ASD are given: grey crops of a face, 25 a second; MFCC, 100 a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from avsl.engines import UserError

Array = NDArray[np.float32]
Crops = NDArray[np.uint8]
Look = Callable[[Crops, Array], Array]
"""From crops `[T, 112, 112]` and MFCC `[4T, 13]` to scores `[T]`."""

PER_SECOND = 25
RATE = 16_000
SIDE = 112
"""Pixels of a crop."""
MARGIN = 0.4
"""In halves of a box: a crop's side is (1 + 0.4) / 2 = 0.7 of the box's, brow to chin, and its
middle lies 0.4 / 2 = 0.2 of a side below the box's."""
OUTSIDE = 110
"""Grey of what lies outside the picture."""
SMOOTH = 13
"""Boxes whose median a box is."""
STEPS = 4
"""MFCC a picture."""
LENGTHS = (1, 2, 3, 4, 5, 6)
"""Seconds of the windows that a film is cut into, once for each; the mean counts, as published."""

FRAME, STEP, FFT = 400, 160, 512
FILTERS, CEPSTRA, LIFTER = 26, 13, 22
EMPHASIS = 0.97
TINY = float(np.finfo(float).eps)


def scores(
    look: Look,
    pictures: Sequence[NDArray[np.uint8]],
    boxes: ArrayLike,
    samples: Array,
    times: ArrayLike | None = None,
    lengths: Sequence[int] = LENGTHS,
) -> Array:
    """How much one face speaks, 25 times a second, for as long as there are pictures and sound.

    Args:
        look: a network, as `look_of` or `open_look` give it.
        pictures: RGB `[h, w, 3]`, in which the face is all the time.
        boxes: its box in each, `x0 y0 x1 y1` in pixels, brow to chin.
        samples: sound at 16 kHz from the first picture's moment, or from 0 of `times`.
        times: of the pictures in seconds; without, they are 25 a second.
        lengths: seconds of the windows whose scores are averaged; a live look has one.
    """
    boxes = np.asarray(boxes, float)
    if boxes.shape != (len(pictures), 4) or not len(pictures):
        raise ValueError(f"{len(pictures)} pictures and boxes of shape {boxes.shape}")
    shown = range(len(pictures)) if times is None else at_25(times)
    faces = crops([pictures[i] for i in shown], boxes[shown])
    heard = mfcc(samples)
    count = min(len(faces), len(heard) // STEPS)
    total = np.zeros(count, np.float32)
    for seconds in lengths:
        size = seconds * PER_SECOND
        for at in range(0, count, size):
            till = min(at + size, count)
            total[at:till] += look(faces[at:till], heard[at * STEPS : till * STEPS])
    return total / np.float32(len(lengths))


def at_25(times: ArrayLike) -> list[int]:
    """Which picture is shown at each 25th of a second from 0 on, as FFmpeg's `-r 25` has it: the
    last one whose time is rounded to that or an earlier one."""
    at = np.asarray(times, float)
    if at.ndim != 1 or not len(at) or (np.diff(at) <= 0).any():
        raise ValueError("times of pictures must rise")
    lasts = float(np.median(np.diff(at))) if len(at) > 1 else 1 / PER_SECOND
    ticks = np.arange(max(1, round((at[-1] + lasts) * PER_SECOND)))
    last = np.searchsorted(np.floor(at * PER_SECOND + 0.5), ticks, side="right") - 1
    return [int(i) for i in last.clip(0)]


def crops(pictures: Sequence[NDArray[np.uint8]], boxes: NDArray[np.float64]) -> Crops:
    """Grey crops `[T, 112, 112]` of a face, its boxes steadied by a running median."""
    from avsl.train.data.prepare import opencv

    cv2 = opencv()
    half, x, y = _steady(boxes)
    out = np.empty((len(pictures), SIDE, SIDE), np.uint8)
    for t, picture in enumerate(pictures):
        # As published: twice the crop is cut out, in whole pixels, scaled, and its middle taken.
        reach, below = half[t] * (1 + MARGIN), half[t] * (1 + 2 * MARGIN)
        room = int(below)
        sides = ((room, room), (room, room), (0, 0))
        wide = np.pad(picture, sides, constant_values=OUTSIDE)
        left, right = int(x[t] + room - reach), int(x[t] + room + reach)
        top, bottom = int(y[t] + room - half[t]), int(y[t] + room + below)
        face = wide[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if not face.size:
            raise UserError(f"picture {t}: the face's box is empty, or outside the picture")
        grey = cv2.cvtColor(cv2.resize(face, (2 * SIDE, 2 * SIDE)), cv2.COLOR_RGB2GRAY)
        out[t] = grey[SIDE // 2 : -SIDE // 2, SIDE // 2 : -SIDE // 2]
    return out


def _steady(boxes: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Half the longer side and the middle of each box, as medians of those around it. At the ends
    there are zeros around, as published: a median there is the least of seven."""
    x0, y0, x1, y1 = boxes.T
    series = [np.maximum(x1 - x0, y1 - y0) / 2, (x0 + x1) / 2, (y0 + y1) / 2]
    if len(boxes) <= SMOOTH // 2:
        return series
    return [np.median(sliding_window_view(np.pad(s, SMOOTH // 2), SMOOTH), 1) for s in series]


def mfcc(samples: Array) -> Array:
    """MFCC `[N, 13]` of sound at 16 kHz, every 10 ms of 25 ms, as python_speech_features has them
    for 16-bit sound; the first is the log energy."""
    x = np.rint(np.asarray(samples, float) * 32768).clip(-32768, 32767)
    x = np.append(x[:1], x[1:] - EMPHASIS * x[:-1])
    count = 1 + max(0, -((FRAME - len(x)) // STEP))
    x = np.pad(x, (0, (count - 1) * STEP + FRAME - len(x)))
    frames = sliding_window_view(x, FRAME)[::STEP]
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2 / FFT
    bands = power @ _filters().T
    out = np.log(np.where(bands == 0, TINY, bands)) @ _cosines()
    energy = power.sum(1)
    out[:, 0] = np.log(np.where(energy == 0, TINY, energy))
    return out.astype(np.float32)


@lru_cache(1)
def _filters() -> NDArray[np.float64]:
    """Triangles `[26, 257]` from 0 to 8000 Hz, even in mel, between whole bins."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), FILTERS + 2)
    edges = np.floor((FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / RATE)[:, None]
    bins = np.arange(FFT // 2 + 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - low) / np.maximum(1, middle - low)
    falling = (high - bins) / np.maximum(1, high - middle)
    inside = (bins >= low) & (bins < high)
    out: NDArray[np.float64] = np.where(inside, np.where(bins < middle, rising, falling), 0)
    return out


@lru_cache(1)
def _cosines() -> NDArray[np.float64]:
    """From 26 bands to 13 coefficients: the orthonormal DCT, then the lifter."""
    k = np.arange(CEPSTRA)
    angles = np.pi * k * (np.arange(FILTERS)[:, None] + 0.5) / FILTERS
    scale = np.where(k == 0, np.sqrt(1 / FILTERS), np.sqrt(2 / FILTERS))
    lift = 1 + LIFTER / 2 * np.sin(np.pi * k / LIFTER)
    out: NDArray[np.float64] = np.cos(angles) * scale * lift
    return out
