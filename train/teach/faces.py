"""Where heads are, as two public face detectors have it: the teachers of the head channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl.train.data.prepare import opencv
from avsl.train.teach.teachers import FAR, NEAR, TfLite, find

cv2 = opencv()
Boxes = NDArray[np.float32]
"""`[N, 5]`: x0, y0, x1, y1 in 0..1 of the picture, and a probability."""
OVERLAP = 0.35
LEAST = 0.3
"""Boxes of less are not told."""


class Faces:
    """Heads in a picture, near and far ones."""

    def __init__(self, folder: Path) -> None:
        self._detectors: tuple[tuple[TfLite, int, NDArray[np.float32]], ...] = (
            (TfLite(find(folder, NEAR)), 128, _anchors(((16, 2), (8, 6)))),
            (TfLite(find(folder, FAR)), 192, _anchors(((48, 1),))),
        )

    def __call__(self, picture: NDArray[np.uint8]) -> Boxes:
        """Head boxes of an RGB picture `[h, w, 3]`: each face, with hair and chin."""
        found = [_faces(detector, picture) for detector in self._detectors]
        faces = _suppressed(np.concatenate(found))
        tall, wide = faces[:, 3] - faces[:, 1], faces[:, 2] - faces[:, 0]
        left, top = faces[:, 0] - 0.1 * wide, faces[:, 1] - 0.3 * tall
        right, bottom = faces[:, 2] + 0.1 * wide, faces[:, 3] + 0.1 * tall
        edges = np.stack([left, top, right, bottom], 1).clip(0, 1)
        return np.concatenate([edges, faces[:, 4:]], 1)


def _anchors(levels: tuple[tuple[int, int], ...]) -> NDArray[np.float32]:
    rows = []
    for cells, each in levels:
        y, x = (np.mgrid[:cells, :cells].reshape(2, -1) + 0.5) / cells
        rows.append(np.repeat(np.stack([x, y], 1), each, 0))
    return np.concatenate(rows).astype(np.float32)


def _faces(detector: tuple[TfLite, int, NDArray[np.float32]], picture: NDArray[np.uint8]) -> Boxes:
    net, side, anchors = detector
    h, w = picture.shape[:2]
    scale = side / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    x = np.zeros((1, side, side, 3), np.float32)
    x[0, : size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    outputs = net(x / 127.5 - 1)
    codes, scores = sorted((np.array(out[0]) for out in outputs), key=lambda out: -out.shape[-1])
    p = 1 / (1 + np.exp(-scores[:, 0].clip(-80, 80)))
    kept = p > LEAST
    middle = codes[kept, :2] / side + anchors[kept]
    half = codes[kept, 2:4] / side / 2
    edges = np.concatenate([middle - half, middle + half], 1) * max(h, w)
    return np.concatenate([edges / np.array([w, h, w, h], np.float32), p[kept, None]], 1)


def _suppressed(boxes: Boxes) -> Boxes:
    order = list(np.argsort(-boxes[:, 4]))
    kept: list[int] = []
    for i in order:
        if all(_overlap(boxes[i], boxes[j]) < OVERLAP for j in kept):
            kept.append(int(i))
    return boxes[kept]


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(wide * tall / (sum(areas) - wide * tall))
