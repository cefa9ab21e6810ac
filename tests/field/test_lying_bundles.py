"""Bundles that lie, in model.json, in their graphs, in what comes out of them: one line each."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl.engines import Localizer, SoundTimeline, UserError, load_bundle, open_engine
from avsl.engines.bundle import DEFAULT, DRAWN
from avsl.engines.engine import checked

Meta = dict[str, Any]
NAN, INF = float("nan"), float("inf")
GOOD: Meta = json.loads((DRAWN / "model.json").read_text("utf-8"))


def within(key: str, **values: object) -> Callable[[Meta], object]:
    return lambda meta: meta[key].update(values)


def at_top(**values: object) -> Callable[[Meta], object]:
    return lambda meta: meta.update(values)


LIES: list[tuple[Callable[[Meta], object], str]] = [
    # Sizes: infinite, absurd, no whole numbers, none at all.
    (at_top(picture_size=[INF, 160]), "picture_size must be two whole numbers"),
    (at_top(picture_size=[NAN, NAN]), "picture_size must be two whole numbers"),
    (at_top(picture_size=[900_000, 900_000]), "picture_size must lie in 16..4096"),
    (at_top(picture_size=[20_000, 20_000]), "picture_size must lie in 16..4096"),
    (at_top(picture_size=[0, 160]), "picture_size must lie in"),
    (at_top(picture_size=[160.5, 160]), "picture_size must be two whole"),
    (at_top(picture_size=["160", "160"]), "picture_size must be two whole"),
    (at_top(picture_size=[160, 160, 3]), "not a bundle's description"),
    (at_top(picture_size=None), "not a bundle's description"),
    (at_top(map_size=[900_000, 900_000]), "map_size must be at least 1"),
    (at_top(map_size=[-1, 20]), "map_size must be at least 1"),
    (at_top(map_size=[True, 20]), "map_size must be two whole"),
    (at_top(embedding_size=0), "embedding_size must lie in"),
    (at_top(embedding_size=10**30), "embedding_size must lie in"),
    (at_top(embedding_size=64.0), "embedding_size must be a whole number"),
    # Windows that make no sense.
    (within("window", length=INF), "length must be a whole number"),
    (within("window", length=10**9), "length must be"),
    (within("window", hop=1), "hop must be"),
    (within("window", hop=0), "hop must be"),
    (within("window", hop=16_001), "hop must be"),
    (within("window", rate=1), "rate must lie in"),
    (within("window", rate=10**7), "rate must lie in"),
    (within("window", guard=-5), "guard must lie in"),
    (within("window", guard=16_001), "guard must lie in"),
    # Thresholds.
    (within("thresholds", glow=NAN), "glow must lie in 0..1"),
    (within("thresholds", glow=-5), "glow must lie in 0..1"),
    (within("thresholds", unseen=NAN), "unseen and sounding"),
    (within("thresholds", sounding=1.5), "unseen and sounding"),
    (within("thresholds", unseen=0.9, sounding=0.5), "in this order"),
    (within("thresholds", gate_db=INF), "gate_db must lie in"),
    (within("thresholds", gate_db=NAN), "gate_db must lie in"),
    (within("thresholds", gate_margin_db=-1), "gate_margin_db must lie in"),
    (within("thresholds", glow="0.5"), "glow must be a number"),
    (within("thresholds", glow=10**400), "not a bundle's description"),
    # Text.
    (at_top(name="\x1b[2J\nerror: forged"), "name must be up to 100 letters"),
    (at_top(name="a" * 100_000), "name must be up to 100 letters"),
    (at_top(name=""), "name must be up to 100 letters"),
    (at_top(name={}), "name must be up to 100 letters"),
    (at_top(version="\x9b2J"), "version must be up to 100 letters"),
    (at_top(schema="\x1b[2J"), "schema must be a whole number"),
    (at_top(sha256=[]), "not a bundle's description"),
    # What the graphs are not.
    (at_top(picture_size=[320, 320]), "its picture is 160 x 160 x 3, model.json says 320"),
    (within("window", length=32_000), "its samples is 16000, model.json says 32000"),
    (at_top(map_size=[7, 9]), "its map is 20 x 20, model.json says 7 x 9"),
    (at_top(embedding_size=63), "its embedding is 64, model.json says 63"),
]


def lying(folder: Path, meta: Meta, **graphs: bytes) -> Path:
    """The drawn engine with another model.json, or other graphs, all hashes as they should be."""
    shutil.copytree(DRAWN, folder)
    for name, data in graphs.items():
        (folder / f"{name}.onnx").write_bytes(data)
        meta = {**meta, "sha256": {**meta["sha256"]}}
        meta["sha256"][f"{name}.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "model.json").write_text(json.dumps(meta))
    return folder


def refused(folder: Path, backend: str) -> str:
    with pytest.raises(UserError) as caught:
        open_engine(folder, backend)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    return said


@pytest.mark.parametrize("case", range(len(LIES)))
def test_a_model_json_that_lies(case: int, tmp_path: Path) -> None:
    change, says = LIES[case]
    meta = deepcopy(GOOD)
    change(meta)
    assert says in refused(lying(tmp_path / "e", meta), "onnxruntime")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("case", range(len(LIES) - 4, len(LIES)))
def test_every_backend_holds_it_against_its_graphs(
    backend: str, case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(backend, reason=f"{backend} isn't here")
    on_cpu(backend, monkeypatch)
    change, says = LIES[case]
    meta = deepcopy(GOOD)
    change(meta)
    assert says in refused(lying(tmp_path / "e", meta), backend)


def on_cpu(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses to be asked for where there is no GPU; its graphs run all the same."""
    if backend == "torch":
        from avsl.engines.backends.torch import TorchEngine

        monkeypatch.setattr(TorchEngine.__init__, "__defaults__", ("cpu",))


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 100_000, "NaN", "1e999", '{"schema": 1}']
)
def test_json_that_is_deep_or_nothing(text: str, tmp_path: Path) -> None:
    folder = lying(tmp_path / "e", GOOD)
    (folder / "model.json").write_text(text)
    refused(folder, "onnxruntime")


def test_a_pipe_in_place_of_a_file_is_no_wait(tmp_path: Path) -> None:
    import os

    for name in ("model.json", "sound.onnx"):
        folder = lying(tmp_path / name, GOOD)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert f"{name} is missing" in refused(folder, "onnxruntime")


def test_graphs_in_each_other_s_place(tmp_path: Path) -> None:
    sound, picture = ((DRAWN / f"{name}.onnx").read_bytes() for name in ("sound", "picture"))
    swapped = lying(tmp_path / "swapped", GOOD, sound=picture, picture=sound)
    assert "sound.onnx: takes no samples" in refused(swapped, "onnxruntime")
    twice = lying(tmp_path / "twice", GOOD, picture=sound)
    assert "picture.onnx: takes no picture and embedding" in refused(twice, "onnxruntime")


def graph(node: str, shape: list[int | str], value: float = 0.0) -> bytes:
    """A picture graph that gives a constant, or what `node` makes of it."""
    pytest.importorskip("onnx", reason="graphs are made by onnx")
    from onnx import TensorProto, helper

    given = [
        helper.make_tensor_value_info("picture", TensorProto.UINT8, ["b", 160, 160, 3]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", 64]),
    ]
    sizes = [1 if isinstance(side, str) else side for side in shape]
    count = int(np.prod(sizes))
    constant = helper.make_tensor("c", TensorProto.FLOAT, sizes, [value] * count)
    # Their shape is not said, as a graph need not.
    out = helper.make_tensor_value_info("map", TensorProto.FLOAT, None)
    inner = helper.make_graph(
        [helper.make_node(node, ["c"], ["map"])], "g", given, [out], [constant]
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())


EVIL: list[tuple[str, list[int | str], float, str]] = [
    ("Identity", [1, 20, 20], NAN, "its map has values outside 0..1, or none"),
    ("Identity", [1, 20, 20], 138.6, "its map has values outside 0..1"),
    ("Identity", [1, 20, 20], -0.5, "its map has values outside 0..1"),
    ("Identity", [1, 20, 20], INF, "its map has values outside 0..1"),
    ("Identity", [1, 20], 0.5, "its map is 20, model.json says 20 x 20"),
    ("Identity", [1, 1, 20, 20], 0.5, "its map is 1 x 20 x 20, model.json says 20 x 20"),
    ("Identity", [1, 7, 9], 0.5, "its map is 7 x 9, model.json says 20 x 20"),
    ("NonZero", [1, 20, 20], 0.5, "can't load it"),
    ("ReduceSum", [1, 20, 20], 0.5, "its map"),
]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("node", "shape", "value", "says"), EVIL)
def test_maps_that_are_none(
    backend: str, node: str, shape: list[int | str], value: float, says: str, tmp_path: Path
) -> None:
    pytest.importorskip(backend, reason=f"{backend} isn't here")
    folder = lying(tmp_path / "e", GOOD, picture=graph(node, shape, value))
    with pytest.raises(UserError) as caught:
        localize_once(folder, backend)
    assert "drawn" in str(caught.value) or "picture.onnx" in str(caught.value)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def localize_once(folder: Path, backend: str) -> None:
    engine = open_engine(folder, backend)
    spec = engine.spec
    sound = SoundTimeline(spec.window.rate, 3)
    wave = 0.3 * np.sin(np.arange(2 * spec.window.rate) / 9)
    sound.write(0, wave.astype(np.float32))
    Localizer(engine)(1.9, np.zeros((*spec.picture_size, 3), np.uint8), sound)


@pytest.mark.parametrize("folder", [DEFAULT, DRAWN], ids=lambda path: path.name)
def test_what_ships_tells_the_truth(folder: Path) -> None:
    load_bundle(folder)
    localize_once(folder, "onnxruntime")


def test_looking_at_a_map_costs_next_to_nothing() -> None:
    """A picture takes milliseconds."""
    spec = load_bundle(DRAWN)
    map_ = np.full(spec.map_size, 0.5, np.float32)
    began = time.perf_counter()
    for _ in range(1000):
        checked(map_, spec)
    assert time.perf_counter() - began < 0.3
