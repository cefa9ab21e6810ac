"""Of TensorRT for RTX, which builds at once and compiles kernels where it runs. See
tensorrt_here.py."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tensorrt_doubles import Double
from tensorrt_fake import FakeTensorRt
from tensorrt_here import GPU, RUNS, TRT, build_plans, chosen, files, opened

from avsl.engines import Bundle, UserError, open_engine
from avsl.engines.backends import opening as opening_module
from avsl.engines.backends.plans import plan_folder
from avsl.engines.backends.tensorrt_library import RTX
from avsl.engines.bundle import DRAWN
from avsl.train.build import build


def test_its_plan_is_built_at_the_start_and_there_at_the_next(
    fake: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        opening_module, "build_in_background", lambda *what: pytest.fail("nothing to wait for")
    )
    assert chosen(prepare=True) == f"{RUNS}, fp16"
    assert fake.builds == 2
    assert chosen() == f"{RUNS}, fp16"
    assert fake.builds == 2
    assert chosen(batch=32) == f"{RUNS}, fp16"
    assert fake.builds == 4


def test_kernels_are_compiled_once(fake: FakeTensorRt, bundle: Bundle) -> None:
    engine = opened(bundle, 32)
    assert fake.compiled == [1, 1], "a row of each graph"
    samples = torch.zeros(5, bundle.window.length)
    engine.embed_on(samples)
    engine.embed_on(samples)
    assert fake.compiled == [1, 1, 5]
    assert [json.loads(path.read_text()) for path in files(".kernels")] == [[1], [1, 5]]
    fake.compiled.clear()
    opened(bundle, 32).embed_on(samples)
    assert not fake.compiled


def test_kernels_that_do_not_fit_are_compiled_anew(fake: FakeTensorRt, bundle: Bundle) -> None:
    """As after an update of the driver, or from a disk that was full."""
    opened(bundle)
    for path in files(".kernels"):
        path.write_bytes(b"of another driver")
    fake.compiled.clear()
    opened(bundle)
    assert fake.compiled == [1, 1]
    fake.compiled.clear()
    opened(bundle)
    assert not fake.compiled


def test_kernels_that_cannot_be_kept_are_no_fault(
    fake: FakeTensorRt, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avsl.engines.backends.tensorrt.write_file", full)
    assert chosen() == f"{RUNS}, fp16"
    assert not files(".kernels")


@pytest.mark.parametrize("capability", ["9.0", "10.0", "7.0"])
def test_a_card_that_it_does_not_run_on(
    fake: FakeTensorRt, capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GPU, "compute capability", capability)
    line = chosen()
    assert line.startswith("drawn runs with torch on cpu (tensorrt: not installed; ")
    sm = f"SM{capability.replace('.', '')}"
    known = "SM75, SM80, SM86, SM89, SM120, SM121"
    assert f"; tensorrt-rtx: runs on {known}, not on {sm!r})" in line
    assert fake.builds == 0


@pytest.mark.parametrize("which", ["cut short", "one bit", "another's sidecar", "no sidecar"])
def test_a_plan_that_is_not_its_own_is_built_anew(
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
    assert chosen() == f"{RUNS}, fp16"
    assert fake.builds == 3


def test_a_driver_that_takes_no_plan(fake: FakeTensorRt) -> None:
    """It is built once more, and then the next backend is taken."""
    fake.module.Runtime = lambda logger: Double(
        TRT.Runtime, deserialize_cuda_engine=lambda serialized_engine: None
    )
    line = chosen(prepare=True)
    assert line.startswith("drawn runs with torch on cpu (")
    assert "tensorrt-rtx: TensorRT for RTX can't load the plan rtx-drawn-sound-1" in line
    with pytest.raises(UserError, match=r"can't load the plan .*; --backend auto takes what"):
        open_engine(DRAWN, "tensorrt-rtx")


def test_a_build_that_gives_nothing(fake: FakeTensorRt, bundle: Bundle) -> None:
    fake.build_gives_none = True
    line = chosen()
    assert line.startswith("drawn runs with torch on cpu (")
    assert "built nothing: IBuilder::buildSerializedNetwork: Error Code 4" in line
    assert not list(plan_folder().iterdir()), "nothing that would keep it from trying again"
    fake.build_gives_none = False
    assert chosen() == f"{RUNS}, fp16"


def test_plans_built_elsewhere_are_taken_along(
    fake: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # built where there is no GPU

        def none(*what: object) -> None:
            raise UserError("no GPU here")

        patch.setattr("avsl.engines.backends.tensorrt_library.gpu_facts", none)
        lines = build(DRAWN, tmp_path / "along", None, None, "sm89")
    assert [line.split(":")[0] for line in lines] == [
        *(f"plan rtx-drawn-{graph}-{rows}" for rows in (1, 32) for graph in ("sound", "picture")),
        str(tmp_path / "along"),
    ]
    assert f"for SM89 and {RTX.name} {TRT.__version__}" in lines[-1]
    for path in (tmp_path / "along").iterdir():
        shutil.copy(path, plan_folder())
    fake.builds = 0
    assert chosen() == chosen(batch=32) == f"{RUNS}, fp16"
    assert fake.builds == 0
    monkeypatch.setitem(GPU, "compute capability", "12.0")
    assert chosen() == f"{RUNS}, fp16"
    assert fake.builds == 2, "for another card they are built"


def test_build_says_what_it_made(fake: FakeTensorRt) -> None:
    lines = build(DRAWN, None, None, None)
    assert lines[0].startswith("plan rtx-drawn-sound-1: fp16 (82 % of 11 convolutions and")
    assert lines[3].startswith("plan rtx-drawn-picture-32: fp16 (100 % of 15 convolutions and")
    assert lines[4:] == [f"{DRAWN}: {RUNS}, fp16"]
