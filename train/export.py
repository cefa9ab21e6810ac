"""From a trained network to a bundle: calibration, the two graphs, scores and the model card."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines.bundle import GRAPHS, SCHEMA, sha256
from avsl.engines.networks import Network, fold_batch_norm, unit
from avsl.train.fit import pictures_to_input

WINDOW = {"rate": 16_000, "length": 16_000, "hop": 800, "guard": 640}
"""A second of sound, encoded twenty times a second. The guard of 40 ms is what a microphone with
small blocks takes to deliver."""


class SoundGraph(nn.Module):
    """samples `[B, S]` float32 -> embedding `[B, E]` float32; the encoder in half precision."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.spectrogram = network.spectrogram
        self.encoder = network.sound.half()

    def forward(self, samples: Tensor) -> Tensor:
        return unit(self.encoder(self.spectrogram(samples).half()).float())


class PictureGraph(nn.Module):
    """picture `[B, h, w, 3]` uint8 and embedding `[B, E]` -> map `[B, m, n]`; the encoder in half
    precision, the cosine and the calibration in single."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.network.picture.half()

    def forward(self, picture: Tensor, embedding: Tensor) -> Tensor:
        x = pictures_to_input(picture).half()
        features = unit(self.network.picture(x).float())
        return self.network.probability(self.network.logits(features, embedding))


def calibrate(logits: Tensor, target: Tensor) -> tuple[float, float]:
    """Platt scaling: the a, b for which sigmoid(a * logits + b) has the least cross entropy against
    how much of each cell sounds. Both tensors have the same shape."""
    ab = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([ab], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(ab[0] * logits + ab[1], target)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    a, b = ab.detach().tolist()
    return a, b


def export_graphs(network: Network, folder: Path) -> None:
    """Writes `sound.onnx` and `picture.onnx` of a network to `folder`. The network is left as it
    was."""
    spec = network.spec
    frozen = Network(spec)
    frozen.load_state_dict(network.state_dict())
    fold_batch_norm(frozen.eval())
    samples = torch.zeros(2, spec.window)
    picture = torch.zeros(2, *spec.picture_size, 3, dtype=torch.uint8)
    embedding = torch.zeros(2, spec.embedding)
    batch = torch.export.Dim("batch", max=64)
    _export(SoundGraph(frozen), (samples,), ["samples"], "embedding", batch, folder / GRAPHS[0])
    _export(
        PictureGraph(frozen),
        (picture, embedding),
        ["picture", "embedding"],
        "map",
        batch,
        folder / GRAPHS[1],
    )


def _export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    output: str,
    batch: Any,
    path: Path,
) -> None:
    # The exporter reports its progress and torch's own deprecations; none of it is for our user.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=[output],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _forget_the_machine(path)


def _forget_the_machine(path: Path) -> None:
    """Takes out of a graph what the exporter notes beside it: stack traces, with this machine's
    paths."""
    model = onnx.load(path)
    parts = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    for part in (model, *parts, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    onnx.save(model, path)


def write_bundle(
    network: Network,
    folder: Path,
    *,
    name: str,
    version: str,
    thresholds: dict[str, float],
    training: dict[str, Any],
) -> None:
    """Writes the whole bundle beside `folder` and puts it in its place, an old one removed.

    `scores` are empty until `add_scores` has measured them on the bundle itself.
    """
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    export_graphs(network, beside)
    meta = {
        "schema": SCHEMA,
        "name": name,
        "version": version,
        "window": WINDOW,
        "picture_size": list(network.spec.picture_size),
        "map_size": list(network.spec.map_size),
        "embedding_size": network.spec.embedding,
        "thresholds": thresholds,
        "calibration": [round(float(x), 6) for x in network.calibration],
        "network": network.spec.to_dict(),
        "training": training,
        "scores": {},
        "sha256": {graph: sha256(beside / graph) for graph in GRAPHS},
    }
    _write_meta(beside, meta)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def add_scores(folder: Path, scores: dict[str, Any], card: str) -> None:
    """Puts measured scores into a bundle's `model.json`, and the model card beside it."""
    meta = json.loads((folder / "model.json").read_text("utf-8"))
    meta["scores"] = scores
    _write_meta(folder, meta)
    (folder / "README.md").write_text(card, "utf-8")


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    beside = folder / "model.json.part"
    beside.write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    beside.replace(folder / "model.json")
