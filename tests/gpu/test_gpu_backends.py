"""What needs a CUDA device: the torch backend in half precision, CUDA graphs, TensorRT itself."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the GPU backends need torch")

from backend_checks import (  # noqa: E402
    BUNDLES,
    assert_like_onnxruntime,
    assert_listens,
    bundle_of,
    inputs,
)

from avsl.engines import Bundle, UserError, load_bundle, open_engine  # noqa: E402
from avsl.engines.backends.plans import build_plans, plan_folder  # noqa: E402
from avsl.engines.backends.tensorrt_library import LIBRARIES, RTX  # noqa: E402
from avsl.engines.backends.torch import TorchEngine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(request.param, tmp_path_factory.mktemp("bundle") / "engine")


def assert_graphs_are_eager(engine: TorchEngine, bundle: Bundle) -> None:
    """What the CUDA graph gives for one, and what two at once give without it."""
    assert engine.captured
    sounds, pictures = inputs(bundle)
    samples, pixels = (torch.from_numpy(np.stack(x[:2])).cuda() for x in (sounds, pictures))
    torch.cuda.synchronize()
    both = engine.embed_on(samples)
    maps = engine.localize_on(pixels, both)
    ones = [engine.embed_on(samples[i : i + 1]) for i in range(2)]
    alone = [engine.localize_on(pixels[i : i + 1], ones[i]) for i in range(2)]
    engine.stream.synchronize()
    assert torch.allclose(both, torch.cat(ones), atol=5e-3)
    assert torch.allclose(maps, torch.cat(alone), atol=5e-3)
    host = engine.localize(pictures[0], engine.embed(sounds[0]))
    assert np.array_equal(host, alone[0][0].cpu().numpy())


def test_torch_gives_the_maps_of_onnxruntime(bundle: Bundle) -> None:
    engine = TorchEngine(bundle)
    assert_like_onnxruntime(engine, bundle)
    assert_graphs_are_eager(engine, bundle)


def test_torch_listens() -> None:
    assert_listens(TorchEngine(load_bundle(DRAWN)))


def test_auto_takes_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines: list[str] = []
    open_engine(DRAWN, say=lines.append)
    assert any(f"runs with {name} on " in lines[0] for name in ("torch", "TensorRT for RTX"))


def test_without_a_cuda_graph_the_maps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsl.engines.backends.device._capture", lambda *_: None)
    engine = TorchEngine(load_bundle(DRAWN))
    assert not engine.captured
    assert_like_onnxruntime(engine, load_bundle(DRAWN))


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("backend", LIBRARIES)
def test_tensorrt_gives_the_maps_of_onnxruntime(
    bundle: Bundle, backend: str, batch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from avsl.engines.backends.tensorrt import TensorRtEngine

    library = LIBRARIES[backend]
    try:
        library.load()
        library.gpu_here()
    except UserError as fault:
        pytest.skip(str(fault))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sidecars = build_plans(bundle, batch, library)
    assert {sidecar["precision"] for sidecar in sidecars} == {"fp16"}, sidecars
    engine = TensorRtEngine(bundle, batch, library)
    assert_like_onnxruntime(engine, bundle)
    assert_graphs_are_eager(engine, bundle)
    if library.just_in_time:
        assert list((tmp_path / "avsl" / "plans").glob("*.kernels"))
    if bundle.name == "drawn":
        assert_listens(engine)


def test_plans_taken_along_are_what_is_wanted_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    try:
        RTX.load()
        capability = RTX.gpu_here()["compute capability"]
    except UserError as fault:
        pytest.skip(str(fault))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = plan_folder()
    sm = f"SM{capability.replace('.', '')}"
    build_plans(load_bundle(DRAWN), 1, RTX, sm=sm, out=folder)
    built = {path: path.stat().st_mtime_ns for path in folder.glob("*.plan")}
    lines: list[str] = []
    open_engine(DRAWN, "tensorrt-rtx", say=lines.append)
    assert "runs with TensorRT for RTX on " in lines[0]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.plan")} == built
