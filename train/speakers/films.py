"""What clips show, and how they sound."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from avsl.engines import UserError
from avsl.engines.speakers.voice import RATE

Array = NDArray[np.float32]


def frames(path: Path, count: int | None = None) -> Iterator[av.VideoFrame]:
    """The first pictures of a film.

    Raises:
        UserError: it is damaged.
    """
    try:
        with av.open(f"file:{path}") as container:
            yield from islice(container.decode(video=0), count)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: can't be read to its end ({error.strerror})") from None


def sound_of(path: Path) -> Array:
    """A film's sound from its time 0 on, mono.

    Raises:
        UserError: it can't be read.
    """
    resampler = av.AudioResampler("flt", "mono", RATE)
    blocks: list[Array] = []
    begins = None
    try:
        with av.open(f"file:{path}") as container:
            for block in container.decode(audio=0):
                begins = block.time or 0.0 if begins is None else begins
                blocks += [out.to_ndarray()[0] for out in resampler.resample(block)]
            blocks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: its sound can't be read ({error.strerror})") from None
    shift = round((begins or 0.0) * RATE)
    return np.concatenate([np.zeros(max(0, shift), np.float32), *blocks])[max(0, -shift) :]
