"""ONNX Runtime on the CPU: always there, and what the other backends are held against."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnxruntime as ort

from avsl.engines.backends.machine import network_threads
from avsl.engines.bundle import Bundle, check_graph
from avsl.engines.engine import Embedding, NetworkMaps, Seen
from avsl.engines.errors import UserError
from avsl.engines.localization import Map
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples


class OnnxRuntimeEngine:
    """A bundle in ONNX Runtime on the CPU. It computes in single precision: what is half in the
    graphs is widened once, when they are opened."""

    why = "ONNX Runtime"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self.spec = self.bundle = bundle
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or network_threads()
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._sound = self._open(bundle, bundle.sound_graph, options)
        self._picture = self._open(bundle, bundle.picture_graph, options)

    def for_pictures(self, height: int, width: int) -> OnnxRuntimeEngine:
        other = copy.copy(self)
        other.spec = other.bundle = self.bundle.fitted(height, width)
        return other

    def maps(self) -> NetworkMaps:
        return NetworkMaps(self)

    @staticmethod
    def _open(bundle: Bundle, path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            inputs = {given.name: given.shape for given in session.get_inputs()}
            outputs = {given.name: given.shape for given in session.get_outputs()}
        except Exception as error:  # ONNX Runtime's own exceptions share no narrower public base
            raise UserError(f"{path}: ONNX Runtime can't load it ({_reason(error)})") from None
        check_graph(bundle, path, inputs, outputs)
        return session

    def _run(
        self, session: ort.InferenceSession, feed: dict[str, Any], outputs: list[str] | None = None
    ) -> Any:
        try:
            return [out[0] for out in session.run(outputs, feed)]
        except Exception as error:  # as above
            raise UserError(f"{self.spec.name}: can't be run ({_reason(error)})") from None

    def embed(self, samples: Samples) -> Embedding:
        outputs = ["heard"] if self.bundle.kinds else None
        out: Embedding = self._run(self._sound, {"samples": samples[None]}, outputs)[0]
        return out

    def localize(self, picture: Picture, embedding: Embedding) -> Map:
        feed = {"picture": picture[None], self.bundle.join: embedding[None]}
        out: Map = self._run(self._picture, feed, ["map"] if self.bundle.kinds else None)[0]
        return out

    def localize_kinds(self, picture: Picture, heard: Embedding) -> Seen:
        feed = {"picture": picture[None], "heard": heard[None]}
        return Seen(*self._run(self._picture, feed, ["map", "kind"]))


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
