"""Which clips a step sees, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)


from learning import RECIPE  # noqa: E402

from avsl.engines import UserError  # noqa: E402
from avsl.train.data.batches import Clips, Step, Steps, loader  # noqa: E402
from avsl.train.data.material import (  # noqa: E402
    Material,
    Part,
    open_material,
)
from avsl.train.data.pack import pack_scenes  # noqa: E402


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return open_material(RECIPE, tmp_path_factory.mktemp("run"))


def same(a: Step, b: Step) -> bool:
    pairs = list(zip([*a.labelled, a.unlabelled], [*b.labelled, b.unlabelled], strict=True))
    return a.names == b.names and all(
        torch.equal(getattr(x, name).nan_to_num(-1), getattr(y, name).nan_to_num(-1))
        for x, y in pairs
        if x is not None and y is not None
        for name in Clips.TENSORS
    )


@pytest.mark.parametrize("warm_up", [True, False])
def test_batches_depend_on_recipe_and_step_alone(material: Material, warm_up: bool) -> None:
    steps = Steps(material, RECIPE, warm_up)
    backwards = {i: steps[i] for i in (4, 3, 2)}
    for workers in (0, 2):
        ahead: Iterable[Step] = loader(Steps(material, RECIPE, warm_up), 2, 5, workers)
        for i, step in enumerate(ahead, 2):
            assert same(step, backwards[i])
    assert not same(backwards[2], backwards[3])
    assert not same(backwards[2], Steps(material, replace(RECIPE, seed=2), warm_up)[2])


def test_processes_share_the_batch_of_one(material: Material) -> None:
    whole = Steps(material, RECIPE, False)[3].unlabelled
    parts = [Steps(material, RECIPE, False, rank, 2)[3].unlabelled for rank in range(2)]
    assert whole is not None
    for name in ("pictures", "samples", "draws"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name)), name


def test_students_differ_in_the_warm_up(material: Material) -> None:
    a, b = Steps(material, RECIPE, True)[0].labelled
    assert a.names != b.names
    assert not torch.equal(a.draws, b.draws)
    later = Steps(material, RECIPE, False)[0]
    assert len(later.labelled) == 1
    assert later.unlabelled is not None
    assert not set(later.labelled[0].names) & set(later.unlabelled.names)


def test_all_clips_of_a_part_come_before_one_comes_again(material: Material) -> None:
    part = Part(material.unlabelled.source, material.unlabelled.ids)
    seen = [i for step in range(4) for i in part.order(1, step, 5)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted(part.ids)
    assert seen[:10] != seen[10:]


def test_silent_and_mismatched_clips_have_no_boxes(material: Material) -> None:
    plain, silent, mismatched = (
        Steps(material, replace(RECIPE, silent=s, mismatched=m), False)[0]
        for s, m in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    few, many = silent.labelled[0], silent.unlabelled
    assert many is not None
    for clips in (few, many, mismatched.labelled[0]):
        assert clips.boxes.isnan().all()
        assert (clips.target == 0).all()
        assert not clips.sounds.any()
    assert few.known.all(), "nothing is the truth about them"
    other = mismatched.labelled[0]
    assert torch.equal(other.pictures, plain.labelled[0].pictures)
    rows = zip(other.samples, plain.labelled[0].samples, strict=True)
    assert not any(torch.equal(a, b) for a, b in rows)
    assert mismatched.unlabelled is not None
    assert torch.equal(mismatched.unlabelled.samples, plain.unlabelled.samples)


def test_no_clip_is_mismatched_with_its_own_sound(material: Material) -> None:
    one = replace(material, labelled=replace(material.labelled, ids=material.labelled.ids[:1]))
    recipe = replace(RECIPE, silent=0.0, mismatched=1.0)
    assert same(Steps(one, recipe, False)[0], Steps(one, replace(recipe, mismatched=0.0), False)[0])


def test_scenes_for_learning_and_for_validation_are_apart(material: Material) -> None:
    few, many = (
        {m.source.name(i) for i in m.ids} for m in (material.labelled, material.unlabelled)
    )
    held = {material.validation.names[i] for i in material.validation_ids}
    assert (len(few), len(many), len(held)) == (8, 10, 4)
    assert not few & many
    assert not (few | many) & held


def test_clips_to_be_tested_on_are_left_out_and_counted(tmp_path: Path) -> None:
    size = (RECIPE.size, RECIPE.size)
    pack_scenes(tmp_path / "data", 3, 30, size)
    pack_scenes(tmp_path / "test", 3, 5, size)
    recipe = replace(RECIPE, data=str(tmp_path / "data"), test=str(tmp_path / "test"))
    material = open_material(recipe, tmp_path / "run")
    assert material.leaks == 5
    few, many = (
        {m.source.name(i) for i in m.ids} for m in (material.labelled, material.unlabelled)
    )
    held = {material.validation.names[i] for i in material.validation_ids}
    pack, ids = material.test
    tested = {pack.names[i] for i in ids}
    assert [len(x) for x in (few, many, held, tested)] == [8, 10, 4, 5]
    assert len(few | many | held | tested) == 27
    again = open_material(recipe, tmp_path / "run")
    assert np.array_equal(again.labelled.ids, material.labelled.ids)
    with pytest.raises(UserError, match="25 clips have boxes, the recipe wants 30 labelled and 4"):
        open_material(replace(recipe, labelled=30), tmp_path / "run")


def test_what_can_be_told_is_told_before_clips_are_packed(tmp_path: Path) -> None:
    size = (RECIPE.size, RECIPE.size)
    pack_scenes(tmp_path / "data", 3, 30, size)
    recipe = replace(RECIPE, data=str(tmp_path / "data"))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        open_material(replace(recipe, test=str(tmp_path / "nowhere")), tmp_path / "run")
    with pytest.raises(UserError, match="packed with the picture at the end"):
        open_material(replace(recipe, picture_at="middle"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
