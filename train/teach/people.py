"""Scenes with heads in them, of which each head is known: what the head channel learns from.

Portraits are cut out and set on other pictures, laid over them as tiles, or fill the frame; heads
have 5 to 90 % of its height. What else is in the scenes are things and places without people, or
with heads that the face detectors found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.cutouts import PICTURES
from avsl.engines import UserError
from avsl.train.data.prepare import opencv
from avsl.train.teach.faces import Boxes, Faces

cv2 = opencv()
Picture = NDArray[np.uint8]
Mask = NDArray[np.float32]
SURE, MAYBE = 0.8, 0.5
"""From where on a face is a head, and neither that nor none: clocks have faces, too."""
SMALLEST, LARGEST = 0.05, 0.9


@dataclass(frozen=True)
class Photo:
    """A photograph `[h, w, 3]` and the heads that were found in it."""

    picture: Picture
    heads: Boxes


@dataclass(frozen=True)
class Portrait:
    """A photograph of one person, the head's box in pixels, and where the person is, 0 to 1."""

    picture: Picture
    head: NDArray[np.float32]
    mask: Mask


def read(path: Path, side: int) -> Picture | None:
    """An RGB picture of no more than `side` pixels, or None where it can't be read."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    scale = min(1.0, side / max(bgr.shape[:2]))
    size = max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale))
    return np.ascontiguousarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)[..., ::-1])


def read_photos(paths: list[Path], faces: Faces, side: int = 448) -> list[Photo]:
    """Photographs with the heads in them."""
    found = []
    for path in paths:
        picture = read(path, side)
        if picture is not None and min(picture.shape[:2]) >= 32:
            found.append(Photo(picture, faces(picture)))
    return found


def read_portraits(folder: Path, faces: Faces, side: int = 400) -> list[Portrait]:
    """The photographs in a folder on which exactly one face is sure.

    Raises:
        UserError: there are none.
    """
    found = []
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() in PICTURES):
        picture = read(path, side)
        if picture is None:
            continue
        heads = faces(picture)
        heads = heads[heads[:, 4] > MAYBE]
        if len(heads) == 1 and heads[0, 4] > SURE:
            h, w = picture.shape[:2]
            head = heads[0, :4] * np.array([w, h, w, h], np.float32)
            found.append(Portrait(picture, head, person_mask(picture, head)))
    if not found:
        raise UserError(f"{folder}: no portraits in it (photographs of one face each)")
    return found


def person_mask(picture: Picture, head: NDArray[np.float32]) -> Mask:
    """Where the person whose head is known is (GrabCut: Rother et al. 2004)."""
    h, w = picture.shape[0] // 2, picture.shape[1] // 2
    y, x = np.mgrid[:h, :w].astype(np.float32) * 2
    cx, cy = (head[0] + head[2]) / 2, (head[1] + head[3]) / 2
    rx, ry = (head[2] - head[0]) / 2, (head[3] - head[1]) / 2
    away = np.hypot((x - cx) / rx, (y - cy) / ry)
    across = np.abs(x - cx)
    shoulders = (y > head[3]) & (across < rx * 1.1 + (y - head[3]) * 1.2)
    labels = np.full((h, w), cv2.GC_BGD, np.uint8)
    labels[(away < 1.5) | (across < rx * 2 + np.maximum(0, y - cy) * 1.5)] = cv2.GC_PR_BGD
    labels[(away < 1.1) | shoulders] = cv2.GC_PR_FGD
    labels[(away < 0.8) | (shoulders & (across < rx * 0.6))] = cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    small = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    cv2.grabCut(small, labels, None, *models, 2, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return cv2.resize(cv2.GaussianBlur(inside, (3, 3), 0), picture.shape[1::-1])


class Crowd:
    """Composes scenes of one size."""

    def __init__(
        self,
        photos: list[Photo],
        portraits: list[Portrait],
        size: tuple[int, int],
        stride: int = 16,
    ) -> None:
        self.photos, self.portraits, self.size = photos, portraits, size
        self.cells = size[0] // stride, size[1] // stride

    def scene(self, rng: np.random.Generator) -> tuple[Picture, Mask, Mask, Mask]:
        """A picture, and of each cell how much heads cover it, bodies, and how much it counts."""
        h, w = self.size
        if rng.random() < 0.25:
            canvas, head, body, sure = self._portrait_frame(rng)
        else:
            canvas, head, sure = self._photo_frame(rng)
            body = np.zeros((h, w), np.float32)
            for _ in range(int(rng.choice(4, p=[0.25, 0.35, 0.25, 0.15]))):
                self._add(rng, canvas, head, body, sure)
            if rng.random() < 0.2:
                self._tile(rng, canvas, head, body, sure)
        m, n = self.cells
        means = [a.reshape(m, h // m, n, w // n).mean((1, 3)) for a in (head, body, sure)]
        turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
        masks = [a[:, turn].astype(np.float32) for a in means]
        return camera(rng, canvas[:, turn]), masks[0], masks[1], masks[2]

    def _photo_frame(self, rng: np.random.Generator) -> tuple[Picture, Mask, Mask]:
        h, w = self.size
        photo = self.photos[int(rng.integers(len(self.photos)))]
        canvas, move = cover(rng, photo.picture, (h, w))
        heads = photo.heads.copy()
        heads[:, :4] = move(heads[:, :4])
        maybe = heads[(heads[:, 4] >= MAYBE) & (heads[:, 4] < SURE)]
        sure = heads[heads[:, 4] >= SURE]
        return canvas, _discs(sure, (h, w)), 1 - _discs(maybe, (h, w))

    def _portrait_frame(self, rng: np.random.Generator) -> tuple[Picture, Mask, Mask, Mask]:
        h, w = self.size
        one = self.portraits[int(rng.integers(len(self.portraits)))]
        side = float(np.exp(rng.uniform(np.log(0.3), np.log(LARGEST)))) * h
        scale = side / (one.head[3] - one.head[1])
        # Where the frame is larger than the photograph, its edges go on.
        cx, cy = (one.head[0] + one.head[2]) / 2, (one.head[1] + one.head[3]) / 2
        at = rng.uniform(0.25, 0.75) * w, rng.uniform(0.3, 0.55) * h
        m = np.array([[scale, 0, at[0] - scale * cx], [0, scale, at[1] - scale * cy]], np.float32)
        canvas = cv2.warpAffine(
            one.picture, m, (w, h), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        mask = cv2.warpAffine(one.mask, m, (w, h))
        corners = (m[:, :2] @ one.head.reshape(2, 2).T + m[:, 2:]).T.reshape(1, 4)
        head = _discs((corners / [w, h, w, h]).astype(np.float32), (h, w))
        return canvas, head, mask * (1 - head), np.ones((h, w), np.float32)

    def _add(
        self, rng: np.random.Generator, canvas: Picture, head: Mask, body: Mask, sure: Mask
    ) -> None:
        h, w = canvas.shape[:2]
        one = self.portraits[int(rng.integers(len(self.portraits)))]
        side = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(0.5)))) * h
        scale = side / (one.head[3] - one.head[1])
        turn = float(rng.normal(0, 8))
        cx, cy = (one.head[0] + one.head[2]) / 2, (one.head[1] + one.head[3]) / 2
        m = cv2.getRotationMatrix2D((float(cx), float(cy)), turn, scale).astype(np.float32)
        m[:, 2] += np.array([rng.uniform(0.02, 0.98) * w - cx, rng.uniform(0.1, 0.9) * h - cy])
        tile = rng.random() < 0.25
        mask = np.ones_like(one.mask) if tile else one.mask
        alpha = cv2.warpAffine(mask, m, (w, h), flags=cv2.INTER_AREA)[..., None]
        layer = cv2.warpAffine(
            one.picture, m, (w, h), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        light = np.float32(rng.uniform(0.5, 1.3))
        canvas[:] = (canvas * (1 - alpha) + np.clip(layer * light, 0, 255) * alpha).astype(np.uint8)
        shown = cv2.warpAffine(one.mask, m, (w, h))
        corner = one.head.reshape(2, 2)
        oval = np.zeros_like(one.mask)
        centre = tuple(int(v) for v in corner.mean(0))
        axes = tuple(int(v) for v in (corner[1] - corner[0]) / 2)
        cv2.ellipse(oval, centre, axes, 0, 0, 360, 1.0, -1)
        oval = cv2.warpAffine(oval, m, (w, h))
        covered = alpha[..., 0]
        head[:] = np.maximum(head * (1 - covered), oval)
        body[:] = np.maximum(body * (1 - covered), shown * (1 - oval))
        sure[:] = np.maximum(sure, covered)

    def _tile(
        self, rng: np.random.Generator, canvas: Picture, head: Mask, body: Mask, sure: Mask
    ) -> None:
        """A piece of another picture over this one: an edge alone makes no head."""
        h, w = canvas.shape[:2]
        tall, wide = int(rng.uniform(0.1, 0.5) * h), int(rng.uniform(0.1, 0.5) * w)
        y, x = int(rng.integers(h - tall)), int(rng.integers(w - wide))
        photo = self.photos[int(rng.integers(len(self.photos)))]
        if len(photo.heads):
            return
        part = slice(y, y + tall), slice(x, x + wide)
        canvas[part] = cover(rng, photo.picture, (tall, wide))[0]
        head[part], body[part], sure[part] = 0, 0, 1


Move = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def cover(
    rng: np.random.Generator, picture: Picture, size: tuple[int, int]
) -> tuple[Picture, Move]:
    """A part of a picture, with a shape much like it, stretched to `size`; and what moves boxes."""
    h, w = picture.shape[:2]
    aspect = size[1] / size[0] * float(np.exp(rng.normal(0, 0.15)))
    part = rng.uniform(0.7, 1.0)
    wide = min(w, h * aspect) * part
    tall = min(h, wide / aspect)
    x, y = rng.uniform(0, w - wide), rng.uniform(0, h - tall)
    crop = picture[int(y) : int(y + tall) + 1, int(x) : int(x + wide) + 1]

    def move(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = boxes * np.array([w, h, w, h], np.float32) - np.array([x, y, x, y], np.float32)
        moved: NDArray[np.float32] = (scaled / [wide, tall, wide, tall]).astype(np.float32)
        return moved

    return cv2.resize(crop, size[::-1], interpolation=cv2.INTER_AREA), move


def _discs(boxes: NDArray[np.float32], size: tuple[int, int]) -> Mask:
    out = np.zeros(size, np.float32)
    for x0, y0, x1, y1 in boxes[:, :4] * np.array([size[1], size[0]] * 2, np.float32):
        centre = int((x0 + x1) / 2), int((y0 + y1) / 2)
        axes = max(1, int((x1 - x0) / 2)), max(1, int((y1 - y0) / 2))
        cv2.ellipse(out, centre, axes, 0, 0, 360, 1.0, -1)
    return out


def camera(rng: np.random.Generator, picture: Picture) -> Picture:
    """As a webcam sees it: light, colour, blur, noise, JPEG."""
    x: Any = picture.astype(np.float32)
    if rng.random() < 0.1:
        x = np.repeat(x.mean(2, keepdims=True), 3, 2)
    x = 255 * (x / 255) ** np.float32(np.exp(rng.normal(0, 0.25)))
    x *= np.exp(rng.normal(0, 0.1, 3)).astype(np.float32) * np.float32(rng.uniform(0.5, 1.15))
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.5, 1.5)))
    x += rng.standard_normal(x.shape).astype(np.float32) * np.float32(rng.uniform(0, 8))
    out: Picture = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return np.ascontiguousarray(out)
