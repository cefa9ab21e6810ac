"""Pictures as they are to be seen: turned, mirrored, of one size and one format."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import av.video.reformatter

from avsl.realtime.sources.ffmpeg import display_matrix

Turn = tuple[int, int, int, int]
"""`(a, b, c, d)`: a step to the right in the stored picture is the step (a, b) in the one that is
shown, a step down is (c, d); y grows downwards."""

AS_IT_IS: Turn = (1, 0, 0, 1)
# vflip alone would only turn the order of lines in memory, which can't be drawn on.
TURNS: dict[Turn, list[str]] = {
    AS_IT_IS: [],
    (0, 1, -1, 0): ["transpose=clock"],
    (-1, 0, 0, -1): ["vflip", "hflip"],
    (0, -1, 1, 0): ["transpose=cclock"],
    (-1, 0, 0, 1): ["hflip"],
    (1, 0, 0, -1): ["vflip", "copy"],
    (0, 1, 1, 0): ["transpose=cclock_flip"],
    (0, -1, -1, 0): ["transpose=clock_flip"],
}
"""The eight ways a picture can lie, and FFmpeg's filters that set it upright."""


def turn_of(picture: av.VideoFrame) -> Turn:
    """How a picture is to be turned and mirrored: of the eight ways the one that its display matrix
    comes nearest to, for a picture leans by any other angle only if a file is damaged or odd."""
    matrix = display_matrix(picture)
    if matrix is None or len(matrix) < 36:
        return AS_IT_IS
    a, b, _, c, d, *_ = struct.unpack("9i", matrix[:36])
    # As it is comes first, and wins where the matrix doesn't say.
    return max(TURNS, key=lambda turn: turn[0] * a + turn[1] * b + turn[2] * c + turn[3] * d)


def lies(turn: Turn) -> bool:
    """Whether `turn` swaps width and height."""
    return turn[0] == 0


class Upright:
    """Sets pictures upright and brings them to the size and format that can be drawn on."""

    def __init__(self, width: int, height: int, deep: bool) -> None:
        self.width, self.height, self.deep = width, height, deep
        self._graph: Any = None
        self._key: Any = None
        self._reformatter = av.video.reformatter.VideoReformatter()

    def __call__(self, picture: Any) -> Any:
        turn = turn_of(picture)
        across, down = picture.width, picture.height
        if lies(turn):
            across, down = down, across
        if turn == AS_IT_IS and (across, down) == (self.width, self.height):
            upright = picture
        else:
            upright = self._filter(picture, turn, across, down)
        deep, name = self.deep, upright.format.name
        if name == "yuv420p10le" if deep else name in ("yuv420p", "yuvj420p"):
            return upright
        # yuvj is the old name of full range, which swscale keeps only if it is asked to.
        full = name.startswith("yuvj") or upright.color_range == 2
        wanted = "yuv420p10le" if deep else "yuvj420p" if full else "yuv420p"
        return self._reformatter.reformat(upright, format=wanted)

    def _filter(self, picture: Any, turn: Turn, across: int, down: int) -> Any:
        key = (picture.width, picture.height, picture.format.name, turn)
        if key != self._key:
            chain = list(TURNS[turn])
            if across - across % 2 == self.width and down - down % 2 == self.height:
                chain.append(f"crop={self.width}:{self.height}:0:0:exact=1")
            else:  # the size changes in the middle of the file
                chain.append(f"scale={self.width}:{self.height}")
            self._graph, self._key = _graph(picture, chain), key
        self._graph.push(picture)
        return self._graph.pull()


def _graph(picture: Any, chain: list[str]) -> Any:
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=picture.width,
            height=picture.height,
            format=picture.format,
            time_base=picture.time_base or Fraction(1, 1000),
        )
    ]
    for step in chain:
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments) if arguments else graph.add(name))
    nodes.append(graph.add("buffersink"))
    for one, following in pairwise(nodes):
        one.link_to(following)
    graph.configure()
    return graph
