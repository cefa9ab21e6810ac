"""Scenes written to disk in the field's layout:

frames/<id>.jpg    audio/<id>.wav    boxes.json (a list of {file, class, bbox}, as VGG-SS has it)
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from avsl.demos.scenes import DRAWN, RATE, Cast, Kind, boxes, make_scene
from avsl.engines import Picture, Samples
from avsl.train.data.folders import new_folder

SECONDS = 3.0
"""As long as the field's clips; the picture is of the moment at which the sound ends."""


def write_jpeg(path: Path, picture: Picture) -> None:
    """Writes an RGB picture `[h, w, 3]` (even sizes) as JPEG."""
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.framerate = "yuvj420p", 25  # type: ignore[assignment]
    codec.options = {"qmin": "2", "qmax": "3"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    path.write_bytes(b"".join(bytes(packet) for packet in codec.encode(frame)))


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Writes mono float32 samples in [-1, 1] as 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def write_scenes(
    folder: Path,
    count: int,
    seed: int,
    *,
    cast: Cast = DRAWN,
    kind: Kind | None = None,
    height: int = 360,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes `count` scenes of series `seed`, beside `folder` first.

    Things that sound have their boxes in `boxes.json`; a clip in which nothing in view sounds has
    an empty list.

    Raises:
        UserError: `folder` exists or can't be written.
    """
    with new_folder(folder) as beside:
        (beside / "frames").mkdir()
        (beside / "audio").mkdir()
        entries = []
        for index in range(count):
            scene = make_scene(seed, index, cast=cast, kind=kind)
            name = f"s{seed}_{index:06d}"
            width = round(height * scene.aspect / 2) * 2
            picture, masks = scene.render(0, height, width)
            write_jpeg(beside / "frames" / f"{name}.jpg", picture)
            write_wav(beside / "audio" / f"{name}.wav", scene.sound(-SECONDS, SECONDS), RATE)
            found = boxes(masks)
            sounding = scene.sounding(0)
            entries.append(
                {
                    "file": name,
                    "class": ", ".join(scene.things[i].family for i in sounding) or scene.kind,
                    "bbox": [[round(v, 5) for v in found[i]] for i in sounding if any(found[i])],
                }
            )
            progress(index + 1)
        (beside / "boxes.json").write_text(json.dumps(entries, indent=1) + "\n", "utf-8")
