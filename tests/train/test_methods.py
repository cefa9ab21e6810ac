"""A method is a file: one that nothing else knows of trains and becomes an engine."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from accelerate.state import AcceleratorState  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from avsl.engines import UserError, open_engine  # noqa: E402
from avsl.train.cli import main  # noqa: E402
from avsl.train.fit import stages  # noqa: E402
from avsl.train.methods.dmt import Dmt  # noqa: E402
from avsl.train.methods.method import Method, Networks, method_of, named  # noqa: E402  # noqa: E402
from avsl.train.methods.objectives import cosines  # noqa: E402
from avsl.train.methods.registry import METHODS  # noqa: E402
from avsl.train.recipe import Recipe, load_recipe  # noqa: E402
from avsl.train.run import read_metrics  # noqa: E402

TINY = """
base = "toy"
size = 32
width = 4
embedding = 8
labelled = 8
unlabelled = 8
validation = 6
voices = 2
held_out = 8
labelled_batch = 2
unlabelled_batch = 4
warm_up_steps = 2
steps = 4
checkpoint_every = 2
validate_every = 2
precision = "fp32"
workers = 0
sounds = ["log-mel"]
"""
asked: list[tuple[int, ...]] = []
moved: list[int] = []


class Toy(Method):
    """Similarity is the mean of the map."""

    def similarities(self, features: Tensor, embeddings: Tensor, recipe: Recipe) -> Tensor:
        asked.append(tuple(features.shape))
        return cosines(features, embeddings).mean(1) / recipe.temperature


class ToyAlone(Toy):
    """With stages of its own, and something to do after each step."""

    def stages(self, recipe: Recipe) -> dict[str, int]:
        return {"first": 2, "second": recipe.steps}

    def after_step(self, networks: Networks, at: int, recipe: Recipe) -> None:
        moved.append(at)


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Accelerate keeps the precision that it was first asked for in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    asked.clear()
    moved.clear()


def add(monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
    """All that a new method needs: a module with `METHOD`, and its line in `METHODS`."""
    module: Any = types.ModuleType("toy_method")
    module.METHOD = method
    monkeypatch.setitem(sys.modules, "toy_method", module)
    monkeypatch.setitem(METHODS, "toy", "toy_method")


def train(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["avsl-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


def toy(folder: Path) -> Path:
    recipe = folder / "toy.toml"
    recipe.write_text(TINY)
    return recipe


def logged(run: Path) -> list[tuple[int, str]]:
    return [(line["step"], line["stage"]) for line in read_metrics(run / "metrics.jsonl")]


def assert_runs(engine: Path) -> None:
    opened = open_engine(engine)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
    map_ = opened.localize(picture, opened.embed(rng.normal(0, 0.1, 16_000).astype(np.float32)))
    assert map_.shape == (4, 4) and np.isfinite(map_).all()


def test_a_method_is_trained_by_stages_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, ToyAlone())
    run = tmp_path / "run"
    train(monkeypatch, "fit", toy(tmp_path), "--run", run)
    assert logged(run) == [(2, "first"), (4, "second"), (6, "second")]
    assert moved == [0, 1, 0, 1, 2, 3]
    assert asked == [(6, 8, 4, 4)] * 6, "labelled and unlabelled clips, a step at a time"
    assert_runs(run / "engine")
    train(monkeypatch, "build", run, "--stage", "first", "--out", tmp_path / "early")
    assert_runs(tmp_path / "early")


def test_dmt_stands_over_a_method_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Toy())
    run = tmp_path / "run"
    train(monkeypatch, "fit", toy(tmp_path), "--run", run)
    assert logged(run) == [(2, "warm-up"), (4, "unbiased"), (6, "unbiased")]
    assert asked == [(6, 8, 4, 4)] * 6, "DMT's contrastive loss is made of its similarity"
    assert_runs(run / "engine")


def test_a_dry_run_knows_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, ToyAlone())
    train(monkeypatch, "fit", toy(tmp_path), "--run", tmp_path / "run", "--dry-run")
    assert "second: 4 steps of 6 clips" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", METHODS)
def test_both_encoders_learn_from_a_method_s_similarity(name: str) -> None:
    recipe, method = Recipe(base=name, size=32, width=4, embedding=8), named(name)
    torch.manual_seed(0)
    network = method.network(recipe, 0)
    features = network.features(torch.randn(3, 3, 32, 32))
    rows = method.similarities(features, network.embed(torch.randn(3, 16_000)), recipe)
    assert rows.shape == (3, 3)
    nn.functional.cross_entropy(rows, torch.arange(3)).backward()
    for encoder in (network.picture, network.sound):
        assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_a_recipe_names_what_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"base must be one of own, ez-vsl$"):
        load_recipe(toy(tmp_path))
    add(monkeypatch, Toy())
    recipe = load_recipe(toy(tmp_path))
    assert isinstance(method_of(recipe), Dmt)
    assert [stage.name for stage in stages(recipe)] == ["warm-up", "unbiased"]
