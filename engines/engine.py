"""The engine contract, and the pairing of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np

from avsl.engines.bundle import EngineSpec
from avsl.engines.errors import UserError
from avsl.engines.localization import (
    FLOOR_DB,
    Evidence,
    Gate,
    Localization,
    Map,
    Peak,
    describe,
)
from avsl.engines.loudness import Loudness
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples, SoundTimeline

if TYPE_CHECKING:
    import torch

Embedding = Samples
ROUNDING = 0.01
"""By how much a probability may lie outside 0..1."""


class Maps(Protocol):
    """What an engine makes of one stream, with whatever it must remember of it."""

    def watch(self, time: float, picture: Picture, sound: SoundTimeline) -> None:
        """Takes in the picture of `time` (RGB `[h, w, 3]` uint8 of the engine's size) and the sound
        before it. Called for each picture in order, also while there is no sound."""

    def map(self) -> Map:
        """Map `[m, n]` of the probability that the sound comes from here, of the moment that was
        watched last. Called only where there is sound."""

    def evidence(self, peak: Peak) -> Evidence:
        """What carried a peak of that map most."""


class Engine(Protocol):
    """What every engine offers. Calls are not thread-safe; use one engine per thread."""

    @property
    def spec(self) -> EngineSpec: ...

    def maps(self) -> Maps:
        """For one stream, with no memory yet."""


class NetworkEngine(Engine, Protocol):
    """What every backend that runs a bundle offers besides: it has no memory."""

    @property
    def why(self) -> str:
        """What runs it and on what, and why that if there was a choice, in one line."""

    def embed(self, samples: Samples) -> Embedding:
        """Encodes one window of sound, float32 `[S]` in [-1, 1], to float32 `[E]`."""

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        """Map `[m, n]` of an RGB picture `[h, w, 3]` uint8 of the bundle's size."""


class TensorEngine(NetworkEngine, Protocol):
    """What a backend that runs on a device of torch offers besides: the same for batches of tensors
    that lie there, all of it queued on one stream. What comes out may be overwritten by the next
    call."""

    @property
    def device(self) -> torch.device: ...

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """None on a CPU."""

    def embed_on(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples `[B, S]` float32 to embeddings `[B, E]` float32."""

    def localize_on(self, picture: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Pictures `[B, h, w, 3]` uint8 and embeddings `[B, E]` to maps `[B, m, n]` float32."""


def on_gpu(engine: Engine) -> TypeGuard[TensorEngine]:
    """Whether an engine's networks run on a GPU."""
    device = getattr(engine, "device", None)
    return device is not None and device.type != "cpu"


def checked(map_: Map, spec: EngineSpec) -> Map:
    """The same map, if it is one: of the size and in the range that an engine promises.

    Raises:
        UserError: it isn't; a training that came to nothing gives maps of NaN.
    """
    sized = map_.shape == spec.map_size
    # NaN fails both comparisons. In bfloat16 a probability may reach over 1 by rounding.
    if not (sized and map_.min() >= -ROUNDING and map_.max() <= 1 + ROUNDING):
        wrong = "values outside 0..1, or none" if sized else f"a size of {list(map_.shape)}"
        raise UserError(f"{spec.name}: its map has {wrong}; this engine is no use, take another")
    return map_


class NetworkMaps:
    """The maps of a network, of which sound is embedded once per hop."""

    def __init__(self, engine: NetworkEngine) -> None:
        self._engine = engine
        self._window = engine.spec.window
        self._embedded: tuple[int, Embedding] | None = None
        self._now: tuple[float, Picture, SoundTimeline] | None = None

    def watch(self, time: float, picture: Picture, sound: SoundTimeline) -> None:
        self._now = time, picture, sound

    def map(self) -> Map:
        assert self._now, "watch comes first"
        time, picture, sound = self._now
        end = self._window.end(time)
        if self._embedded is None or self._embedded[0] != end:
            self._embedded = end, self._engine.embed(sound.read(end, self._window.length))
        return checked(self._engine.localize(picture, self._embedded[1]), self._engine.spec)

    def evidence(self, peak: Peak) -> Evidence:
        return "network"


class Listener:
    """How loud the sound of one stream is, and whether there is any.

    The gate hears every hop in order, also those that no picture was paired with: of a network,
    what comes out depends on the sound and the pictures alone, not on how many of them a slow
    machine skipped.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._window = spec.window
        self._gate = Gate(spec.thresholds, self._window.hop / self._window.rate)
        self._hop: int | None = None  # the newest hop that the gate has heard
        self._open = False
        self._loudness = Loudness(spec.window)
        self._level = FLOOR_DB

    def __call__(self, time: float, sound: SoundTimeline) -> tuple[float, bool]:
        """Level of the newest hop (dBFS) before a picture taken at `time` (seconds on the clock of
        `sound`), and whether that is silence."""
        hop = self._window.hop_index(time)
        # After a start, a seek or a long gap there is only so much sound to look back on.
        first = hop - self._window.length // self._window.hop
        if self._hop is not None and self._hop <= hop:
            first = max(first, self._hop)
        for h in range(first + 1, hop + 1):
            self._level = self._loudness(h, sound)
            self._open = self._gate.update(self._level)
        self._hop = hop
        return self._level, not self._open


class Localizer:
    """Turns the pictures of one stream and the sound before them into localizations."""

    def __init__(self, engine: Engine) -> None:
        self._maps = engine.maps()
        self._listen = Listener(engine.spec)
        self._thresholds = engine.spec.thresholds
        self._dark = np.zeros(engine.spec.map_size, np.float32)

    def __call__(self, time: float, picture: Picture, sound: SoundTimeline) -> Localization:
        """Localizes the picture taken at `time` (seconds on the clock of `sound`)."""
        level, silent = self._listen(time, sound)
        self._maps.watch(time, picture, sound)
        map_ = self._dark if silent else self._maps.map()
        return describe(time, map_, level, silent, self._thresholds, self._maps.evidence)
