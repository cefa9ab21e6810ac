"""Recipes with numbers that nothing can be trained with: one line that names the setting and its
range, before anything is drawn, packed or loaded."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import avsl.train
from avsl.engines import UserError
from avsl.engines.bundle import DRAWN
from avsl.train.recipe import RANGES, Recipe, load_recipe, recipe_of, to_toml

NUMBERS = {f.name for f in fields(Recipe) if isinstance(f.default, int | float)} - {
    f.name for f in fields(Recipe) if isinstance(f.default, bool)
}
SHIPPED = [
    *(Path(avsl.train.__file__).parent / "recipes").glob("*.toml"),
    *DRAWN.glob("*.toml"),
]


def test_each_number_has_its_range() -> None:
    assert RANGES.keys() == NUMBERS
    for key, (low, high) in RANGES.items():
        assert low <= getattr(Recipe(), key) <= high


@pytest.mark.parametrize("key", sorted(NUMBERS))
@pytest.mark.parametrize(
    "far", ["-1e300", "nan", "inf", "-inf", "1e300", str(10**24), "0x" + "f" * 9999]
)
def test_what_lies_far_outside_is_one_line(key: str, far: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f"{key} = {far}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: {key} must be ")
    assert said.isprintable()
    assert len(said) < 400


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("lr = nan", "lr must be at least 1e-08 and at most 1"),
        ("lr = -1.0", "lr must be at least 1e-08"),
        ("lr = 0.0", "lr must be at least 1e-08"),
        ("width = 100000", "width must be at least 1 and at most 512"),
        ("size = 100000", "size must be at least 32 and at most 1024"),
        ("labelled_batch = 1000000", "labelled_batch must be at least 1 and at most 4096"),
        ("temperature = 0", "temperature must be at least 0.001"),
        ("temperature = -1.0", "temperature must be at least 0.001"),
        ("seconds = 1e9", "seconds must be at least 0.5 and at most 60"),
        ("weight_decay = -0.1", "weight_decay must be at least 0 and at most 1"),
        ("seed = 900_000", "seed must be at least 0 and at most 899999"),
        ("lr = true", "lr must be float, not bool"),
        ("steps = 1.5", "steps must be int, not float"),
        ('name = "a\\u001b[2Jb"', "name must be up to 100 letters"),
        (f'name = "{"a" * 101}"', "name must be up to 100 letters"),
        ('data = "a\\u0000b"', "data holds what can't be written"),
        ("lr = " + "[" * 100_000, "not a TOML file"),
    ],
)
def test_numbers_and_words_that_are_slips(setting: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(setting)
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        load_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_in_the_repository_stays_good(path: Path) -> None:
    load_recipe(path)


@pytest.mark.parametrize("name", ['"', "\\", "\t", "\n", "\x7f", "\x1b[2J", "küche 夜", "a b"])
def test_a_folder_s_name_comes_back_from_a_run_s_recipe(name: str) -> None:
    recipe = Recipe(data=name)
    assert recipe_of(tomllib.loads(to_toml(recipe)), "x") == recipe
