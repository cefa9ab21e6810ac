"""Running a bundle: the engine contract, the CPU backend, and the pairing of one moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from avsl.engines.bundle import DEFAULT, Bundle, load_bundle
from avsl.engines.errors import UserError
from avsl.engines.localization import Gate, Localization, Map, describe, level_db
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples, SoundTimeline

Embedding = Samples


class Engine(Protocol):
    """What every backend offers. Calls are not thread-safe; use one engine per thread."""

    bundle: Bundle

    def embed(self, samples: Samples) -> Embedding:
        """Encodes one window of sound, float32 `[S]` in [-1, 1], to float32 `[E]`."""

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        """Map `[m, n]` of the probability that the sound comes from here, for an RGB picture
        `[h, w, 3]` uint8 of the bundle's size."""


class OnnxRuntimeEngine:
    """A bundle in ONNX Runtime on the CPU."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        options = ort.SessionOptions()
        # One core stays free for decoding and encoding, which run beside the networks; more than
        # four have nothing to do in networks of this size.
        options.intra_op_num_threads = min(4, max(1, (os.cpu_count() or 2) - 1))
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._sound = self._open(bundle.sound_graph, options)
        self._picture = self._open(bundle.picture_graph, options)

    @staticmethod
    def _open(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no narrower public base
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: ONNX Runtime can't load it ({reason})") from None

    def embed(self, samples: Samples) -> Embedding:
        out: Embedding = self._sound.run(None, {"samples": samples[None]})[0][0]
        return out

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        feed = {"picture": picture[None], "embedding": embedding[None]}
        out: Map = self._picture.run(None, feed)[0][0]
        return out


def open_engine(bundle: Bundle | Path | str = DEFAULT) -> Engine:
    """Opens a bundle (by default the one that ships) with the best backend of this machine.

    Raises:
        UserError: the folder is not a whole, unchanged bundle, or can't be run here.
    """
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    return OnnxRuntimeEngine(bundle)


class Localizer:
    """Turns the pictures of one stream and the sound before them into localizations.

    Sound is embedded once per hop, and the gate hears every hop in order, also those that no
    picture was paired with: what comes out depends on the sound and the pictures alone, not on how
    many of them a slow machine skipped.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._window = engine.bundle.window
        self._thresholds = engine.bundle.thresholds
        self._gate = Gate(self._thresholds, self._window.hop / self._window.rate)
        self._hop: int | None = None  # the newest hop that the gate has heard
        self._open = False
        self._level = level_db(np.zeros(0, np.float32))
        self._embedded: tuple[int, Embedding] | None = None
        self._dark = np.zeros(engine.bundle.map_size, np.float32)

    def __call__(self, time: float, picture: Picture, sound: SoundTimeline) -> Localization:
        """Localizes the picture taken at `time` (seconds on the clock of `sound`)."""
        hop = self._window.hop_index(time)
        self._listen(hop, sound)
        if not self._open:
            return describe(time, self._dark, self._level, True, self._thresholds)
        if self._embedded is None or self._embedded[0] != hop:
            samples = sound.read(hop * self._window.hop, self._window.length)
            self._embedded = hop, self.engine.embed(samples)
        map_ = self.engine.localize(picture, self._embedded[1])
        return describe(time, map_, self._level, False, self._thresholds)

    def _listen(self, hop: int, sound: SoundTimeline) -> None:
        size = self._window.hop
        # After a start, a seek or a long gap there is only so much sound to look back on.
        first = hop - self._window.length // size
        if self._hop is not None and self._hop <= hop:
            first = max(first, self._hop)
        for h in range(first + 1, hop + 1):
            self._level = level_db(sound.read(h * size, size))
            self._open = self._gate.update(self._level)
        self._hop = hop
