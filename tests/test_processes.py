"""Several processes train as one: losses, gradients, and one run folder at the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

from safetensors.torch import load_file  # noqa: E402

from avsl.demos.scenes import BENCH  # noqa: E402
from avsl.engines import open_engine  # noqa: E402
from avsl.train.pack import pack_scenes  # noqa: E402

SCRIPT = Path(__file__).with_name("processes.py")


def launch(processes: int, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, f"--nproc_per_node={processes}", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "pack"
    pack_scenes(folder, 5, 28, (64, 64), cast=BENCH)
    return folder


def test_two_processes_have_the_loss_and_the_gradients_of_one(pack: Path, tmp_path: Path) -> None:
    found = []
    for count in (1, 2):
        launch(count, str(SCRIPT), str(pack), str(tmp_path / f"{count}"))
        found.append(load_file(tmp_path / f"{count}"))
    one, two = found
    assert (one.pop("world"), two.pop("world")) == (1, 2)
    assert one.keys() == two.keys()
    assert one["unbiased.accepted"] > 0
    for name, tensor in one.items():
        if not tensor.isfinite().all():
            continue  # a quality of which there was no case
        scale = max(1e-4, float(tensor.abs().max()))
        assert float((tensor - two[name]).abs().max()) < 2e-3 * scale, name


def test_two_processes_fit_one_run(pack: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f'data = "{pack}"\nlabelled = 8\nunlabelled = 12\nvalidation = 6\nsize = 64\nwidth = 4\n'
        "labelled_batch = 4\nunlabelled_batch = 4\nwarm_up_steps = 2\nsteps = 2\n"
    )
    run = tmp_path / "run"
    launch(2, "-m", "--", "avsl.train.cli", "fit", str(recipe), "--run", str(run))
    assert open_engine(run / "engine").bundle.embedding_size == 128
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2, "one process writes, not both"
    assert not list(run.rglob("*.part"))
