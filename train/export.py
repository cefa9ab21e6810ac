"""From a trained network to a bundle: calibration, the two graphs, scores and the model card."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines.bundle import GRAPHS, LARGEST_SIDE, SCHEMA, load_bundle, sha256
from avsl.engines.networks import Ensemble
from avsl.engines.networks.parts import fold_batch_norm, unit
from avsl.train.data.views import pictures_to_input

WINDOW = {"rate": 16_000, "hop": 800, "guard": 640}
"""Sound is encoded twenty times a second. The guard of 40 ms is what a microphone with
small blocks takes to deliver."""


class SoundGraph(nn.Module):
    """samples `[B, S]` float32 -> embedding `[B, E]` float32: spectrograms in single precision,
    encoders in half."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        sounds = [network.sound for network in ensemble.members]
        self.fronts = nn.ModuleList(sound.front for sound in sounds)
        self.encoders = nn.ModuleList(sound.half() for sound in sounds)

    def forward(self, samples: Tensor) -> Tensor:
        parts = [
            unit(encoder(front(samples).half()).float())
            for front, encoder in zip(self.fronts, self.encoders, strict=True)
        ]
        return torch.cat(parts, 1)


class PictureGraph(nn.Module):
    """picture `[B, h, w, 3]` uint8 and embedding `[B, E]` -> map `[B, m, n]`; the encoders in half
    precision, cosines, their combination and the calibration in single."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble
        for network in ensemble.members:
            network.picture.half()

    def forward(self, picture: Tensor, embedding: Tensor) -> Tensor:
        x = pictures_to_input(picture).half()
        return self.ensemble.probability(self.ensemble.log_odds(x, embedding))


def calibrate(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[float, float]:
    """Platt scaling: the a, b for which sigmoid(a * logits + b) has the least cross entropy against
    how much of each cell sounds. All tensors have the same shape; `weight` is what a cell counts.
    """
    ab = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([ab], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(ab[0] * logits + ab[1], target, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    a, b = ab.detach().tolist()
    return a, b


def export_graphs(ensemble: Ensemble, folder: Path) -> None:
    """Writes `sound.onnx` and `picture.onnx` of an ensemble to `folder`. The ensemble is left as it
    was."""
    spec = ensemble.spec
    frozen = copy.deepcopy(ensemble).eval()
    fold_batch_norm(frozen)
    samples = torch.zeros(2, spec.window)
    picture = torch.zeros(2, *spec.picture_size, 3, dtype=torch.uint8)
    embedding = torch.zeros(2, embedding_size(ensemble))
    rows = {0: torch.export.Dim("batch", max=64)}
    sound = {"samples": (samples, rows)}
    export_graph(SoundGraph(frozen), sound, ["embedding"], folder / GRAPHS[0])
    seen = {"picture": (picture, rows), "embedding": (embedding, rows)}
    export_graph(PictureGraph(frozen), seen, ["map"], folder / GRAPHS[1])


def embedding_size(ensemble: Ensemble) -> int:
    """Of all its networks together."""
    return sum(network.spec.embedding for network in ensemble.members)


def export_graph(
    module: nn.Module,
    inputs: dict[str, tuple[Tensor, dict[int, Any]]],
    outputs: list[str],
    path: Path,
) -> None:
    """Writes a graph; of each input, an example and which of its sides may be any."""
    # The exporter reports its progress and torch's own deprecations; none of it is for our user.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(example for example, _ in inputs.values()),
            str(path),
            input_names=[*inputs],
            output_names=outputs,
            dynamic_shapes=tuple(sides for _, sides in inputs.values()),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    forget_the_machine(path)


def forget_the_machine(path: Path) -> None:
    """Takes out of a graph what the exporter notes beside it: stack traces, with this machine's
    paths."""
    model = onnx.load(path)
    parts = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    for part in (model, *parts, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    onnx.save(model, path)


def write_bundle(
    ensemble: Ensemble,
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
    spec = ensemble.spec
    meta = {
        "name": name,
        "version": version,
        "window": {**WINDOW, "length": spec.window},
        "picture_size": list(spec.picture_size),
        "map_size": list(spec.map_size),
        "embedding_size": embedding_size(ensemble),
        "thresholds": thresholds,
        "calibration": [round(float(x), 6) for x in ensemble.calibration],
        "networks": [network.spec.to_dict() for network in ensemble.members],
        "combine": ensemble.combine,
        "training": training,
    }
    _write(folder, meta, lambda beside: export_graphs(ensemble, beside))


def write_kinds_bundle(
    sound: nn.Module,
    picture: nn.Module,
    folder: Path,
    *,
    name: str,
    version: str,
    kinds: Sequence[str],
    window: int,
    picture_size: tuple[int, int],
    map_size: tuple[int, int],
    picture_step: int | None = None,
    thresholds: dict[str, float],
    training: dict[str, Any],
) -> None:
    """Writes the bundle of networks that know things by name, as `write_bundle` does. They are
    exported as they are: batch norms folded (`fold_batch_norm`), what is to be half in half.

    Args:
        sound: from samples `[B, S]` to how likely each kind is heard, `[B, K]` float32.
        picture: from pictures `[B, h, w, 3]` uint8 and that to a map `[B, m, n]` and kinds
            `[B, m, n]` int32, as `networks.kinds.joined` gives them.
        window: samples, S.
        picture_size: with `picture_step`, which divides it, the largest there is room for;
            `picture` must then take any height and width that it divides. What it does must not ask
            for a side's length: `F.interpolate` by `scale_factor`, means by `mean((2, 3))`.
    """
    meta = {
        "name": name,
        "version": version,
        "kinds": list(kinds),
        "window": {**WINDOW, "length": window},
        "picture_size": list(picture_size),
        **({"picture_step": picture_step} if picture_step else {}),
        "map_size": list(map_size),
        "thresholds": thresholds,
        "training": training,
    }
    rows: dict[int, Any] = {0: torch.export.Dim("batch", max=64)}
    sides = dict(rows)
    if picture_step:
        for axis, side in ((1, "rows"), (2, "columns")):
            most = LARGEST_SIDE // picture_step
            sides[axis] = picture_step * torch.export.Dim(side, max=most)
    pixels = torch.zeros(2, *picture_size, 3, dtype=torch.uint8)
    heard = torch.zeros(2, len(kinds))

    def graphs(beside: Path) -> None:
        samples = {"samples": (torch.zeros(2, window), rows)}
        export_graph(sound, samples, ["heard"], beside / GRAPHS[0])
        seen = {"picture": (pixels, sides), "heard": (heard, rows)}
        export_graph(picture, seen, ["map", "kind"], beside / GRAPHS[1])

    _write(folder, meta, graphs)


def _write(folder: Path, meta: dict[str, Any], graphs: Callable[[Path], None]) -> None:
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    graphs(beside)
    hashes = {graph: sha256(beside / graph) for graph in GRAPHS}
    _write_meta(beside, {"schema": SCHEMA, **meta, "scores": {}, "sha256": hashes})
    load_bundle(beside)
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
