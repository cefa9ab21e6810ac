"""The whole way of a plan, against the real TensorRT classes: built, kept, loaded, run.

Not collected by itself: `test_tensorrt.py` runs it in a process of its own for each version, with
the folder of the bindings in `TENSORRT_DOUBLES`.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from backend_checks import assert_like_onnxruntime, assert_listens, inputs
from tensorrt_doubles import Double, FakeTensorRt, real

from avsl.engines import Bundle, UserError, load_bundle, open_engine
from avsl.engines.backends import opening as opening_module
from avsl.engines.backends import plans as plans_module
from avsl.engines.backends.plans import NoPlan, build_plans, plan_folder
from avsl.engines.backends.tensorrt import TensorRtEngine
from avsl.engines.backends.torch import TorchEngine
from avsl.engines.bundle import DRAWN
from avsl.train.build import build

torch.set_num_threads(1)
TRT = real(Path(os.environ["TENSORRT_DOUBLES"]))
GPU = {
    "GPU": "NVIDIA Test",
    "compute capability": "9.0",
    "multiprocessors": 132,
    "GPU memory": 10**11,
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRt:
    """TensorRT with a GPU that is the CPU, and a cache folder of its own."""
    made = FakeTensorRt(TRT)
    monkeypatch.setitem(sys.modules, "tensorrt", made.module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(opening_module, "_has_nvidia", lambda: True)
    for module in ("plans", "tensorrt"):
        monkeypatch.setattr(
            f"avsl.engines.backends.{module}.gpu_facts", lambda index=None: dict(GPU)
        )
    for name, cls in (
        ("tensorrt.TensorRt", TensorRtEngine),
        ("torch.Torch", TorchEngine),
    ):

        def on_cpu(*arguments: object, cls: type = cls) -> object:
            return cls(*arguments, device="cpu")

        monkeypatch.setattr(f"avsl.engines.backends.{name}Engine", on_cpu)
    return made


@pytest.fixture
def bundle() -> Bundle:
    return load_bundle(DRAWN)


def files(suffix: str) -> list[Path]:
    return sorted(plan_folder().glob(f"*{suffix}"))


def chosen(**options: object) -> str:
    lines: list[str] = []
    open_engine(DRAWN, say=lines.append, **options)
    (line,) = lines
    assert "\n" not in line
    return line


def test_the_doubles_refuse_what_the_real_classes_refuse() -> None:
    config = Double(TRT.IBuilderConfig, set_memory_pool_limit=lambda pool, pool_size: None)
    config.set_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE, pool_size=1)
    for wrong in (
        lambda: config.set_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE),
        lambda: config.set_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE, size=1),
        lambda: config.max_workspace_size,
        lambda: Double(TRT.IExecutionContext).execute_async_v2([], 1),
    ):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    with pytest.raises((AssertionError, AttributeError)):
        config.num_optimization_profiles = 1


@pytest.mark.parametrize("batch", [1, 32])
def test_a_plan_is_built_kept_loaded_and_run(
    fake: FakeTensorRt, bundle: Bundle, batch: int
) -> None:
    seen: list[tuple[str, int, int]] = []
    sidecars = build_plans(bundle, batch, progress=lambda *told: seen.append(told))
    assert fake.builds == 2
    assert fake.flags == 1 << int(TRT.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert fake.config._cleared == [TRT.BuilderFlag.TF32]
    assert fake.config._pools[TRT.MemoryPoolType.WORKSPACE] == 2 << 30
    assert len(fake.config._profiles) == (batch > 1)
    assert [s["precision"] for s in sidecars] == ["fp16", "fp16"]
    steps = [done for what, done, total in seen if (what, total) == (f"drawn-sound-{batch}", 1000)]
    assert steps == sorted(set(steps)), "a bar that only grows"
    assert len(steps) > 40
    assert steps[-1] == 1000
    assert {path.stat().st_mode & 0o077 for path in [plan_folder()]} == {0}
    assert not files(".part")

    engine = TensorRtEngine(bundle, batch, device="cpu")
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
    assert_listens(TensorRtEngine(bundle, device="cpu"))


def test_live_starts_at_once_and_takes_the_plan_at_the_next_start(
    fake: FakeTensorRt, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(
        opening_module, "build_in_background", lambda bundle, batch: begun.append(batch)
    )
    line = chosen(prepare=True)
    assert line.startswith("drawn runs with torch on cpu (no plan drawn-sound-1 yet, it is being")
    assert (begun, fake.builds) == ([1], 0)
    assert "being built" not in chosen()
    build_plans(bundle, 1)
    assert chosen(prepare=True) == "drawn runs with TensorRT on cpu, fp16"
    assert begun == [1]
    with pytest.raises(
        UserError, match=r"no plan drawn-sound-32 yet; avsl-train build .* builds it"
    ):
        open_engine(bundle, "tensorrt", batch=32)


def test_build_says_what_it_made(fake: FakeTensorRt, bundle: Bundle) -> None:
    lines = build(DRAWN, None, None, None)
    assert fake.builds == 4
    assert lines[0].startswith("plan drawn-sound-1: fp16 (")
    assert lines[3].startswith("plan drawn-picture-32: fp16 (")
    assert lines[4:] == [f"{DRAWN}: drawn runs with TensorRT on cpu, fp16"]
    fake.build_gives_none = True
    for path in files(".json"):
        path.unlink()
    lines = build(DRAWN, None, None, None)
    assert lines[0].startswith("no plan: TensorRT")
    assert "runs with torch" in lines[-1]


def test_the_timing_cache_goes_from_build_to_build(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 1)
    assert fake.timings_given == [b"", b"timings"]
    (cache,) = plan_folder().glob("timings-*")
    cache.write_bytes(b"of another version")
    build_plans(bundle, 32)
    assert fake.timings_given[2:] == [b"of another version", b"", b"timings"]


def test_what_is_not_half_is_not_called_fp16(fake: FakeTensorRt, bundle: Bundle) -> None:
    fake.whole_precision = True
    assert {s["precision"] for s in build_plans(bundle, 1)} == {"not fp16"}
    assert chosen() == "drawn runs with TensorRT on cpu, not fp16"


def test_a_new_version_is_named_and_builds_anew(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 1)
    fake.module.__version__ = "12.0.0.1"
    line = chosen()
    assert f"out of date (TensorRT: {TRT.__version__} -> 12.0.0.1)" in line
    assert "runs with torch" in line
    build_plans(bundle, 1)
    assert fake.builds == 4
    assert "runs with TensorRT" in chosen()


@pytest.mark.parametrize("which", ["cut short", "one bit", "another's sidecar", "no sidecar"])
def test_a_plan_that_is_not_its_own_is_never_loaded(
    fake: FakeTensorRt, bundle: Bundle, which: str
) -> None:
    build_plans(bundle, 1)
    plan, sidecar = files(".plan")[0], files(".json")[0]
    data = bytearray(plan.read_bytes())
    if which == "cut short":
        plan.write_bytes(data[:-1])
    elif which == "one bit":
        data[len(data) // 2] ^= 1
        plan.write_bytes(data)
    elif which == "another's sidecar":
        shutil.copy(files(".json")[1], sidecar)
    else:
        sidecar.unlink()
    loaded: list[bytes] = []
    runtime = fake.module.Runtime
    fake.module.Runtime = lambda logger: loaded.append(b"") or runtime(logger)
    assert "runs with torch" in chosen()
    assert len(loaded) <= 1, "the other graph's at most"
    build_plans(bundle, 1)
    assert fake.builds == 3
    assert "runs with TensorRT" in chosen()


def test_a_plan_that_tensorrt_refuses_is_built_anew(fake: FakeTensorRt, bundle: Bundle) -> None:
    """As after an update of the driver: the file is whole, and still can't be loaded."""
    build_plans(bundle, 1)
    runtime = fake.module.Runtime
    fake.module.Runtime = lambda logger: Double(
        TRT.Runtime, deserialize_cuda_engine=lambda serialized_engine: None
    )
    assert "can't load the plan drawn-sound-1" in chosen()
    fake.module.Runtime = runtime
    build_plans(bundle, 1)
    assert fake.builds == 3
    assert "runs with TensorRT" in chosen()


def test_a_build_that_gives_nothing(fake: FakeTensorRt, bundle: Bundle) -> None:
    fake.build_gives_none = True
    with pytest.raises(UserError, match=r"built nothing: .* no implementation"):
        build_plans(bundle, 1)
    line = chosen(prepare=True)  # and no build is begun, or there would be one at each start
    assert "runs with torch" in line
    assert "built nothing" in line
    assert "avsl-train build tries it again" in line
    assert not files(".plan")
    fake.build_gives_none = False
    build_plans(bundle, 1)
    assert "runs with TensorRT" in chosen()


def test_a_graph_that_the_parser_refuses(fake: FakeTensorRt, bundle: Bundle) -> None:
    fake.parser_refuses = "In node 3:\n unsupported operator"
    with pytest.raises(UserError, match="doesn't take the graph: In node 3: unsupported operator"):
        build_plans(bundle, 1)
    assert "runs with torch" in chosen()


def test_a_full_disk(fake: FakeTensorRt, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="can't be written; No space left"):
            build_plans(bundle, 1)
    assert [path.name for path in plan_folder().iterdir()] == ["lock"], "nothing half-written"
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
    builders = [threading.Thread(target=build_plans, args=(bundle, 1)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert fake.builds == 2
    assert "runs with TensorRT" in chosen()


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


def test_the_background_builds_with_a_command_that_works(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As far as it comes without a GPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    commands: list[list[str]] = []
    monkeypatch.setattr(
        plans_module.subprocess, "Popen", lambda command, **_: commands.append(command)
    )
    plans_module.build_in_background(bundle, 1)
    monkeypatch.undo()
    done = subprocess.run(commands[0], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: tensorrt: ")


def test_sidecars_hold_all_that_a_plan_depends_on(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 32)
    sidecar = json.loads(files(".json")[0].read_text())
    assert sidecar["facts"]["TensorRT"] == TRT.__version__
    assert sidecar["facts"]["profile"]["embedding"] == [[1, 64], [32, 64], [32, 64]]
    assert sidecar["facts"].items() >= GPU.items()
    assert {"graph", "settings", "OS", "machine"} < sidecar["facts"].keys()
    with pytest.raises(NoPlan, match="no plan drawn-sound-1 yet"):
        TensorRtEngine(bundle, device="cpu")
