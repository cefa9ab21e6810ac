"""Composes the film of `avsl-live --demo` from a folder of photographs, recordings and a film.

    python -m avsl.demos.film.compose MATERIAL realtime/demo_film

MATERIAL is a folder as `avsl-train prepare` takes it, with films/ beside pictures/ and sounds/.
demo.mp4 and SOURCES.md go to the other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avsl.demos.film import material

Image = NDArray[np.float32]
RATE, SOUND_RATE = 24, 48_000
FILM_RATE = 25
"""Pictures a second of the film that is put in."""
CORNER = 7.0
"""Radius of the panels' corners, pixels."""
GROUND = (0.055, 0.06, 0.075)
CARD = """# demo.mp4: sources

The film that `avsl-live --demo` annotates, composed by `demos/film/compose.py`. As a whole it may
be used under CC BY 4.0; its parts come from:

| what | file | author | source | licence |
|---|---|---|---|---|
{rows}

Changed: photographs cut to panels, enlarged, moved slowly; recordings cut, mixed to mono, made
equally loud, notes put together to phrases; the film cut, run back and begun again. She alone is
heard herself.
"""
EDGE_S = 0.03
"""Seconds in which a piece of sound comes in and goes out."""


def compose(folder: Path, out: Path) -> None:
    """Writes the film and its card."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "SOURCES.md").write_text(card(), "utf-8")
    film = out / "demo.mp4"
    with av.open(str(film), "w", options={"movflags": "+faststart"}) as container:
        container.metadata["title"] = "avsl-live --demo"
        container.metadata["comment"] = "; ".join(
            f"{c.what}: {', '.join(filter(None, (c.author, c.source)))}, {c.licence}"
            for c in material.CREDITS.values()
        )
        container.metadata["copyright"] = "CC BY 4.0 as a whole; see the comment for its parts"
        video: Any = container.add_stream(
            "libx264", rate=RATE, options={"crf": "22", "preset": "slow", "tune": "film"}
        )
        video.width, video.height = material.SIZE
        video.pix_fmt = "yuv420p"
        video.codec_context.colorspace = video.codec_context.color_primaries = 6
        video.codec_context.color_trc, video.codec_context.color_range = 6, 1
        sound: Any = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        sound.bit_rate = 96_000
        for number, picture in enumerate(pictures(folder)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=5)
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = mix(folder)
        for start in range(0, len(samples), 1024):
            block = av.AudioFrame.from_ndarray(
                samples[None, start : start + 1024], format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = SOUND_RATE, start
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))


def pictures(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """The film's pictures, `[h, w, 3]`."""
    photos = {
        panel.photo: images(seen(folder, panel.photo))
        for scene in material.SCENES
        for panel in scene.panels
    }
    starts = [scene.start for scene in material.SCENES]
    ends = [*starts[1:], material.SECONDS]
    for number in range(round(material.SECONDS * RATE)):
        time = number / RATE
        whole = np.zeros(1, np.float32)
        for scene, start, end in zip(material.SCENES, starts, ends, strict=True):
            there = np.clip((time - start) / material.FADE + 1, 0, 1) if start else 1.0
            gone = np.clip((end - time) / material.FADE, 0, 1) if end < material.SECONDS else 1.0
            if (share := min(there, gone)) > 0:
                length = end - start + material.FADE
                now = {name: shown[at(time, len(shown))] for name, shown in photos.items()}
                whole = whole + share * wall(scene, now, (time - start + material.FADE) / length)
        yield np.rint(np.clip(whole, 0, 1) * 255).astype(np.uint8)


def wall(scene: material.Scene, photos: dict[str, Image], share: float) -> Image:
    """The panels of a scene, when `share` of it is over."""
    width, height = material.SIZE
    out = np.empty((height, width, 3), np.float32)
    out[:] = GROUND
    eased = share * share * (3 - 2 * share)
    for panel in scene.panels:
        left, top, w, h = panel.place
        x, y, size = (a + (b - a) * eased for a, b in zip(panel.first, panel.last, strict=True))
        view = look(photos[panel.photo], x, y, size, w, h)
        mask = rounded(w, h)
        part = out[top : top + h, left : left + w]
        part += (view - part) * mask
    return out


def look(photo: Image, x: float, y: float, size: float, width: int, height: int) -> Image:
    """What is seen around x, y (0..1) of a photograph, resampled: the greatest crop of the panel's
    shape times `size`, moved inside."""
    tall, wide = photo.shape[:2]
    scale = size * min(wide / width, tall / height)
    w, h = width * scale, height * scale
    left = min(max(x * wide - w / 2, 0), wide - w)
    top = min(max(y * tall - h / 2, 0), tall - h)
    rows, columns = weights(tall, top, h, height), weights(wide, left, w, width)
    narrowed = (rows @ photo.reshape(tall, -1)).reshape(height, wide, 3)
    return columns @ narrowed


def weights(size: int, start: float, length: float, count: int) -> Image:
    """`[count, size]`: how `count` pixels are made of a line of `size`, of which they show `length`
    from `start`: a cubic (Catmull-Rom), widened where pixels are left out."""
    step = length / count
    at = start + (np.arange(count) + 0.5) * step - 0.5
    far = np.abs(np.arange(size)[None] - at[:, None]) / max(1.0, step)
    near = 1.5 * far**3 - 2.5 * far**2 + 1
    outer = -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2
    share = np.where(far < 1, near, np.where(far < 2, outer, 0.0))
    return (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


def rounded(width: int, height: int) -> Image:
    """`[h, w, 1]`: a rectangle with round corners."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    outside = [
        np.maximum(CORNER - np.minimum(at, side - at), 0) for at, side in ((y, height), (x, width))
    ]
    return np.clip(CORNER - np.hypot(*outside) + 0.5, 0, 1)[..., None].astype(np.float32)


def at(time: float, count: int) -> int:
    """Which of a film's `count` pictures is seen: there, back until it is to begin again."""
    number = int(time % material.AGAIN * FILM_RATE + 1e-6)
    return number if number < count else max(0, 2 * count - 2 - number)


def images(path: Path) -> list[Image]:
    """The pictures of a photograph or a film, `[h, w, 3]` in 0..1."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24").astype(np.float32) / np.float32(255)
            for frame in container.decode(video=0)
        ]


def seen(folder: Path, name: str) -> Path:
    """Where a photograph or a film lies."""
    film = name.startswith("films/")
    return folder / f"{name}.mp4" if film else folder / "pictures" / f"{name}.jpg"


def heard(folder: Path, name: str) -> Path:
    """Where a recording lies."""
    film = name.startswith("films/")
    return folder / f"{name}.mp4" if film else folder / "sounds" / f"{name}.ogg"


def mix(folder: Path) -> NDArray[np.float32]:
    """All takes on one track."""
    track = np.zeros(round(material.SECONDS * SOUND_RATE), np.float32)
    for take in material.TAKES:
        begin = round(take.begin * SOUND_RATE)
        piece = recording(heard(folder, take.sound))[begin:][: round(take.seconds * SOUND_RATE)]
        loud = float(np.sqrt(np.mean(np.square(piece))))
        piece = piece * np.float32(10 ** (take.level_db / 20) / loud)
        edge = np.minimum(np.arange(len(piece)), np.arange(len(piece))[::-1]) / SOUND_RATE
        piece = piece * np.clip(edge / EDGE_S, 0, 1).astype(np.float32)
        start = round(take.at * SOUND_RATE)
        piece = piece[: max(0, len(track) - start)]
        track[start : start + len(piece)] += piece
    bent = np.tanh(track / 0.9) * 0.9  # peaks that would be cut off
    return bent.astype(np.float32)


def recording(path: Path) -> NDArray[np.float32]:
    resampler = av.AudioResampler("fltp", "mono", SOUND_RATE)
    with av.open(str(path)) as container:
        blocks = [b for frame in container.decode(audio=0) for b in resampler.resample(frame)]
    blocks += resampler.resample(None)
    return np.concatenate([block.to_ndarray()[0] for block in blocks])


def card() -> str:
    """What a film of other people's work has to say of itself."""
    rows = []
    for path in dict.fromkeys(files(Path())):
        name, file = path.with_suffix("").as_posix(), path.stem
        name = name.removeprefix("pictures/").removeprefix("sounds/")
        (credit,) = (c for start, c in material.CREDITS.items() if name.startswith(start))
        cells = (credit.what, file, credit.author or "see source", credit.source, credit.licence)
        rows.append(f"| {' | '.join(cells)} |")
    return CARD.format(rows="\n".join(rows))


def files(folder: Path) -> list[Path]:
    """All that is needed of a folder of material."""
    photos = [seen(folder, panel.photo) for scene in material.SCENES for panel in scene.panels]
    return photos + [heard(folder, take.sound) for take in material.TAKES]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m avsl.demos.film.compose MATERIAL OUT")
    for path in files(Path(sys.argv[1])):
        if not path.is_file():
            sys.exit(f"error: {path}: no such file; the film is made of it")
    compose(Path(sys.argv[1]), Path(sys.argv[2]))
