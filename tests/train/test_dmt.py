"""Dual Mean-Teacher: what teachers accept, what students learn from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from learning import RECIPE, made_up  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from avsl.engines.networks import Network  # noqa: E402
from avsl.train.data.batches import Clips, Step  # noqa: E402
from avsl.train.data.material import (  # noqa: E402
    spec_of,
)
from avsl.train.data.views import WEAK  # noqa: E402
from avsl.train.methods.dmt import (  # noqa: E402
    distill_loss,
    follow,
    pseudo_labels,
    teach,
    unbiased_loss,
    warm_up_loss,
)
from avsl.train.methods.method import Students  # noqa: E402
from avsl.train.methods.objectives import pixel_loss  # noqa: E402
from avsl.train.processes import gather  # noqa: E402
from avsl.train.recipe import Recipe  # noqa: E402

CPU = torch.device("cpu")
PIXELS_ALONE = replace(RECIPE, contrastive_weight=0.0)
LEFT, RIGHT, NOTHING = "xx..", "..xx", "...."


def mask(*rows: str) -> Tensor:
    return torch.tensor([[c == "x" for c in row] for row in rows])


def map_of(*masks: Tensor, high: float = 0.9) -> Tensor:
    """Probabilities that are `high` where the masks are, a row of the batch each."""
    return torch.stack([high * m + 0.1 * ~m for m in masks])


def all_over(row: str) -> Tensor:
    return mask(row, row, row, row)


class Said(nn.Module):
    """A teacher that says the same maps of whatever clips."""

    def __init__(self, *masks: Tensor) -> None:
        super().__init__()
        self.logits = map_of(*masks).logit()

    def forward(self, pictures: Tensor, samples: Tensor) -> Tensor:
        return self.logits


class Answers(nn.Module):
    """Students whose maps can be set, and asked for their gradient."""

    def __init__(self, *logits: Tensor) -> None:
        super().__init__()
        self.logits = [x.clone().requires_grad_() for x in logits]

    def forward(self, views: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor, Tensor]]:
        assert len(views) == len(self.logits)
        return [(x, x, x) for x in self.logits]


def clips(n: int, seed: int = 0, flips: tuple[float, float] | None = None) -> Clips:
    """Made-up clips; with `flips` (under 0.5: flipped) views that are not cropped."""
    made = made_up(RECIPE, n, seed, CPU)
    if flips:
        made.draws[:, : 2 * WEAK] = 0.0
        made.draws[:, WEAK - 1], made.draws[:, 2 * WEAK - 1] = flips
    return made


def networks(seed: int = 0) -> list[Network]:
    torch.manual_seed(seed)
    return [Network(spec_of(RECIPE, k)) for k in range(2)]


# Teachers


def test_two_empty_masks_are_no_agreement() -> None:
    empty, full = map_of(mask(NOTHING)), map_of(mask(LEFT))
    assert not pseudo_labels([empty, empty], RECIPE).accepted
    assert not pseudo_labels([empty, full], RECIPE).accepted
    assert pseudo_labels([full, full], RECIPE).accepted
    assert pseudo_labels([empty, full], RECIPE).iou == 0


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ("xxx.......", ".xxx......", 0.5),
        ("xxxxxxxxxx", "xxxxxxx...", 0.7),
        ("xxx...", "xx....", 2 / 3),
    ],
)
def test_an_iou_of_tau_is_accepted_and_less_is_not(a: str, b: str, iou: float) -> None:
    maps = [map_of(mask(a)), map_of(mask(b))]
    assert pseudo_labels(maps, replace(RECIPE, tau=iou)).accepted
    assert not pseudo_labels(maps, replace(RECIPE, tau=iou + 1e-3)).accepted
    assert float(pseudo_labels(maps, RECIPE).iou) == pytest.approx(iou)


def test_masks_begin_at_delta() -> None:
    maps = torch.tensor([[[0.59, 0.6, 0.61]]])
    assert pseudo_labels([maps], replace(RECIPE, delta=0.6)).masks[0].tolist() == [
        [[False, True, True]]
    ]


A, B = mask("xxx.", "xx.."), mask(".xx.", "xxx.")
BOTH, EITHER = mask(".xx.", "xx.."), mask("xxx.", "xxx.")


@pytest.mark.parametrize(
    ("label", "targets"),
    [("intersection", (BOTH, BOTH)), ("union", (EITHER, EITHER)), ("own", (A, B))],
)
def test_labels_are_what_the_recipe_says(label: str, targets: tuple[Tensor, Tensor]) -> None:
    found = pseudo_labels([map_of(A), map_of(B)], replace(RECIPE, label=label))
    for mine, wanted in zip(found.targets, targets, strict=True):
        assert torch.equal(mine[0], wanted)
    assert torch.equal(found.masks[0][0], A)
    assert torch.equal(found.masks[1][0], B)


@pytest.mark.parametrize(
    ("accept", "label", "accepted"),
    [
        ("agreement", "intersection", [True, False, False, False, True]),
        ("not-empty", "intersection", [True, False, False, False, True]),
        ("not-empty", "union", [True, True, True, False, True]),
        ("not-empty", "own", [True, True, False, False, True]),
        ("confident", "intersection", [True, False, False, False, False]),
        ("all", "intersection", [True] * 5),
    ],
)
def test_filters_accept_what_the_recipe_says(accept: str, label: str, accepted: list[bool]) -> None:
    """Both find the same; different things; one finds none; both none; the same, half-heartedly."""
    a, b = (
        map_of(*map(mask, (LEFT, LEFT, LEFT, NOTHING, LEFT))),
        map_of(*map(mask, (LEFT, RIGHT, NOTHING, NOTHING, LEFT))),
    )
    a[4], b[4] = map_of(mask(LEFT), high=0.7)[0], map_of(mask(LEFT), high=0.7)[0]
    found = pseudo_labels([a, b], replace(RECIPE, accept=accept, label=label))
    assert found.accepted.tolist() == accepted


def test_a_single_teacher_is_accepted_where_it_finds_something() -> None:
    found = pseudo_labels([map_of(mask(LEFT), mask(NOTHING))], RECIPE)
    assert found.accepted.tolist() == [True, False]
    assert len(found.targets) == 1
    assert torch.equal(found.targets[0][0], mask(LEFT))


def test_teachers_follow_by_the_formula_batch_norm_included() -> None:
    teachers, students = networks(0), networks(1)
    Students(students).train()([(torch.randn(4, 3, 32, 32), torch.randn(4, 16_000))] * 2)
    before = [{k: v.clone() for k, v in t.state_dict().items()} for t in teachers]
    follow(teachers, students, 0.9, 10_000)
    for old, teacher, student in zip(before, teachers, students, strict=True):
        new, theirs = teacher.state_dict(), student.state_dict()
        assert any("running_mean" in name for name in new)
        for name, value in new.items():
            if name.endswith("num_batches_tracked"):
                assert value == theirs[name] == 1
            else:
                wanted = 0.9 * old[name] + 0.1 * theirs[name]
                assert torch.allclose(value, wanted, atol=1e-6), name


@pytest.mark.parametrize(("decay", "step"), [(0.0, 10_000), (1.0, 10_000), (1.0, 0)])
def test_a_decay_of_none_copies_and_of_one_freezes(decay: float, step: int) -> None:
    teachers, students = networks(0), networks(1)
    wanted = (networks(0) if decay else networks(1))[0].state_dict()
    follow(teachers, students, decay, step)
    for name, value in teachers[0].state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_early_on_teachers_follow_fast() -> None:
    teachers, students = networks(0), networks(1)
    start, goal = teachers[0].offset.item(), 1.0
    nn.init.constant_(students[0].offset, goal)
    follow(teachers, students, 0.99, 0)
    assert teachers[0].offset.item() == pytest.approx(0.1 * start + 0.9 * goal)


def test_teachers_get_no_gradient_and_keep_their_statistics() -> None:
    teachers, students = networks(0), networks(1)
    before = [{k: v.clone() for k, v in t.state_dict().items()} for t in teachers]
    for teacher in teachers:
        teacher.train()
    step = Step([clips(3)], clips(5, 1))
    anything = replace(RECIPE, delta=0.0)
    loss, log = unbiased_loss(Students(students), teachers, step, 0, anything, gather)
    assert log["accepted"] == 1
    loss.backward()
    (student,) = [Students(students[:1])]
    distill_loss(student, teachers, step, anything, gather)[0].backward()
    for teacher, old in zip(teachers, before, strict=True):
        assert not any(module.training for module in teacher.modules())
        assert all(p.grad is None for p in teacher.parameters())
        for name, value in teacher.state_dict().items():
            assert torch.equal(value, old[name]), name
    for network in students:
        for part in (network.picture, network.sound):
            assert all(p.grad.abs().sum() > 0 for p in part.parameters() if p.dim() > 1)


def test_teachers_see_the_weak_views() -> None:
    (teacher,) = networks()[:1]
    many = clips(3)
    (found,) = teach([teacher], many, RECIPE)
    with torch.no_grad():
        wanted = teacher.eval()(many.weak_pictures, many.samples).sigmoid()
    assert torch.equal(found, wanted)


# Students


def unbiased(
    answers: Answers, teachers: list[nn.Module], many: Clips, recipe: Recipe = PIXELS_ALONE
) -> Tensor:
    step = Step([clips(1, 7)], many)
    loss, _ = unbiased_loss(answers, teachers, step, 0, recipe, gather)
    loss.backward()
    return loss.detach()


def test_a_rejected_clip_teaches_nothing() -> None:
    left, right, none = all_over(LEFT), all_over(RIGHT), all_over(NOTHING)
    losses = []
    for a, b in (left, right), (right, left), (none, left), (none, none):
        answers = Answers(*torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
        losses.append(float(unbiased(answers, [Said(left, a), Said(left, b)], clips(2))))
        for x in answers.logits:
            assert (x.grad[1] != 0).any(), "accepted"
            assert (x.grad[2] == 0).all(), "rejected"
    assert len(set(losses)) == 1


@pytest.mark.parametrize("label", ["intersection", "own"])
def test_students_learn_one_label_or_each_its_own_teacher_s(label: str) -> None:
    """Gradients pull up where the label is, and down everywhere else."""
    a, b = mask("xxx.", *[NOTHING] * 3), mask(".xxx", *[NOTHING] * 3)
    answers = Answers(*torch.zeros(2, 2, 4, 4))
    recipe = replace(PIXELS_ALONE, label=label)
    unbiased(answers, [Said(a), Said(b)], clips(1, flips=(0.9, 0.9)), recipe)
    for x, own in zip(answers.logits, (a, b), strict=True):
        assert torch.equal(x.grad[1] < 0, own if label == "own" else a & b)


@pytest.mark.parametrize("flips", [(0.1, 0.9), (0.9, 0.1), (0.1, 0.1), (0.9, 0.9)])
@pytest.mark.parametrize("learns", ["unbiased", "distill"])
def test_labels_are_carried_into_the_strong_view(flips: tuple[float, float], learns: str) -> None:
    many = clips(1, flips=flips)
    same = flips[0] == flips[1]
    losses = {}
    for place in (LEFT, RIGHT):
        logits = torch.cat([torch.zeros(1, 4, 4), map_of(all_over(place)).logit()])
        teachers = [Said(all_over(LEFT)), Said(all_over(LEFT))]
        if learns == "unbiased":
            losses[place] = float(unbiased(Answers(logits, logits), teachers, many))
        else:
            step = Step([clips(1, 7)], many)
            loss, _ = distill_loss(Answers(logits), teachers, step, PIXELS_ALONE, gather)
            losses[place] = loss.item()
    right, wrong = (LEFT, RIGHT) if same else (RIGHT, LEFT)
    assert losses[right] < 0.4 * losses[wrong]


@pytest.mark.parametrize("learns", ["unbiased", "distill"])
def test_what_only_the_strong_view_sees_teaches_nothing(learns: str) -> None:
    """The weak view is cropped to the lower right, the strong one is whole."""
    many = replace(clips(1, flips=(0.9, 0.9)), cells=(20, 20))
    many.draws[:, :3] = 1.0
    seen = torch.zeros(20, 20, dtype=torch.bool)
    seen[2:, 2:] = True
    teachers = [Said(torch.ones_like(seen))] * 2
    step = Step([replace(clips(1, 7), cells=(20, 20))], many)
    if learns == "unbiased":
        answers = Answers(*torch.zeros(2, 2, 20, 20))
        loss, _ = unbiased_loss(answers, teachers, step, 0, PIXELS_ALONE, gather)
    else:
        answers = Answers(torch.zeros(2, 20, 20))
        loss, _ = distill_loss(answers, teachers, step, PIXELS_ALONE, gather)
    loss.backward()
    for x in answers.logits:
        assert torch.equal(x.grad[1] != 0, seen)


def test_silenced_clips_learn_an_empty_map_whatever_teachers_say() -> None:
    left = all_over(LEFT)
    many = replace(clips(1), sounds=torch.tensor([False]))
    for label in ("intersection", "none"):
        answers = Answers(*torch.zeros(2, 2, 4, 4))
        recipe = replace(PIXELS_ALONE, label=label)
        unbiased(answers, [Said(left), Said(left)], many, recipe)
        assert all((x.grad[1] > 0).all() for x in answers.logits)
    answers = Answers(torch.zeros(2, 4, 4))
    step = Step([clips(1, 7)], many)
    distill_loss(answers, [Said(left), Said(left)], step, PIXELS_ALONE, gather)[0].backward()
    assert (answers.logits[0].grad[1] > 0).all()


def test_without_labels_teachers_are_not_asked() -> None:
    answers = Answers(*torch.zeros(2, 2, 4, 4))
    unbiased(answers, [nn.Identity()] * 2, clips(1), replace(PIXELS_ALONE, label="none"))
    assert all((x.grad[0] != 0).any() and (x.grad[1] == 0).all() for x in answers.logits)


def test_pseudo_labels_gain_weight_by_and_by() -> None:
    recipe = replace(PIXELS_ALONE, pseudo_ramp=4, pseudo_weight=0.8)
    pulls = []
    for at in (0, 1, 3, 9):
        answers = Answers(*torch.zeros(2, 2, 4, 4))
        step = Step([clips(1, 7)], clips(1))
        teachers = [Said(all_over(LEFT))] * 2
        unbiased_loss(answers, teachers, step, at, recipe, gather)[0].backward()
        pulls.append(float(answers.logits[0].grad[1].abs().sum()))
    assert pulls == pytest.approx([pulls[2] * share for share in (0.25, 0.5, 1, 1)])


def test_distillation_learns_the_mean_where_teachers_agree_on_a_thing_or_on_none() -> None:
    left, right, none = (all_over(x) for x in (LEFT, RIGHT, NOTHING))
    answers = Answers(torch.zeros(4, 4, 4))
    step = Step([clips(1, 7)], clips(3, flips=(0.9, 0.9)))
    loss, log = distill_loss(
        answers, [Said(left, left, none), Said(left, right, none)], step, PIXELS_ALONE, gather
    )
    loss.backward()
    (x,) = answers.logits
    assert float(log["accepted"]) == pytest.approx(2 / 3)
    assert torch.equal(x.grad[1] < 0, left)
    assert (x.grad[2] == 0).all()
    assert (x.grad[3] > 0).all()


def test_in_the_warm_up_each_student_has_clips_of_its_own() -> None:
    own = [clips(2), replace(clips(2), boxes=torch.full((2, 1, 4), torch.nan))]
    answers = Answers(*torch.zeros(2, 2, 4, 4))
    warm_up_loss(answers, Step(own, None), PIXELS_ALONE, gather)[0].backward()
    first, second = (x.grad for x in answers.logits)
    assert torch.equal(first < 0, own[0].target > 1 / 3)
    assert (second > 0).all()


def test_the_map_teaches_both_encoders() -> None:
    (network,) = networks()[:1]
    made = clips(3)
    logits = network(made.strong_pictures, made.strong_samples)
    pixel_loss(logits, made.target, torch.ones_like(logits), 2.0, 0.01).sum().backward()
    for part in (network.picture, network.sound):
        for name, p in part.named_parameters():
            assert p.grad.isfinite().all(), name
            assert p.dim() == 1 or p.grad.abs().max() > 0, name
    assert network.slope.grad != 0
