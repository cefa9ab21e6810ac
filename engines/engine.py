"""The engine contract, and the pairing of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeGuard

import numpy as np

from avsl.engines.bundle import EngineSpec
from avsl.engines.errors import UserError
from avsl.engines.localization import (
    FLOOR_DB,
    Evidence,
    Gate,
    Kinds,
    Localization,
    Map,
    Named,
    Peak,
)
from avsl.engines.loudness import Loudness
from avsl.engines.pictures import Picture
from avsl.engines.speakers.answer import VOICE, told
from avsl.engines.speakers.speakers import Speakers
from avsl.engines.speakers.voice import RATE
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

    def named(self) -> Named | None:
        """What in that map is what; None of an engine that has no names for things."""


class Engine(Protocol):
    """What every engine offers. Calls are not thread-safe; use one engine per thread."""

    @property
    def spec(self) -> EngineSpec: ...

    def for_pictures(self, height: int, width: int) -> Engine:
        """For a stream of pictures of this size: an engine whose own picture keeps their shape, or
        this one, where its picture has but one. What can be shared is. To be asked once, at the
        first picture; should the size change later, that one goes on."""

    def maps(self) -> Maps:
        """For one stream, with no memory yet."""


class Seen(NamedTuple):
    """What a picture graph with kinds gives."""

    map: Map
    kinds: Kinds


class NetworkEngine(Engine, Protocol):
    """What every backend that runs a bundle offers besides: it has no memory."""

    @property
    def why(self) -> str:
        """What runs it and on what, and why that if there was a choice, in one line."""

    def for_pictures(self, height: int, width: int) -> NetworkEngine: ...

    def embed(self, samples: Samples) -> Embedding:
        """Encodes one window of sound, float32 `[S]` in [-1, 1], to float32 `[E]`; of a bundle with
        kinds: to how likely each is heard, `[K]`."""

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        """Map `[m, n]` of an RGB picture `[h, w, 3]` uint8 of the bundle's size."""

    def localize_kinds(self, picture: Picture, heard: Embedding) -> Seen:
        """The same with names, of a bundle with kinds."""


class TensorEngine(NetworkEngine, Protocol):
    """What a backend that runs on a device of torch offers besides: the same for batches of tensors
    that lie there, all of it queued on one stream. What comes out may be overwritten by the next
    call."""

    def for_pictures(self, height: int, width: int) -> TensorEngine: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """None on a CPU."""

    def embed_on(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples `[B, S]` float32 to embeddings `[B, E]` float32."""

    def localize_on(self, picture: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Pictures `[B, h, w, 3]` uint8 and embeddings `[B, E]` to maps `[B, m, n]` float32."""

    def localize_kinds_on(
        self, picture: torch.Tensor, heard: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with names, of a bundle with kinds: maps, and kinds `[B, m, n]` int32."""


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


def named(spec: EngineSpec, kinds: Kinds, heard: Embedding) -> Named:
    """What an engine with kinds says of a map, if it can be so: `kinds` `[m, n]`, `heard` `[K]`.

    Raises:
        UserError: it can't; as with maps, what a graph says of itself needn't be so.
    """
    known = len(spec.kinds)
    whole = kinds.dtype.kind == "i" and kinds.shape == spec.map_size
    if not (whole and kinds.min() >= 0 and kinds.max() < known):
        raise UserError(f"{spec.name}: gives kinds that it hasn't; this engine is no use")
    if not (heard.shape == (known,) and heard.min() >= -ROUNDING and heard.max() <= 1 + ROUNDING):
        raise UserError(f"{spec.name}: hears with values outside 0..1; this engine is no use")
    return Named(spec.kinds, kinds, heard)


def hearing(spec: EngineSpec) -> Embedding | None:
    """What `heard` is multiplied with, `[K]`, so that only what is wanted is; None where all is."""
    if not spec.unheard:
        return None
    return np.array([kind not in spec.unheard for kind in spec.kinds], np.float32)


class NetworkMaps:
    """The maps of a network, of which sound is embedded once per hop."""

    def __init__(self, engine: NetworkEngine) -> None:
        self._engine = engine
        self._window = engine.spec.window
        self._wanted = hearing(engine.spec)
        self._embedded: tuple[int, Embedding] | None = None
        self._named: Named | None = None
        self._now: tuple[float, Picture, SoundTimeline] | None = None

    def watch(self, time: float, picture: Picture, sound: SoundTimeline) -> None:
        self._now = time, picture, sound

    def map(self) -> Map:
        assert self._now, "watch comes first"
        time, picture, sound = self._now
        end = self._window.end(time)
        if self._embedded is None or self._embedded[0] != end:
            embedded = self._engine.embed(sound.read(end, self._window.length))
            if self._wanted is not None:
                embedded = embedded * self._wanted
            self._embedded = end, embedded
        heard, spec = self._embedded[1], self._engine.spec
        if not spec.kinds:
            return checked(self._engine.localize(picture, heard), spec)
        map_, kinds = self._engine.localize_kinds(picture, heard)
        self._named = named(spec, kinds, heard)
        return checked(map_, spec)

    def evidence(self, peak: Peak) -> Evidence:
        return "network"

    def named(self) -> Named | None:
        return self._named


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

    def __init__(self, engine: Engine, speakers: Speakers | None = None) -> None:
        """`speakers` says of voices who makes them (`speakers_for`)."""
        self._maps = engine.maps()
        self._listen = Listener(engine.spec)
        self._thresholds = engine.spec.thresholds
        self._dark = np.zeros(engine.spec.map_size, np.float32)
        self._speakers = speakers

    def __call__(self, time: float, picture: Picture, sound: SoundTimeline) -> Localization:
        """Localizes the picture taken at `time` (seconds on the clock of `sound`)."""
        level, silent = self._listen(time, sound)
        self._maps.watch(time, picture, sound)
        map_ = self._dark if silent else self._maps.map()
        names = None if silent else self._maps.named()
        tracks = self._speakers.tracks if self._speakers else ()
        return told(time, map_, level, silent, self._thresholds, self._maps.evidence, names, tracks)


def speakers_for(spec: EngineSpec, beside: Speakers | None = None) -> Speakers | None:
    """Who follows the heads of a stream that an engine localizes: none where it knows no voices.

    Args:
        beside: one who watches each picture first; then its faces are taken.

    Raises:
        UserError: a network that comes along can't be loaded.
    """
    faces = beside.faces if beside else None
    return Speakers(spec.window, faces) if knows_voices(spec) else None


def knows_voices(spec: EngineSpec) -> bool:
    """Whether it can be said who speaks."""
    return VOICE in spec.kinds and VOICE not in spec.unheard and spec.window.rate == RATE
