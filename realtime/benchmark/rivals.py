"""What `annotate` is set against: the same graphs in ONNX Runtime as it comes, and the same network
in a plain loop of PyTorch. Both need the extra `train`, for `onnx` and for `torch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avsl.engines import Bundle, Picture
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine


class DefaultOnnxRuntime(OnnxRuntimeEngine):
    """A bundle in ONNX Runtime with default settings, all of its graphs in single precision."""

    why = "ONNX Runtime with default settings"

    def __init__(self, bundle: Bundle) -> None:
        import onnxruntime as ort

        self.spec = self.bundle = bundle
        ort.set_default_logger_severity(3)
        self._sound, self._picture = (
            ort.InferenceSession(single_precision(path), providers=["CPUExecutionProvider"])
            for path in (bundle.sound_graph, bundle.picture_graph)
        )


def single_precision(path: Path) -> bytes:
    """A graph with all that is half precision in it made single."""
    import onnx
    from onnx import TensorProto, numpy_helper

    model = onnx.load(path)
    tensors = [(tensor, tensor.name) for tensor in model.graph.initializer]
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append((attribute.t, attribute.t.name))
    for tensor, name in tensors:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    del model.graph.value_info[:]
    return model.SerializeToString()


class PlainLoop:
    """A film annotated as the field's public code runs its networks: picture by picture, both
    encoders for each, eager and in single precision, the map stretched to the picture, coloured
    and mixed in as RGB. PyTorch takes what threads it takes; nothing waits for the encoder."""

    def __init__(self, bundle: Bundle) -> None:
        """The bundle's networks, with random weights, which take as long."""
        from avsl.engines.networks import Ensemble, Network, NetworkSpec

        meta = bundle.meta
        specs = meta["networks"] if "networks" in meta else [meta["network"]]  # in the oldest
        networks = [
            Network(NetworkSpec(**{**spec, "picture_size": tuple(spec["picture_size"])}))
            for spec in specs
        ]
        self.bundle = bundle
        self.ensemble = Ensemble(networks, meta.get("combine", "mean")).eval()

    def __call__(self, source: Path, target: Path) -> None:
        import torch

        from avsl.realtime.sinks.video_file import VideoWriter
        from avsl.realtime.sources.film_sound import Sound
        from avsl.realtime.sources.video_file import open_video

        window = self.bundle.window
        video, sound = open_video(source), Sound(source, window.rate, 4.0)
        writer = VideoWriter(target, video)
        with torch.no_grad():
            for frame in video.frames():
                heard = sound.listen(frame.time)
                samples = heard.read(window.end(frame.time), window.length)
                rgb = torch.from_numpy(frame.picture.to_ndarray(format="rgb24"))
                drawn = self.annotated(rgb, torch.from_numpy(samples))
                writer.write(_like(frame.picture, drawn.numpy()))
        writer.finish()
        video.close()
        sound.close()

    def annotated(self, rgb: Any, samples: Any) -> Any:
        """RGB `[H, W, 3]` uint8 and samples `[S]`, as tensors, to RGB with the map in it."""
        import torch
        import torch.nn.functional as F

        small = F.interpolate(
            rgb.permute(2, 0, 1)[None], self.bundle.picture_size, mode="bilinear", antialias=True
        )
        p = self.ensemble.probability(self.ensemble(small.float() / 127.5 - 1, samples[None]))
        colour = 102 * torch.stack([p, 1 - (2 * p - 1).abs(), 1 - p], 1)
        stretched = F.interpolate(colour, rgb.shape[:2], mode="bilinear")[0].permute(1, 2, 0)
        return stretched.add_(rgb, alpha=0.6).byte().contiguous()


def _like(picture: Any, rgb: Picture) -> Any:
    import av

    drawn = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=picture.format.name)
    drawn.pts, drawn.time_base = picture.pts, picture.time_base
    return drawn
