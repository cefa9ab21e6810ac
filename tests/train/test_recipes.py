"""Recipes: what they refuse; the paper's can be read, say what their names say, and train."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from accelerate.state import AcceleratorState  # noqa: E402

import avsl.train  # noqa: E402
from avsl.engines import UserError  # noqa: E402
from avsl.engines.networks import Ensemble  # noqa: E402
from avsl.train.data.clips import pack_clips  # noqa: E402
from avsl.train.data.dataset import write_scenes  # noqa: E402
from avsl.train.data.material import SLACK_S, Material, open_material  # noqa: E402
from avsl.train.fit import Trainer, fit  # noqa: E402
from avsl.train.recipe import Recipe, load_recipe, to_toml  # noqa: E402
from avsl.train.run import prepare_run, read_metrics  # noqa: E402

FOLDER = Path(avsl.train.__file__).parent / "recipes"
FILES = sorted(path for path in FOLDER.glob("*.toml") if path.stem != "photographs")
"""Those of the paper."""
README = (FOLDER / "README.md").read_text("utf-8")
SIZE = 64
EPOCHS = {10_000: 100, 20_000: 75, 40_000: 50, 80_000: 30, 144_000: 20, 160_000: 20}
"""Of the unlabelled clips, by how many these are; the ends are EZ-VSL's."""

SHRUNK = [
    *("labelled=4", "unlabelled=4", "validation=2", "labelled_batch=2", "unlabelled_batch=2"),
    *("warm_up_steps=1", "steps=1", "workers=0", f"size={SIZE}", "imagenet=false"),
]
"""Counts and size alone, and no download."""


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packs of a dozen clips to learn from, of which two are also to be tested on."""
    folder = tmp_path_factory.mktemp("clips")
    for name, count in ("data", 12), ("test", 2):
        write_scenes(folder / f"{name}-clips", count, 5, kind="one", height=96)
        size, seconds = (SIZE, SIZE), 3.0 + SLACK_S
        pack_clips(
            folder / f"{name}-clips", folder / name, size, seconds=seconds, picture_at="middle"
        )
    return {name: folder / name for name in ("data", "test")}


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    """Accelerate keeps the precision that it was first asked for in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def shrunk(path: Path, packs: dict[str, Path], *changes: str) -> Recipe:
    folders = [f"{name}={folder}" for name, folder in packs.items()]
    return load_recipe(path, [*SHRUNK, *folders, *changes])


def test_a_name_is_of_one_recipe_and_says_its_counts() -> None:
    recipes = {path.stem: load_recipe(path) for path in FILES}
    assert len(recipes) == 21
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert recipe.data and recipe.test, "an empty folder would train on drawn scenes"
        epochs = recipe.steps * recipe.unlabelled_batch / recipe.unlabelled
        assert epochs == pytest.approx(EPOCHS[recipe.unlabelled], abs=0.01)
        assert recipe.warm_up_steps >= 100 * recipe.labelled / recipe.batch
        assert recipe.batch == 128
        if name == "paper":
            continue
        where, unlabelled, labelled = name.split("-")
        assert recipe.data.startswith(where)
        assert recipe.unlabelled == count(unlabelled)
        assert recipe.labelled == count(labelled)
        row = rf"\| `{name}` \| `{recipe.data}` \| {labelled} \| {unlabelled} \| "
        assert re.search(row + rf"{recipe.warm_up_steps} \| {recipe.steps} \|", README), name
    settings = {(r.data, r.labelled, r.unlabelled) for r in recipes.values()}
    assert len(settings) == len(recipes)


def count(word: str) -> int:
    return int(word.removesuffix("k")) * (1000 if word.endswith("k") else 1)


def ablations() -> list[list[str]]:
    """The switches in the README, each alternative by itself."""
    rows = README.partition("| | `--set` |\n|---|---|\n")[2].splitlines()
    cells = [row.strip("|").split("|")[1] for row in rows if row.startswith("|")]
    return [re.findall("`([^`]+)`", part) for cell in cells for part in cell.split(";")]


def test_the_readme_s_switches_are_the_recipe_s() -> None:
    assert len(ablations()) > 20
    paper = load_recipe(FOLDER / "paper.toml")
    for switches in ablations():
        assert switches
        assert load_recipe(FOLDER / "paper.toml", switches) != paper


class Trained(NamedTuple):
    run: Path
    material: Material
    ensemble: Ensemble
    kept: set[str]
    """The files of networks that it left."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Trained]:
    """Fits a recipe, unless one that differs from it in nothing but its name has been."""
    done: dict[Recipe, Trained] = {}

    def fitted(recipe: Recipe) -> Trained:
        nameless = replace(recipe, name="")
        if nameless not in done:
            run = tmp_path_factory.mktemp("run")
            prepare_run(recipe, run, resume=False)
            material = open_material(recipe, run)
            ensemble = fit(recipe, run, material)
            files = list(run.glob("*.safetensors"))
            for file in files:
                file.unlink()  # half a gigabyte, and pytest keeps the folders of three runs
            done[nameless] = Trained(run, material, ensemble, {file.name for file in files})
        return done[nameless]

    return fitted


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_step_of_each_stage(
    path: Path, packs: dict[str, Path], trained: Callable[[Recipe], Trained]
) -> None:
    run, material, ensemble, kept = trained(shrunk(path, packs))
    assert material.leaks == 2
    assert len(material.labelled.ids) == len(material.unlabelled.ids) == 4
    assert len(material.validation_ids) == 2
    assert [n.spec.sound for n in ensemble.members] == ["vggish", "soundnet"]
    picture, samples = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, 48_000)
    assert ensemble(picture, samples).shape == (1, 2, 2)
    assert kept == {"last.safetensors", "warm-up.safetensors", "unbiased.safetensors"}
    lines = read_metrics(run / "metrics.jsonl")
    assert [(line["step"], line["stage"]) for line in lines] == [(1, "warm-up"), (2, "unbiased")]
    assert all(line["loss"] > 0 for line in lines)
    assert 0 <= lines[1]["accepted"] <= 1


def test_imagenet_without_torchvision(
    packs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    recipe = shrunk(FOLDER / "paper.toml", packs, "imagenet=true")
    material = open_material(recipe, tmp_path)
    with pytest.raises(UserError, match="ImageNet weights need torchvision") as caught:
        Trainer(recipe, tmp_path, material)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("step = 3", [], "did you mean steps"),
        ("steps = 'many'", [], "steps must be int"),
        ("steps = = 3", [], "not a TOML file"),
        ("", ["lr=fast"], "lr must be float"),
        ("", ["zebra=1"], "no such setting: zebra"),
        ("accept = 'most'", [], "accept must be one of agreement, not-empty, confident, all"),
        ("sounds = ['log-mel', 'ears']", [], "sounds must be one of log-mel, wave"),
        ("sounds = 'wave'", [], "sounds must be a list of words"),
        ("sounds = []", [], "must name one encoder or two"),
        ("distill = 1", [], "distill must be bool"),
        ("size = 8", [], "size must be at least 32"),
        ("size = 40", [], "size must be a multiple of 16"),
        ("size = 48\npicture = 'resnet18'", [], "size must be a multiple of 32"),
        ("seconds = 0.1", [], "seconds must be at least 0.5"),
        ("seconds = 0.5\nsounds = ['vggish']", [], "seconds must be at least 1.0"),
        ("seconds = 3", [], "at most 1.0 for scenes"),
        ("seed = -1", [], "seed must be at least 0"),
        ("voices = 0", [], "voices must be at least 1"),
        ("unlabelled = 0", [], "without unlabelled clips, unlabelled_batch must be 0"),
        ("warm_up_steps = 0\nsteps = 0", [], "no stage has any steps"),
        ("labelled_batch = 1\nunlabelled_batch = 0", [], "two clips or more"),
        ("extends = 'nowhere.toml'", [], "nowhere.toml: can't be read"),
        ("extends = 'recipe.toml'", [], "not in a circle"),
        ("extends = 3", [], "extends must name a recipe"),
    ],
)
def test_recipes_refuse_what_they_don_t_know(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(path, overrides)
    assert "\n" not in str(caught.value)


def test_recipes_extend_others_and_are_written_whole(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("steps = 7\nlr = 1\nsounds = ['wave']\n")
    (tmp_path / "child.toml").write_text("extends = 'base.toml'\nsteps = 9\nname = 'a \"b\" c'\n")
    recipe = load_recipe(tmp_path / "child.toml", ["distill=true", "data=my clips"])
    assert recipe == Recipe(
        name='a "b" c', steps=9, lr=1.0, sounds=("wave",), distill=True, data="my clips"
    )
    whole = tmp_path / "whole.toml"
    whole.write_text(to_toml(recipe))
    assert load_recipe(whole) == recipe
