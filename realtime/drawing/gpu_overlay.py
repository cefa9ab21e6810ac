"""Pictures on the GPU: each is uploaded once, resized, localized and tinted there, and comes back.

All of it is queued on the engine's stream, and waited for once. What is said of a picture, where
the glow is laid on it, and its label are made on the CPU as ever, by the same code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
import torch
from torch import Tensor

from avsl.engines import Localization, SoundTimeline, UserError
from avsl.engines.backends.gpu_pictures import GpuResizer
from avsl.engines.engine import Listener, TensorEngine, checked, hearing, named, speakers_for
from avsl.engines.localization import Map, Named, Track
from avsl.engines.speakers.answer import told
from avsl.engines.speakers.speakers import Speakers
from avsl.engines.windows import Samples
from avsl.realtime.drawing.canvas import STEPS, Canvas, Plane, Tinted
from avsl.realtime.drawing.overlay import LINE_FROM, LINE_OVER, LINES, Overlay, bilinear
from avsl.realtime.sources.film_sound import Sound
from avsl.realtime.sources.frames import Frame

BATCH_BYTES = 64 << 20
"""No more pictures at once than fit in this."""

Found = list[tuple[Localization, Tinted | None]]


@dataclass(frozen=True)
class Pair:
    """A picture, and the sound before it."""

    frame: Frame
    level: float
    end: int
    samples: Samples | None
    """The window that ends at sample `end`; None in silence."""
    tracks: tuple[Track, ...]


class GpuPictures:
    """Localizes the pictures of one stream on an engine's GPU, and makes them glow as `overlay`
    would when its first picture comes.

    Pictures are `yuv420p`, `yuvj420p` or `yuv420p10le`, as files and cameras give them here.
    """

    def __init__(
        self,
        engine: TensorEngine,
        overlay: Overlay,
        most: int,
        speakers: Speakers | None = None,
    ) -> None:
        """`most` is the largest number of pictures at once, `speakers` those who follow heads."""
        self._engine, self._overlay, self._most = engine, overlay, most
        self._listen, self._speakers = Listener(engine.spec), speakers
        self._dark = np.zeros(engine.spec.map_size, np.float32)
        wanted = hearing(engine.spec)
        self._wanted = None if wanted is None else torch.from_numpy(wanted).to(engine.device)
        self._bench: _Bench | None = None
        self._embedded: tuple[object, Tensor] | None = None

    def __call__(self, frame: Frame, sound: SoundTimeline) -> tuple[Localization, Tinted | None]:
        """What is found in one picture, and its planes with the glow all over them for
        `Overlay.draw`; none in silence."""
        return self.start([self.pair(frame, sound)])()[0]

    def pair(self, frame: Frame, sound: SoundTimeline) -> Pair:
        """To be called for all pictures in order, each when its sound is there."""
        window = self._engine.spec.window
        level, silent = self._listen(frame.time, sound)
        end = window.end(frame.time)
        samples = None if silent else sound.read(end, window.length)
        return Pair(frame, level, end, samples, self._speakers.tracks if self._speakers else ())

    def room(self, picture: av.VideoFrame) -> int:
        """How many pictures like this one may be worked on at once."""
        samples = picture.width * picture.height * 3 // 2
        size = samples * (2 if picture.format.name.endswith("10le") else 1)
        return max(1, min(self._most, BATCH_BYTES // size))

    @torch.no_grad()
    def start(self, pairs: Sequence[Pair]) -> Callable[[], Found]:
        """Begins with pictures of one `kind`, not more than there is `room` for. What it returns
        waits for them.

        Raises:
            UserError: the GPU's memory is full.
        """
        try:
            return self._start(pairs)
        except torch.OutOfMemoryError:
            raise UserError(
                "the GPU's memory is full; close what else uses it, or run on the CPU with "
                "--backend onnxruntime"
            ) from None

    def _start(self, pairs: Sequence[Pair]) -> Callable[[], Found]:
        if all(pair.samples is None for pair in pairs):
            return lambda: [(self._describe(pair, self._dark), None) for pair in pairs]
        with torch.cuda.stream(self._engine.stream):
            bench = self._bench_for(pairs[0].frame.picture)
            # New buffers each time: torch keeps pinned memory, and knows when it is free again.
            up, down, maps = (_pinned(there) for there in (bench.planes, bench.planes, bench.maps))
            names = None
            for pair, places in zip(pairs, bench.views(up[: len(pairs)]), strict=True):
                for pixels, place in zip(Canvas(pair.frame.picture).channels, places, strict=True):
                    place[...] = pixels
            bench.planes.copy_(up, non_blocking=True)
            bench.resize()
            embedding = self._embed(pairs, len(up))
            if self._engine.spec.kinds:
                found, kinds = self._engine.localize_kinds_on(bench.pictures, embedding)
                names = _fetched(kinds), _fetched(embedding)
            else:
                found = self._engine.localize_on(bench.pictures, embedding)
            bench.maps.copy_(found)
            bench.tint()
            down.copy_(bench.planes, non_blocking=True)
            maps.copy_(bench.maps, non_blocking=True)
            done = self._engine.stream and self._engine.stream.record_event()

        def finish() -> Found:
            if done:
                done.synchronize()
            spec, rows = self._engine.spec, range(len(pairs))
            of: list[Named | None] = [None for _ in rows]
            if names:
                kinds, heard = (part.numpy() for part in names)
                of = [named(spec, kinds[row].copy(), heard[row].copy()) for row in rows]
            seen = maps.numpy()[: len(pairs)], bench.views(down[: len(pairs)])
            found = zip(pairs, *seen, of, strict=True)
            return [(self._describe(pair, map_, its), tinted) for pair, map_, tinted, its in found]

        return finish

    def _bench_for(self, picture: av.VideoFrame) -> _Bench:
        if self._bench is None or self._bench.kind != kind(picture):
            self._bench = _Bench(picture, self._engine, self._overlay, self.room(picture))
        return self._bench

    def _embed(self, pairs: Sequence[Pair], rows: int) -> Tensor:
        """`[rows, E]`. All batches have the same size, so that an engine has one graph for them;
        what stands in the rest of the last one doesn't matter."""
        which = rows, [None if pair.samples is None else pair.end for pair in pairs]
        if self._embedded is None or self._embedded[0] != which:
            length = self._engine.spec.window.length
            pinned = self._engine.stream is not None
            samples = torch.zeros(rows, length, pin_memory=pinned)
            for row, pair in zip(samples.numpy(), pairs, strict=False):
                row[:] = 0 if pair.samples is None else pair.samples
            there = samples.to(self._engine.device, non_blocking=True)
            embedded = self._engine.embed_on(there)
            self._embedded = which, embedded if self._wanted is None else embedded * self._wanted
        return self._embedded[1]

    def _describe(self, pair: Pair, map_: Map, names: Named | None = None) -> Localization:
        silent, spec = pair.samples is None, self._engine.spec
        map_ = map_.copy() if silent else checked(map_, spec).copy()
        return told(
            pair.frame.time,
            map_,
            pair.level,
            silent,
            spec.thresholds,
            lambda peak: "network",
            names,
            pair.tracks,
        )


def drawn_on_gpu(
    frames: Iterable[Frame], sound: Sound, engine: TensorEngine, most: int
) -> Iterator[tuple[Frame, Localization]]:
    """A film's pictures in order, with what is found drawn on them, in batches of `most` or fewer:
    while one is worked on, the next is decoded, and the encoder has the one before."""
    overlay = Overlay(engine.spec.thresholds)
    speakers = speakers_for(engine.spec)
    pictures = GpuPictures(engine, overlay, most, speakers)
    running: deque[tuple[list[Pair], Callable[[], Found]]] = deque()

    def drawn() -> Iterator[tuple[Frame, Localization]]:
        pairs, finish = running.popleft()
        for pair, (localization, tinted) in zip(pairs, finish(), strict=True):
            picture = pair.frame.picture
            picture.make_writable()  # the decoder may still predict from these planes
            overlay.draw(picture, localization, tinted)
            yield pair.frame, localization

    batch: list[Pair] = []
    for frame in frames:
        if batch and kind(batch[0].frame.picture) != kind(frame.picture):
            running.append((batch, pictures.start(batch)))
            batch = []
        heard = sound.listen(frame.time)
        if speakers:
            speakers.watch(frame.time, frame.picture, heard)
        batch.append(pictures.pair(frame, heard))
        if len(batch) == pictures.room(frame.picture):
            running.append((batch, pictures.start(batch)))
            batch = []
        while len(running) > 1:
            yield from drawn()
    if batch:
        running.append((batch, pictures.start(batch)))
    while running:
        yield from drawn()


def kind(picture: av.VideoFrame) -> tuple[object, ...]:
    """All that pictures must have in common to be worked on together."""
    tags = picture.colorspace, picture.color_range, picture.color_trc
    return picture.width, picture.height, picture.format.name, *tags


class _Bench:
    """Memory on the GPU for pictures of one kind, and what is done there."""

    def __init__(
        self, picture: av.VideoFrame, engine: TensorEngine, overlay: Overlay, batch: int
    ) -> None:
        self.kind = kind(picture)
        spec, device = engine.spec, engine.device
        canvas = Canvas(picture)
        self._shapes = [channel.shape for channel in canvas.channels]
        self._deep = canvas.channels[0].itemsize > 1
        tall, wide = self._coarse = canvas.coarse
        # Padded to an even size. Ten bits fit in int16, with which torch can do more than uint16.
        dtype = torch.int16 if self._deep else torch.uint8
        self.planes = torch.zeros(batch, 6 * tall * wide, dtype=dtype, device=device)
        """Y, U and V of each picture, one after the other."""
        self.pictures = torch.zeros(
            (batch, *spec.picture_size, 3), dtype=torch.uint8, device=device
        )
        self.maps = torch.zeros((batch, *spec.map_size), device=device)
        luma = self.planes[:, : 4 * tall * wide].view(batch, 2 * tall, 2 * wide)
        chroma = self.planes[:, 4 * tall * wide :].view(batch, 2, tall, wide)
        resizer = GpuResizer(picture, spec.picture_size, device)
        glow = _Glow(canvas, overlay, engine)
        self.resize = _captured(lambda: self.pictures.copy_(resizer(luma, chroma)), engine)
        self.tint = _captured(lambda: glow(luma, chroma, self.maps), engine)

    def views(self, buffer: Tensor) -> list[Tinted]:
        """The planes of each picture in `buffer`, which is on the CPU and like `planes`."""
        tall, wide = self._coarse
        flat = buffer.numpy().view(np.uint16) if self._deep else buffer.numpy()

        def plane(row: Plane, start: int, times: int, number: int) -> Plane:
            stop = start + times * times * tall * wide
            h, w = self._shapes[number]
            return row[start:stop].reshape(times * tall, times * wide)[:h, :w]

        size = tall * wide
        return [
            (plane(row, 0, 2, 0), plane(row, 4 * size, 1, 1), plane(row, 5 * size, 1, 2))
            for row in flat
        ]


class _Glow:
    """`Overlay`'s glow all over pictures like that of `canvas`, by the same operations in the same
    order: the results are the same to the bit."""

    def __init__(self, canvas: Canvas, overlay: Overlay, engine: TensorEngine) -> None:
        device = engine.device
        self._thresholds = engine.spec.thresholds
        self._threshold, self._begin = overlay.threshold, overlay.begin
        tables = np.concatenate([overlay.inks(canvas, look).table for look in range(1 + LINES)])
        # All that is summed stays under 2^15 with eight bits.
        wide = np.int16 if canvas.channels[0].itemsize == 1 else np.int32
        self._table = torch.from_numpy(tables.astype(wide)).to(device)
        (self._row, down), (self._column, self._across) = (
            [torch.from_numpy(part).to(device) for part in bilinear(cells, size)]
            for cells, size in zip(engine.spec.map_size, canvas.coarse, strict=True)
        )
        self._down = down[:, None]
        # A quotient by a plain number would be a product with its reciprocal on a GPU.
        self._27 = torch.tensor(27.0, device=device)

    def __call__(self, luma: Tensor, chroma: Tensor, maps: Tensor) -> None:
        """Draws in place on `[B, 2 H, 2 W]` and `[B, 2, H, W]`, where `maps` `[B, m, n]` glow."""
        nodes = self._thirds((maps - self._begin) * ((STEPS - 1) / (1 - self._begin)))
        nodes = self._thirds(nodes.mT).mT
        lines = nodes[..., self._column]
        lines = lines + (nodes[..., self._column + 1] - lines) * self._across
        above = lines[:, self._row]
        step = above + (lines[:, self._row + 1] - above) * self._down
        index = step.clamp_(0, STEPS - 1).long()
        best = maps.amax((1, 2)).double()  # as `describe` compares it
        unsure = (best >= self._thresholds.unseen) & (best < self._thresholds.sounding)
        line = (best - self._threshold - LINE_FROM) * (LINES / LINE_OVER)
        look = torch.where(unsure, 0, 1 + line.clamp(0, LINES - 1).long())
        taken = self._table[index + STEPS * look[:, None, None]]
        keep, add, adds = taken[..., 0], taken[..., 1], taken[..., 2:].movedim(-1, 1)
        batch, tall, wide = keep.shape
        pixels = luma.view(batch, tall, 2, wide, 2)
        mixed = pixels * keep[:, :, None, :, None] + add[:, :, None, :, None]
        pixels.copy_(mixed >> 7)
        chroma.copy_((chroma * keep[:, None] + adds) >> 7)

    def _thirds(self, lines: Tensor) -> Tensor:
        """`overlay._thirds`, of each of `[B, m, n]`."""
        padded = torch.cat((lines[:, :1], lines, lines[:, -1:]), 1)
        before, here, there, after = padded[:, :-3], lines[:, :-1], lines[:, 1:], padded[:, 3:]
        low, high = torch.minimum(here, there), torch.maximum(here, there)
        dense = lines.new_empty(len(lines), 3 * lines.shape[1] - 2, lines.shape[2])
        dense[:, ::3] = lines
        first = (21 * here + 9 * there - 2 * before - after) / self._27
        dense[:, 1::3] = torch.clamp(first, low, high)
        second = (21 * there + 9 * here - 2 * after - before) / self._27
        dense[:, 2::3] = torch.clamp(second, low, high)
        return dense


def _pinned(like: Tensor) -> Tensor:
    """Memory of the CPU for a tensor, from which a GPU copies by itself."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda)


def _fetched(there: Tensor) -> Tensor:
    """A copy on the CPU, once the stream has got so far."""
    return _pinned(there).copy_(there, non_blocking=True)


def _captured(work: Callable[[], object], engine: TensorEngine) -> Callable[[], object]:
    """`work` as a CUDA graph: dozens of small kernels started at once. On a CPU it is as it was."""
    if engine.stream is None:
        return work
    work()  # what is set up the first time can't be captured
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=engine.stream, capture_error_mode="thread_local"):
            work()
    except RuntimeError:
        torch.cuda.synchronize(engine.device)
        return work
    return graph.replay
