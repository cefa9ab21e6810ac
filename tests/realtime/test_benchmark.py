"""The benchmark: what it counts, what it sets annotate against, and that its figures add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import frame_times, make_video

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

import onnx  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from avsl.engines import load_bundle  # noqa: E402
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402
from avsl.realtime.benchmark.chart import draw  # noqa: E402
from avsl.realtime.benchmark.film import benchmark_files  # noqa: E402
from avsl.realtime.benchmark.report import report  # noqa: E402
from avsl.realtime.benchmark.rivals import (  # noqa: E402
    DefaultOnnxRuntime,
    PlainLoop,
    single_precision,
)
from avsl.realtime.benchmark.roofline import Ceilings, Counter, count, table  # noqa: E402

CPU = torch.device("cpu")
LIMITS = Ceilings({torch.float16: 2e12, torch.float32: 1e12}, 1e11)


def test_arithmetic_and_traffic_are_counted() -> None:
    x, w, b = torch.randn(2, 3, 8, 10), torch.randn(5, 3, 3, 3), torch.randn(5)
    line, weights, bias = torch.randn(4, 6), torch.randn(7, 6), torch.randn(7)

    def work() -> None:
        F.relu(F.conv2d(x, w, b, padding=1))
        F.linear(line, weights, bias)
        x.permute(0, 2, 3, 1)[:, 0].unsqueeze(1)  # moves nothing

    groups = count(work, CPU, LIMITS)
    assert set(groups) == {
        "convolutions to 8x10, float32",
        "matrix products, float32",
        "other",
    }
    conv = groups["convolutions to 8x10, float32"]
    assert conv.calls == 1
    assert conv.flops == 2 * (2 * 5 * 8 * 10) * (3 * 3 * 3)
    assert conv.bytes == 4 * (x.numel() + w.numel() + b.numel() + 2 * 5 * 8 * 10)
    product = groups["matrix products, float32"]
    assert product.flops == 2 * 4 * 6 * 7
    assert product.bytes == 4 * (4 * 6 + 6 * 7 + 7 + 4 * 7)
    assert groups["other"].bytes == 4 * 2 * (2 * 5 * 8 * 10), "the ReLU's input and output"
    for work_ in groups.values():
        assert work_.seconds > 0
        assert work_.least == max(work_.flops / 1e12, work_.bytes / 1e11)
    assert len(table(groups)) == 2 + 3 + 1


def test_a_network_s_arithmetic_is_that_of_its_layers() -> None:
    loop = PlainLoop(load_bundle(DRAWN))
    loop.ensemble.half()
    spec = loop.ensemble.spec
    x = torch.zeros(2, 3, *spec.picture_size, dtype=torch.half)
    with torch.no_grad(), Counter(CPU) as counter:
        loop.ensemble.members[0].picture(x)
    expected = 0
    side = spec.picture_size[0]
    w = spec.width  # PictureEncoder: channels in and out, kernel, and side of what comes out
    layers = [(3, w, 3, 2), (w, 2 * w, 3, 4), *[(2 * w, 2 * w, 3, 4)] * 2]
    layers += [(2 * w, 4 * w, 3, 8), *[(4 * w, 4 * w, 3, 8)] * 2, (4 * w, 6 * w, 3, 16)]
    layers += [*[(6 * w, 6 * w, 3, 16)] * 4, (6 * w, 4 * w, 1, 16), (4 * w, 4 * w, 3, 8)]
    layers += [(4 * w, spec.embedding, 1, 8)]
    for inputs, outputs, kernel, stride in layers:
        expected += 2 * 2 * inputs * outputs * kernel**2 * (side // stride) ** 2
    assert sum(work.flops for work in counter.groups(LIMITS).values()) == expected


def test_default_onnx_runtime_runs_the_same_graphs_in_single_precision() -> None:
    bundle = load_bundle(DRAWN)
    for path in (bundle.sound_graph, bundle.picture_graph):
        graph = onnx.load_from_string(single_precision(path)).graph
        assert not {t.data_type for t in graph.initializer} & {onnx.TensorProto.FLOAT16}
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*bundle.picture_size, 3), np.uint8)
    samples = rng.normal(0, 0.1, bundle.window.length).astype(np.float32)
    maps = [
        engine.localize(picture, engine.embed(samples))
        for engine in (DefaultOnnxRuntime(bundle), OnnxRuntimeEngine(bundle))
    ]
    assert np.abs(maps[0] - maps[1]).max() < 1e-3


def test_figures_add_up_and_are_shown(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", size=(320, 240), seconds=1.0)
    found = benchmark_files(film, 2, OnnxRuntimeEngine(load_bundle(DRAWN)), True)
    assert found["frames"] == len(frame_times(film))
    assert len(frame_times(tmp_path / "out.mp4")) == found["frames"], "the plain loop's film"
    fps, stages = found["fps"], found["stages_ms"]
    assert set(fps) == {"floor", "annotate", "default", "plain"}
    assert min(fps.values()) > 0
    low, high = found["share_of_floor"][1:]
    assert low <= found["share_of_floor"][0] <= high
    assert list(stages) == [
        *("decode", "hear", "resize", "sound network", "picture network"),
        *("map", "overlay", "encode"),
    ]
    networks = stages["sound network"] + stages["picture network"]
    assert networks == pytest.approx(found["networks_ms"]["annotate"], rel=0.2)
    result = json.loads(json.dumps({"machine": "M", "picture": "P", "networks": [found, found]}))
    text = report(result)
    assert text.startswith("M; P")
    assert f"| annotate | {fps['annotate']} | {fps['annotate']} |" in text
    assert "| overlay |" in text
    draw(result, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_the_plain_loop_draws_where_its_network_says() -> None:
    loop = PlainLoop(load_bundle(DRAWN))
    rgb = torch.full((90, 160, 3), 100, dtype=torch.uint8)
    with torch.no_grad():
        for side in (0, 1):
            map_ = torch.zeros(1, 20, 20)
            map_[:, :, 10 * side : 10 * side + 10] = 1
            loop.ensemble.probability = lambda _, map_=map_: map_  # type: ignore[method-assign]
            drawn = loop.annotated(rgb, torch.zeros(16_000)).float()
            red = drawn[..., 0].mean(0)
            assert (red[:70].mean() > red[90:].mean()) == (side == 0)
            assert drawn.shape == rgb.shape
