"""What holds of plans of both libraries: built, kept, loaded, run. See tensorrt_here.py."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_rtx
import torch
from backend_checks import assert_like_onnxruntime, assert_listens, changed_bundle, inputs
from tensorrt_doubles import Double
from tensorrt_fake import FakeTensorRt
from tensorrt_here import GPU, LIBRARY, RUNS, SHORT, TRT, build_plans, chosen, files, opened

from avsl.engines import Bundle, UserError, open_engine
from avsl.engines.backends.plans import plan_folder
from avsl.engines.bundle import DRAWN
from avsl.realtime.benchmark.rivals import single_precision


def test_the_doubles_refuse_what_the_real_classes_refuse(fake: FakeTensorRt) -> None:
    log = type("Log", (TRT.ILogger,), {"log": lambda self, severity, msg: None})
    config = fake.module.Builder(log()).create_builder_config()
    config.set_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE, pool_size=1)
    assert config.get_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE) == 1
    context = Double(TRT.IExecutionContext, set_input_shape=lambda name, shape: True)
    assert context.set_input_shape("x", (1, 2))
    for wrong in (
        lambda: config.set_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE),
        lambda: config.set_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE, size=1),
        lambda: config.max_workspace_size,
        lambda: context.execute_async_v2([], 1),
        lambda: context.set_input_shape("x"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    for wrong in (config, Double(TRT.IBuilderConfig)):
        with pytest.raises((AssertionError, AttributeError)):
            wrong.num_optimization_profiles = 1


@pytest.mark.parametrize("batch", [1, 32])
def test_a_plan_is_built_kept_loaded_and_run(
    fake: FakeTensorRt, bundle: Bundle, batch: int
) -> None:
    seen: list[tuple[str, int, int]] = []
    sidecars = build_plans(bundle, batch, progress=lambda *told: seen.append(told))
    assert fake.builds == 2
    rtx = tensorrt_rtx
    assert fake.flags == 1 << int(TRT.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert fake.network.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert not fake.config.get_flag(rtx.BuilderFlag.TF32)
    assert fake.config.get_memory_pool_limit(rtx.MemoryPoolType.WORKSPACE) == 2 << 30
    assert fake.config.num_optimization_profiles == (batch > 1)
    assert fake.config.num_compute_capabilities == LIBRARY.just_in_time
    assert [s["precision"] for s in sidecars] == ["fp16", "fp16"]
    steps = [
        done for what, done, total in seen if (what, total) == (f"{SHORT}drawn-sound-{batch}", 1000)
    ]
    assert steps == sorted(set(steps)), "a bar that only grows"
    assert len(steps) > 40
    assert steps[-1] == 1000
    assert {path.stat().st_mode & 0o077 for path in [plan_folder()]} == {0}
    assert not files(".part")

    engine = opened(bundle, batch)
    assert_like_onnxruntime(engine, bundle)
    sounds, pictures = inputs(bundle)
    samples, pixels = (torch.from_numpy(np.stack(x)) for x in (sounds, pictures))
    embeddings = engine.embed_on(samples)  # with batch 1: in turns
    maps = engine.localize_on(pixels, embeddings[: len(pixels)])
    for i, picture in enumerate(pictures):
        assert np.allclose(maps[i], engine.localize(picture, engine.embed(sounds[i])), atol=1e-3)
    assert build_plans(bundle, batch) == sidecars
    assert fake.builds == 2, "what is there is not built again"


def test_it_listens(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 1)
    assert_listens(opened(bundle))


def test_what_is_not_half_is_not_called_fp16(fake: FakeTensorRt, tmp_path: Path) -> None:
    whole = changed_bundle(DRAWN, tmp_path / "whole", single_precision)
    sidecars = build_plans(whole, 1)
    assert [(s["precision"], s["half layers"]) for s in sidecars] == [("not fp16", 0)] * 2
    assert chosen(whole.folder) == f"{RUNS}, not fp16"


def test_a_graph_that_the_parser_refuses(fake: FakeTensorRt, tmp_path: Path) -> None:
    def unknown(path: Path) -> bytes:
        model = onnx.load(path)
        next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Glow"
        return model.SerializeToString()

    strange = changed_bundle(DRAWN, tmp_path / "strange", unknown, graphs=("picture.onnx",))
    why = f"{LIBRARY.name} {TRT.__version__} doesn't take the graph: Glow: "
    with pytest.raises(UserError, match=why) as caught:
        build_plans(strange, 1)
    assert "\n" not in str(caught.value)
    assert not files("picture-1*.plan")
    with pytest.raises(UserError, match=why):
        open_engine(strange, LIBRARY.backend)


def test_a_full_disk(fake: FakeTensorRt, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="can't be written; No space left"):
            build_plans(bundle, 1)
        left = [path.name for path in plan_folder().iterdir()]
        assert left == ([] if LIBRARY.just_in_time else ["lock"]), "nothing half-written"
        assert "runs with torch" in chosen()


def test_ctrl_c_ends_a_build(fake: FakeTensorRt, bundle: Bundle) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plans(bundle, 1, progress=stop)
    assert not files(".failed")
    assert not files(".plan")


def test_two_builds_at_once_are_one(fake: FakeTensorRt, bundle: Bundle) -> None:
    fake.during_build = lambda: time.sleep(0.2)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: build_plans(bundle, 1), range(3)))
    hashes = [[sidecar["sha256"] for sidecar in sidecars] for sidecars in made]
    assert hashes[0] == hashes[1] == hashes[2]
    assert LIBRARY.just_in_time or fake.builds == 2
    assert chosen() == f"{RUNS}, fp16"


def test_a_folder_that_cannot_be_written(
    fake: FakeTensorRt, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="can't be made"):
        build_plans(bundle, 1)
    assert "runs with torch" in chosen()


def test_a_folder_that_others_can_write_to(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 1)
    plan_folder().chmod(0o777)
    assert "others can write to it" in chosen()


def test_sidecars_hold_all_that_a_plan_depends_on(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 32)
    sidecar = json.loads(files(".json")[0].read_text())
    facts = sidecar["facts"]
    assert facts[LIBRARY.name] == TRT.__version__
    assert facts["profile"] == {"rows": [1, 32, 32]}
    assert sidecar["inputs"]["embedding"] == [[1, 64], [32, 64], [32, 64]]
    assert (list(sidecar["inputs"]), sidecar["outputs"]) == (["picture", "embedding"], ["map"])
    common = {"graph", LIBRARY.name, "profile", "settings", "compute capability"}
    if LIBRARY.just_in_time:  # it runs on all of a kind, on any system
        assert facts.keys() == common
    else:
        assert facts.items() >= GPU.items()
        assert facts.keys() == {*common, *GPU, "OS", "machine"}
