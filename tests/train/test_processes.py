"""Several processes train as one would; and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

from safetensors.torch import load_file  # noqa: E402

from avsl.engines import UserError, open_engine  # noqa: E402
from avsl.train.data.pack import pack_scenes  # noqa: E402
from avsl.train.processes import check_shares  # noqa: E402
from avsl.train.recipe import Recipe  # noqa: E402
from avsl.train.run import load_checkpoint, read_metrics  # noqa: E402

TESTS = Path(__file__).parent
# With more threads than cores they wait for each other for minutes.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TINY = """
name = "tiny"
voices = 2
labelled = 8
unlabelled = 16
validation = 8
size = 32
width = 4
embedding = 8
labelled_batch = 4
unlabelled_batch = 4
lr_warm_up = 2
warm_up_steps = 4
checkpoint_every = 2
validate_every = 4
held_out = 10
"""
STAGES = ("warm-up", "unbiased")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ranks.py` leaves."""
    folder = tmp_path_factory.mktemp("ranks")
    pack_scenes(folder / "pack", 5, 40, (32, 32))
    command = [sys.executable, TESTS / "ranks.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return folder


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Up to single precision's rounding, of which the largest values have the most."""
    room = 1e-4 * float(b.nan_to_num().abs().max())
    return torch.allclose(a, b, rtol=0, atol=room, equal_nan=True)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_have_the_loss_and_the_gradients_of_one(
    ranks: Path, stage: str, rank: int
) -> None:
    """Negatives come from both, and the mean over processes is no smaller a step."""
    one = load_file(ranks / f"one-0-{stage}.safetensors")
    two = load_file(ranks / f"two-{rank}-{stage}.safetensors")
    assert one.keys() == two.keys()
    assert len(one) > 100
    for name, tensor in one.items():
        assert close(two[name], tensor), name
    if stage == "unbiased":
        assert 0 < one["accepted"] < 1


def test_processes_keep_the_same_networks(ranks: Path) -> None:
    """Batch norm's statistics, too, although each has seen clips of its own."""
    first, second = (load_file(ranks / f"two-{rank}-after.safetensors") for rank in (0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_two_half_batches_are_a_whole_one(ranks: Path, stage: str) -> None:
    whole = load_file(ranks / f"whole-0-{stage}.safetensors")
    halves = load_file(ranks / f"halves-0-{stage}.safetensors")
    for name, tensor in whole.items():
        if name == "loss" or name.startswith("gradient"):
            assert close(halves[name], tensor), name


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "count", "said"),
    [
        (8, 24, 3, "labelled_batch = 8 can't be shared out evenly among 3 processes"),
        (8, 9, 2, "unlabelled_batch = 9"),
        (2, 0, 2, "two clips or more for each"),
    ],
)
def test_batches_that_processes_can_t_share(
    labelled: int, unlabelled: int, count: int, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        check_shares(Recipe(labelled_batch=labelled, unlabelled_batch=unlabelled), count)


def test_a_launcher_s_processes_make_one_run(tmp_path: Path) -> None:
    recipe, run = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(TINY + "steps = 6\ndistill_steps = 2\n")
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    program = ["-m", "avsl.train.cli", "fit", recipe, "--run", run, "--distill"]
    done = subprocess.run(
        [sys.executable, *launch, *program],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("the engine; avsl-live") == 1
    assert open_engine(run / "engine").bundle.name == "tiny"
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl")]
    assert steps == [2, 4, 6, 8, 10, 12]
    assert not list(run.rglob("*.part"))
    about = json.loads((run / "validation" / "pack.json").read_text())
    assert about["count"] == 8


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    recipe, run = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(TINY + "steps = 4000\n")
    command = [sys.executable, "-m", "avsl.train.cli", "fit", recipe, "--run", run]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    until = time.monotonic() + 200
    try:
        while not (run / "last.safetensors").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to its workers as well
        out, err = process.communicate(timeout=60)
    finally:  # whatever fails, no training is left behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert not out
    assert err == f"{run}: stopped; the same command with --resume goes on\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    tensors, state = load_checkpoint(run / "last.safetensors")
    assert tensors
    assert 2 <= state["step"] <= read_metrics(run / "metrics.jsonl")[-1]["step"]
