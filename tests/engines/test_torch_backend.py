"""The torch backend, on the CPU: rebuilt from the bundle alone, it gives ONNX Runtime's maps."""

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch backend needs torch")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from backend_checks import (  # noqa: E402
    BUNDLES,
    THRESHOLDS,
    assert_like_onnxruntime,
    assert_listens,
    bundle_of,
    inputs,
)

from avsl.engines import Bundle, UserError, load_bundle, open_engine  # noqa: E402
from avsl.engines.backends import opening as opening_module  # noqa: E402
from avsl.engines.backends.torch import TorchEngine, TorchGraph  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(request.param, tmp_path_factory.mktemp("bundle") / "engine")


def test_maps_are_those_of_onnxruntime(bundle: Bundle) -> None:
    assert_like_onnxruntime(TorchEngine(bundle, "cpu"), bundle)


def test_in_half_precision_too(bundle: Bundle) -> None:
    """As on a GPU: the same operations, none of which mixes precisions."""
    samples, pictures = (torch.from_numpy(np.stack(x)) for x in inputs(bundle))
    pictures = pictures[:1].expand(len(samples), *pictures.shape[1:])
    maps = []
    for half in (True, False):
        sound = TorchGraph(bundle.sound_graph, CPU, half=half)
        picture = TorchGraph(bundle.picture_graph, CPU, half=half)
        maps.append(picture(pictures, sound(samples)))
    assert maps[0].dtype == torch.float32
    assert 0 < (maps[0] - maps[1]).abs().max() < 5e-3


def test_batches_stay_on_the_device(bundle: Bundle) -> None:
    engine = TorchEngine(bundle, "cpu")
    sounds, pictures = inputs(bundle)
    samples, pixels = torch.from_numpy(np.stack(sounds)), torch.from_numpy(np.stack(pictures))
    embeddings = engine.embed_on(samples)
    maps = engine.localize_on(pixels, embeddings[: len(pixels)])
    assert (embeddings.device, maps.device, engine.device, engine.stream) == (CPU, CPU, CPU, None)
    for i in range(len(pixels)):
        one = engine.localize_on(pixels[i : i + 1], engine.embed_on(samples[i : i + 1]))
        assert torch.allclose(maps[i], one[0], atol=1e-5)
        assert np.allclose(
            maps[i], engine.localize(pictures[i], engine.embed(sounds[i])), atol=1e-5
        )


def test_what_was_given_out_stays_as_it_was() -> None:
    engine = TorchEngine(load_bundle(DRAWN), "cpu")
    sounds, (picture, *_) = inputs(load_bundle(DRAWN))
    first = engine.embed_on(torch.from_numpy(sounds[0][None]))
    kept, host = first.clone(), engine.embed(sounds[0])
    map_ = engine.localize(picture, host)
    before = map_.copy()
    engine.embed_on(torch.from_numpy(sounds[1][None]))
    engine.localize(picture, engine.embed(sounds[1]))
    assert torch.equal(first, kept)
    assert np.array_equal(map_, before)


def test_it_listens() -> None:
    assert_listens(TorchEngine(load_bundle(DRAWN), "cpu"))


@pytest.mark.parametrize("half", [False, True])
def test_what_networks_of_real_things_are_made_of(tmp_path: Path, half: bool) -> None:
    """Operations and forms of them that no bundle here has yet, in ONNX Runtime and here."""
    import onnxruntime as ort
    from torch import nn
    from torch.nn import functional as F

    from avsl.train.export import write_kinds_bundle

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.mixed = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 6, 1)
            self.depth = nn.Conv2d(8, 8, 5, 2, 2, groups=8)
            self.up = nn.ConvTranspose2d(8, 8, 2, 2, bias=False)

        def forward(self, picture: torch.Tensor, heard: torch.Tensor) -> tuple[torch.Tensor, ...]:
            x = F.relu6(self.stem(F.pad((picture.float() / 255).permute(0, 3, 1, 2), (0, 1, 0, 1))))
            below = F.hardtanh(self.depth(x), 0.0, 6.0)
            x = x + F.interpolate(below, scale_factor=2.0, mode="bilinear")
            x = x + F.interpolate(below, scale_factor=2.0, mode="nearest") * self.up(below)
            x = F.avg_pool2d(x, 3, 1, 1) + F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
            x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
            seen = self.mixed(F.max_pool2d(x, 3, 1, 1)).softmax(1)
            seen = torch.stack([seen[:, :2].sum(1), seen[:, 2:5].amax(1), seen[:, 5:].sum(1)], 1)
            both = seen * heard[:, :, None, None]
            map_ = 1 - torch.exp(torch.log((1 - both).clamp_min(1e-6)).sum(1))
            return map_, both.argmax(1).to(torch.int32)

    class Hears(nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(samples[:, 3:900:1].unflatten(1, (3, 299)).square().sum(2))

    torch.manual_seed(0)
    about = {"picture_size": (64, 96), "map_size": (32, 48), "picture_step": 32, "window": 1600}
    about |= {"thresholds": THRESHOLDS, "training": {}, "name": "made", "version": "0"}
    write_kinds_bundle(Hears(), Made().eval(), tmp_path / "e", kinds="abc", **about)
    bundle = load_bundle(tmp_path / "e")
    rng = np.random.default_rng(0)
    for tall, wide in ((64, 96), (96, 32)):
        pixels = rng.integers(0, 256, (2, tall, wide, 3), np.uint8)
        samples = rng.normal(0, 0.1, (2, 1600)).astype(np.float32)
        theirs = ort.InferenceSession(bundle.sound_graph)
        (heard,) = theirs.run(None, {"samples": samples})
        sound = TorchGraph(bundle.sound_graph, CPU, half=half)
        assert torch.allclose(sound(torch.from_numpy(samples)), torch.from_numpy(heard), atol=1e-5)
        theirs = ort.InferenceSession(bundle.picture_graph)
        map_, kinds = theirs.run(["map", "kind"], {"picture": pixels, "heard": heard})
        picture = TorchGraph(bundle.picture_graph, CPU, half=half)
        ours = picture(torch.from_numpy(pixels), torch.from_numpy(heard))
        assert np.abs(ours[0].numpy() - map_).max() < 1e-5
        assert (ours[1].numpy() != kinds).mean() < 0.001
        assert ours[1].dtype == torch.int32
        assert map_.std() > 0.001


@pytest.mark.parametrize("keep", [0, 10, 1000, 40_000])
def test_a_graph_that_ends_too_soon(tmp_path: Path, keep: int) -> None:
    whole = load_bundle(DRAWN).sound_graph.read_bytes()
    (tmp_path / "sound.onnx").write_bytes(whole[:keep])
    with pytest.raises(UserError, match="not an ONNX graph") as caught:
        TorchGraph(tmp_path / "sound.onnx", CPU, half=False)
    assert "\n" not in str(caught.value)


def test_an_operation_that_it_does_not_know(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx makes the graph")
    model = onnx.load(load_bundle(DRAWN).sound_graph)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Softsign"
    onnx.save(model, tmp_path / "sound.onnx")
    with pytest.raises(UserError, match="can't run its Softsign"):
        TorchGraph(tmp_path / "sound.onnx", CPU, half=False)


# Which backend is chosen


def said(backend: str, bundle: Path | None = None) -> str:
    lines: list[str] = []
    open_engine(bundle or DRAWN, backend, say=lines.append)
    (line,) = lines
    assert "\n" not in line
    return line


def test_without_an_nvidia_driver_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "_has_nvidia", lambda: False)
    line = said("auto")
    assert line.startswith(("drawn runs with ONNX Runtime", "drawn runs with OpenVINO"))
    assert line.endswith("(no NVIDIA GPU here)")
    assert said("onnxruntime").startswith("drawn runs with ONNX Runtime")


def test_what_cannot_run_is_named_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "_has_nvidia", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = said("auto")
    assert line.startswith(("drawn runs with ONNX Runtime", "drawn runs with OpenVINO"))
    assert "(tensorrt: " in line
    assert "torch: sees no CUDA device" in line


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        ("torch", "no CUDA device here; --backend auto"),
        ("tensorrt", "tensorrt: "),
        ("tensorrt-rtx", "tensorrt-rtx: "),
        ("cuda", "must be one of auto"),
    ],
)
def test_a_named_backend_that_cannot_run_is_an_error(
    backend: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=why) as caught:
        open_engine(DRAWN, backend)
    assert "\n" not in str(caught.value)


def test_an_engine_whose_graph_torch_cannot_run_falls_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(DRAWN, tmp_path / "engine")
    monkeypatch.setattr(opening_module, "_has_nvidia", lambda: True)

    def out_of_memory(bundle: Bundle) -> None:
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr("avsl.engines.backends.torch.TorchEngine", out_of_memory)
    line = said("auto", tmp_path / "engine")
    assert line.startswith(("drawn runs with ONNX Runtime", "drawn runs with OpenVINO"))
    assert "torch: CUDA out of memory. Tried to allocate 2 GiB" in line
