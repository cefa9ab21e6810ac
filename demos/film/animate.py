"""A film as a short animation, for a page: README's first picture.

avsl-live --demo -o annotated.mp4
python -m avsl.demos.film.animate annotated.mp4 demos/pictures/demo.webp
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

WIDTH = 480
EVERY = 2
"""So many pictures of the film become one of the animation."""


def animate(film: Path, out: Path) -> None:
    """Writes `out`, an animated WebP that begins anew for ever."""
    with (
        av.open(str(film)) as source,
        av.open(str(out), "w", format="webp", options={"loop": "0"}) as container,
    ):
        video = source.streams.video[0]
        rate = Fraction(video.average_rate or 24) / EVERY
        stream: Any = container.add_stream(
            "libwebp_anim", rate=rate, options={"quality": "58", "compression_level": "5"}
        )
        height = round(WIDTH * video.height / video.width / 2) * 2
        stream.width, stream.height, stream.pix_fmt = WIDTH, height, "yuv420p"
        for number, frame in enumerate(source.decode(video)):
            if number % EVERY == 0:
                small = frame.reformat(WIDTH, height, "yuv420p", interpolation="LANCZOS")
                small.pts, small.time_base = number // EVERY, 1 / rate
                container.mux(stream.encode(small))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m avsl.demos.film.animate FILM OUT.webp")
    animate(Path(sys.argv[1]), Path(sys.argv[2]))
