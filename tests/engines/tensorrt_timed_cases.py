"""Of the library whose plans are timed for minutes on the GPU. See tensorrt_here.py."""

import shutil
import subprocess
from pathlib import Path

import pytest
import tensorrt_rtx
from tensorrt_doubles import Double
from tensorrt_fake import FakeTensorRt
from tensorrt_here import RUNS, TRT, build_plans, chosen, files, opened, with_a_gpu

from avsl.engines import Bundle, UserError, open_engine
from avsl.engines.backends import opening as opening_module
from avsl.engines.backends import plans as plans_module
from avsl.engines.backends.plans import NoPlan, plan_folder
from avsl.engines.backends.tensorrt_library import RTX
from avsl.engines.bundle import DRAWN
from avsl.train.build import build


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
    with pytest.raises(UserError, match=r"built nothing: .* must have at least one output"):
        build_plans(bundle, 1)
    line = chosen(prepare=True)  # and no build is begun, or there would be one at each start
    assert "runs with torch" in line
    assert "built nothing" in line
    assert "avsl-train build tries it again" in line
    assert not files(".plan")
    fake.build_gives_none = False
    build_plans(bundle, 1)
    assert "runs with TensorRT" in chosen()


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


def test_a_plan_for_more_rows_is_none_for_one(fake: FakeTensorRt, bundle: Bundle) -> None:
    build_plans(bundle, 32)
    with pytest.raises(NoPlan, match="no plan drawn-sound-1 yet"):
        opened(bundle)


def test_while_a_plan_is_missing_the_other_library_runs(
    fake: FakeTensorRt, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both are installed, on a card that both run on."""
    rtx = FakeTensorRt(RTX.module, tensorrt_rtx, tensorrt_rtx)
    with_a_gpu(monkeypatch, tmp_path / "both", fake, rtx)
    why = "(no plan drawn-sound-1 yet)"
    assert chosen() == f"drawn runs with TensorRT for RTX on cpu, fp16 {why}"
    assert (fake.builds, rtx.builds) == (0, 2)
    build_plans(bundle, 1)
    assert chosen() == f"{RUNS}, fp16"
    assert rtx.builds == 2
    line = chosen(backend="tensorrt-rtx")
    assert line == "drawn runs with TensorRT for RTX on cpu, fp16, as asked"
