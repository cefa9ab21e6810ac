"""What the `torch` and the `tensorrt` backends share: buffers, one stream, CUDA graphs.

torch is imported here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.bundle import Bundle, check_graph
from avsl.engines.engine import Embedding, NetworkMaps, Seen
from avsl.engines.errors import UserError
from avsl.engines.localization import Map
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples


class Graph(Protocol):
    """One of a bundle's two graphs, from tensors on the device to a tensor there, or to a tuple of
    those that `outputs` names."""

    @property
    def inputs(self) -> Iterable[str]:
        """Their names, in the order of the tensors."""

    @property
    def outputs(self) -> Iterable[str]:
        """The same of what comes out."""

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]: ...


class DeviceEngine:
    """A bundle whose graphs run on torch tensors.

    All work is put on `stream`, which is not CUDA's default one (on a CPU it is None). `embed_on`
    and `localize_on` take and give tensors on `device`, in the order of that stream: what is to use
    them runs under `torch.cuda.stream(engine.stream)` too, or waits for it. One picture or window
    at a time is what runs fastest, through a CUDA graph.
    """

    name: str
    """Of the backend, for people."""

    def __init__(self, bundle: Bundle, sound: Graph, picture: Graph, device: torch.device) -> None:
        self.spec = self.bundle = bundle
        self.device = device
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._sound = _Part(sound, ("heard",) if bundle.kinds else ())
        self._picture = _Part(picture, ("map", "kind") if bundle.kinds else ())
        samples = torch.zeros(1, bundle.window.length, device=device)
        if self.stream:
            torch.cuda.synchronize(device)
        self._one_sound = _One(self._sound, (samples,), self.stream)
        self._ones: dict[tuple[int, int], _One] = {}
        """The picture graph for single pictures of one size each."""
        self._one_picture = self._for_size(bundle.picture_size)
        # What a graph says of itself needn't be so; what has come out is.
        for path, graph, one in (
            (bundle.sound_graph, sound, self._one_sound),
            (bundle.picture_graph, picture, self._one_picture),
        ):
            given = dict(zip(graph.inputs, one.taken, strict=True))
            if bundle.picture_step and "picture" in given:
                given["picture"] = (1, None, None, 3)  # of any size
            check_graph(bundle, path, given, one.made)

    def _for_size(self, size: tuple[int, int]) -> _One:
        if size not in self._ones:
            pixels = torch.zeros(1, *size, 3, dtype=torch.uint8, device=self.device)
            join = torch.zeros(1, self.bundle.embedding_size, device=self.device)
            if self.stream:
                torch.cuda.synchronize(self.device)
            self._ones[size] = _One(self._picture, (pixels, join), self.stream)
        return self._ones[size]

    def for_pictures(self, height: int, width: int) -> Self:
        other = copy.copy(self)
        other.spec = other.bundle = self.bundle.fitted(height, width)
        try:
            other._one_picture = self._for_size(other.bundle.picture_size)
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(f"{self.spec.name}: can't be run ({why})") from None
        return other

    @property
    def captured(self) -> bool:
        """Whether single pictures and windows run through CUDA graphs."""
        return self._one_sound.captured and self._one_picture.captured

    @property
    def why(self) -> str:
        if self.stream is None:
            return f"{self.name} on {self.device}"
        eager = "" if self.captured else ", without CUDA graph"
        return f"{self.name} on {torch.cuda.get_device_name(self.device)}{eager}"

    def maps(self) -> NetworkMaps:
        return NetworkMaps(self)

    def embed(self, samples: Samples) -> Embedding:
        out: Embedding = self._one_sound.from_host(samples)[0]
        return out

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        out: Map = self._one_picture.from_host(picture, embedding)[0]
        return out

    def localize_kinds(self, picture: Picture, heard: Embedding) -> Seen:
        return Seen(*self._one_picture.from_host(picture, heard))

    def embed_on(self, samples: Tensor) -> Tensor:
        """Samples `[B, S]` float32 to embeddings `[B, E]` float32, both on the device."""
        if len(samples) == 1:
            return self._one_sound(samples)[0]
        with torch.cuda.stream(self.stream):
            return self._sound(samples)[0]

    def localize_on(self, picture: Tensor, embedding: Tensor) -> Tensor:
        """Pictures `[B, h, w, 3]` uint8 RGB and embeddings `[B, E]` to maps `[B, m, n]` float32,
        all on the device."""
        return self._localize_on(picture, embedding)[0]

    def localize_kinds_on(self, picture: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """The same with names: maps, and kinds `[B, m, n]` int32."""
        map_, kinds = self._localize_on(picture, heard)
        return map_, kinds

    def _localize_on(self, picture: Tensor, join: Tensor) -> tuple[Tensor, ...]:
        if len(picture) == 1:
            return self._one_picture(picture, join)
        with torch.cuda.stream(self.stream):
            return self._picture(picture, join)


class _Part:
    """What is named of what a graph makes, in that order; where nothing is, the first."""

    def __init__(self, graph: Graph, names: tuple[str, ...]) -> None:
        self._graph = graph
        self.names = names or tuple(graph.outputs)[:1]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        made = self._graph(*inputs)
        every = made if isinstance(made, tuple) else (made,)
        named = dict(zip(self._graph.outputs, every, strict=True))
        return tuple(named[name] for name in self.names)


class _One:
    """A graph at batch 1, with buffers that stay where they are, as a CUDA graph needs them."""

    def __init__(
        self, run: _Part, inputs: tuple[Tensor, ...], stream: torch.cuda.Stream | None
    ) -> None:
        self._run, self._inputs, self._stream = run, inputs, stream
        with torch.cuda.stream(stream):
            for _ in range(2):  # the first run chooses kernels and takes memory
                self._outputs = run(*inputs)
        self._replay = _capture(run, inputs, stream) if stream else None
        if self._replay:
            self._outputs = self._replay[1]
        pin = stream is not None
        self._sent = [torch.empty_like(x, device="cpu", pin_memory=pin) for x in inputs]
        self._received = [torch.empty_like(x, device="cpu", pin_memory=pin) for x in self._outputs]

    @property
    def captured(self) -> bool:
        return self._replay is not None

    @property
    def taken(self) -> list[tuple[int | None, ...]]:
        """Shapes of what goes in."""
        return [tuple(x.shape) for x in self._inputs]

    @property
    def made(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what comes out."""
        made = zip(self._run.names, self._outputs, strict=True)
        return {name: tuple(output.shape) for name, output in made}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """On the device; what comes back is the caller's own."""
        with torch.cuda.stream(self._stream):
            return tuple(output.clone() for output in self._ran(inputs))

    def from_host(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Of one picture or window, from the host's memory and back to it."""
        with torch.cuda.stream(self._stream):
            for pinned, given in zip(self._sent, inputs, strict=True):
                np.copyto(pinned.numpy()[0], given)
            for received, output in zip(self._received, self._ran(self._sent), strict=True):
                received.copy_(output, non_blocking=True)
        if self._stream:
            self._stream.synchronize()
        return [received.numpy()[0].copy() for received in self._received]

    def _ran(self, inputs: tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given, non_blocking=True)
        if self._replay:
            self._replay[0].replay()
            return self._outputs
        return self._run(*self._inputs)


def _capture(
    run: _Part, inputs: tuple[Tensor, ...], stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]] | None:
    """The graph and the buffers that it writes to; None where it can't be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = run(*inputs)
    except RuntimeError:
        torch.cuda.synchronize(stream.device)
        return None
    return graph, outputs
