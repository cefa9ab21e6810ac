"""Where eyes, nose, lips and jaw are, as a public network has it: the teacher of the points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl.train.data.prepare import opencv
from avsl.train.speakers.camera import turning
from avsl.train.teach.teachers import MESH, TfLite, find

cv2 = opencv()
Array = NDArray[np.float32]

SIDE = 192
"""Pixels of the network's picture."""
ROOM = 1.5
"""Sides of its square in those of the face's box."""
ROUNDS = 3
"""How often a face is looked at, each time on the square and level that was found before."""
EYES = ((33, 133), (263, 362))
"""Corners of the eye at the picture's left, outer and inner, and of that at its right."""
KEPT = (
    33, 133, 362, 263,  # corners of the eyes
    70, 105, 107, 336, 334, 300,  # brows
    168, 6, 1, 98, 327,  # nose: root, bridge, tip, wings
    61, 291, 0, 17, 37, 267, 84, 314,  # lips, outside: corners, top, bottom, beside those
    78, 308, 13, 14, 82, 312, 87, 317,  # the same inside
    152, 172, 397, 234, 454,  # chin, jaws, cheeks
)  # fmt: skip
"""Those of its 468 points that the small network learns, in its order."""
MIRRORED = (
    3, 2, 1, 0,  9, 8, 7, 6, 5, 4,  10, 11, 12, 14, 13,
    16, 15, 17, 18, 20, 19, 22, 21,  24, 23, 25, 26, 28, 27, 30, 29,  31, 33, 32, 35, 34,
)  # fmt: skip
"""Which of `KEPT` each of them is in a mirror."""


class Mesh:
    """Points of a face."""

    def __init__(self, folder: Path) -> None:
        self._net = TfLite(find(folder, MESH))

    def __call__(self, rgb: NDArray[np.uint8], head: Array) -> tuple[Array, float]:
        """The points `[468, 3]` in pixels of a picture (RGB `[h, w, 3]`), z as in x, and how likely
        that is a face; `head` is its box in pixels, hair to chin, as `Faces` has it."""
        x0, y0, x1, y1 = head[:4]
        # Brow to chin, of hair to chin.
        y0 += 0.3 / 1.4 * (y1 - y0)
        middle, side, roll = np.array([x0 + x1, y0 + y1]) / 2, max(x1 - x0, y1 - y0) * ROOM, 0.0
        for _ in range(ROUNDS):
            turn = turning(side / SIDE, roll)  # from the square to the picture
            move = middle - turn @ np.full(2, SIDE / 2)
            to = np.column_stack([turn, move])
            patch = cv2.warpAffine(
                rgb, to, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            points, face = sorted(
                (out.ravel() for out in self._net(patch[None].astype(np.float32) / 255)),
                key=lambda out: -len(out),
            )[:2]
            found = points.reshape(468, 3).copy()
            z = found[:, 2] * side / SIDE
            found = found[:, :2] @ turn.T + move
            left, right = (found[list(eye)].mean(0) for eye in EYES)
            roll = float(np.arctan2(right[1] - left[1], right[0] - left[0]))
            upright = turning(1.0, roll)
            low, high = (found @ upright).min(0), (found @ upright).max(0)
            side = float(max(high - low)) * ROOM
            middle = upright @ ((low + high) / 2)
        return np.column_stack([found, z]).astype(np.float32), float(1 / (1 + np.exp(-face[0])))
