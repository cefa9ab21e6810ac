"""A bundle in OpenVINO on the CPU (extra `openvino`, imported where an engine is made)."""

from __future__ import annotations

import copy
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from avsl.engines.backends.machine import network_threads
from avsl.engines.bundle import Bundle, check_graph
from avsl.engines.engine import Embedding, NetworkMaps, Seen
from avsl.engines.errors import UserError
from avsl.engines.localization import Map
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples

Precision = Literal["bf16", "f32"]


class OpenVinoEngine:
    """A bundle in OpenVINO, its encoders in bfloat16 where the CPU has instructions for it.

    Raises:
        UserError: OpenVINO isn't installed, or can't load a graph.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, precision: Precision | None = None
    ) -> None:
        try:
            ov = _openvino()
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"OpenVINO can't be used here ({reason}); pip install 'avsl[openvino]'"
            ) from None
        self.spec = self.bundle = bundle
        core = _core(ov)
        able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision: Precision = precision or ("bf16" if able else "f32")
        self.why = f"OpenVINO, {self.precision}"
        settings = {
            "INFERENCE_NUM_THREADS": threads or network_threads(),
            "NUM_STREAMS": 1,
            # Tied to a core, a thread would wait there for decoder and encoder.
            "ENABLE_CPU_PINNING": False,
        }

        def opened(model: Any, precision: Precision) -> Any:
            hint = {"INFERENCE_PRECISION_HINT": precision}
            return core.compile_model(model, "CPU", {**settings, **hint}).create_infer_request()

        def read(path: Path) -> Any:
            model = core.read_model(str(path))
            inputs = {port.get_any_name(): _shape(port) for port in model.inputs}
            outputs = {_name(port, i): _shape(port) for i, port in enumerate(model.outputs)}
            check_graph(bundle, path, inputs, outputs)
            return model

        try:
            path = bundle.sound_graph
            sound = read(path)
            sound.reshape({"samples": [1, bundle.window.length]})
            front, encoder = _split(ov, sound) if self.precision == "bf16" else (None, sound)
            self._front = opened(front, "f32") if front else None
            self._sound = opened(encoder, self.precision)
            path = bundle.picture_graph
            self._graph = read(path)
        except RuntimeError as error:  # what OpenVINO raises has no narrower public base
            raise UserError(f"{path}: OpenVINO can't load it ({_reason(error)})") from None
        self._open = opened
        self._opened: dict[tuple[int, int], Any] = {}
        """The picture graph for pictures of one size each."""
        self._picture = self._for_size(bundle.picture_size)

    def _for_size(self, size: tuple[int, int]) -> Any:
        if size not in self._opened:
            join = {self.bundle.join: [1, self.bundle.embedding_size]}
            try:
                graph = self._graph.clone()
                graph.reshape({"picture": [1, *size, 3], **join})
                self._opened[size] = self._open(graph, self.precision)
            except RuntimeError as error:  # as above
                path = self.bundle.picture_graph
                raise UserError(f"{path}: OpenVINO can't load it ({_reason(error)})") from None
        return self._opened[size]

    def for_pictures(self, height: int, width: int) -> OpenVinoEngine:
        other = copy.copy(self)
        other.spec = other.bundle = self.bundle.fitted(height, width)
        other._picture = self._for_size(other.bundle.picture_size)
        return other

    def maps(self) -> NetworkMaps:
        return NetworkMaps(self)

    def embed(self, samples: Samples) -> Embedding:
        values = [samples[None]]
        if self._front:
            values = list(self._run(self._front, values, share_outputs=True).values())
        out: Embedding = self._run(self._sound, values)["heard" if self.bundle.kinds else 0][0]
        return out

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        values = {"picture": picture[None], self.bundle.join: embedding[None]}
        out: Map = self._run(self._picture, values)["map" if self.bundle.kinds else 0][0]
        return out

    def localize_kinds(self, picture: Picture, heard: Embedding) -> Seen:
        values = {"picture": picture[None], "heard": heard[None]}
        made = self._run(self._picture, values)
        return Seen(made["map"][0], made["kind"][0])

    def _run(self, request: Any, values: Any, **options: bool) -> Any:
        try:
            return request.infer(values, share_inputs=True, **options)
        except RuntimeError as error:
            raise UserError(f"{self.spec.name}: can't be run ({_reason(error)})") from None


def _name(port: Any, number: int) -> str:
    return port.get_any_name() if port.get_names() else str(number)


def _shape(port: Any) -> list[int | None]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [side.get_length() if side.is_static else None for side in shape]


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]


def _openvino() -> Any:
    """The package without its telemetry: it would tell Google Analytics of each import, and nothing
    leaves the computer. Where `openvino_telemetry` can't be imported it does without."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[name]
        if before:
            sys.modules[name] = before
    return openvino


@lru_cache(1)  # for good: once the last one was gone, 2026.4.1 left the interpreter's memory broken
def _core(ov: Any) -> Any:
    return ov.Core()


def _split(ov: Any, model: Any) -> tuple[Any, Any]:
    """Cuts a sound graph in two where it goes to half precision, the front being None where it
    never does: asked for bfloat16, OpenVINO would take the spectrogram in it, too. Of 779 held-out
    scenes the peak was then within a cell of single precision's in 98.97 %; so, in 99.23.
    """
    half = ov.Type.f16
    inside: set[str] = set()  # what comes after a cast to half
    cuts = []
    for op in model.get_ordered_ops():
        sources = [port.get_node() for port in op.input_values()]
        casts = op.get_type_name() == "Convert" and op.get_output_element_type(0) == half
        if any(source.get_name() in inside for source in sources):
            inside.add(op.get_name())
        elif casts and sources[0].get_type_name() != "Constant":
            inside.add(op.get_name())
            cuts.append(op)
    if not cuts:
        return None, model
    ports = [op.input_value(0) for op in cuts]
    front = ov.Model([ov.opset13.result(port) for port in ports], model.get_parameters(), "front")
    inputs = [ov.opset13.parameter(port.get_shape(), ov.Type.f32) for port in ports]
    for op, given in zip(cuts, inputs, strict=True):
        op.input(0).replace_source_output(given.output(0))
    return front, ov.Model(model.get_results(), inputs, "encoder")
