"""What the `torch` and the `tensorrt` backends share: buffers, one stream, CUDA graphs.

torch is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.bundle import Bundle, check_graph
from avsl.engines.engine import Embedding, NetworkMaps
from avsl.engines.localization import Map
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples


class Graph(Protocol):
    """One of a bundle's two graphs, from tensors on the device to a tensor there."""

    @property
    def inputs(self) -> Iterable[str]:
        """Their names, in the order of the tensors."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...


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
        self._sound, self._picture = sound, picture
        samples = torch.zeros(1, bundle.window.length, device=device)
        pixels = torch.zeros(1, *bundle.picture_size, 3, dtype=torch.uint8, device=device)
        embedding = torch.zeros(1, bundle.embedding_size, device=device)
        if self.stream:
            torch.cuda.synchronize(device)
        self._one_sound = _One(sound, (samples,), self.stream)
        self._one_picture = _One(picture, (pixels, embedding), self.stream)
        # What a graph says of itself needn't be so; what has come out is.
        for path, graph, one in (
            (bundle.sound_graph, sound, self._one_sound),
            (bundle.picture_graph, picture, self._one_picture),
        ):
            check_graph(bundle, path, dict(zip(graph.inputs, one.taken, strict=True)), one.made)

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
        return self._one_sound.from_host(samples)

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        return self._one_picture.from_host(picture, embedding)

    def embed_on(self, samples: Tensor) -> Tensor:
        """Samples `[B, S]` float32 to embeddings `[B, E]` float32, both on the device."""
        if len(samples) == 1:
            return self._one_sound(samples)
        with torch.cuda.stream(self.stream):
            return self._sound(samples)

    def localize_on(self, picture: Tensor, embedding: Tensor) -> Tensor:
        """Pictures `[B, h, w, 3]` uint8 RGB and embeddings `[B, E]` to maps `[B, m, n]` float32,
        all on the device."""
        if len(picture) == 1:
            return self._one_picture(picture, embedding)
        with torch.cuda.stream(self.stream):
            return self._picture(picture, embedding)


class _One:
    """A graph at batch 1, with buffers that stay where they are, as a CUDA graph needs them."""

    def __init__(
        self, run: Graph, inputs: tuple[Tensor, ...], stream: torch.cuda.Stream | None
    ) -> None:
        self._run, self._inputs, self._stream = run, inputs, stream
        with torch.cuda.stream(stream):
            for _ in range(2):  # the first run chooses kernels and takes memory
                self._output = run(*inputs)
        self._replay = _capture(run, inputs, stream) if stream else None
        if self._replay:
            self._output = self._replay[1]
        pin = stream is not None
        self._sent = [torch.empty_like(x, device="cpu", pin_memory=pin) for x in inputs]
        self._received = torch.empty_like(self._output, device="cpu", pin_memory=pin)

    @property
    def captured(self) -> bool:
        return self._replay is not None

    @property
    def taken(self) -> list[tuple[int, ...]]:
        """Shapes of what goes in."""
        return [tuple(x.shape) for x in self._inputs]

    @property
    def made(self) -> tuple[int, ...]:
        """Shape of what comes out."""
        return tuple(self._output.shape)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """On the device; what comes back is the caller's own."""
        with torch.cuda.stream(self._stream):
            return self._ran(inputs).clone()

    def from_host(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Of one picture or window, from the host's memory and back to it."""
        with torch.cuda.stream(self._stream):
            for pinned, given in zip(self._sent, inputs, strict=True):
                np.copyto(pinned.numpy()[0], given)
            self._received.copy_(self._ran(self._sent), non_blocking=True)
        if self._stream:
            self._stream.synchronize()
        out: NDArray[np.float32] = self._received.numpy()[0].copy()
        return out

    def _ran(self, inputs: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given, non_blocking=True)
        if self._replay:
            self._replay[0].replay()
            return self._output
        return self._run(*self._inputs)


def _capture(
    run: Graph, inputs: tuple[Tensor, ...], stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, Tensor] | None:
    """The graph and the buffer that it writes to; None where it can't be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = run(*inputs)
    except RuntimeError:
        torch.cuda.synchronize(stream.device)
        return None
    return graph, output
