"""Plots: each says what the numbers say, is a small PNG, and is there whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from matplotlib.image import imread  # noqa: E402

from avsl.demos.scenes import boxes, make_scene  # noqa: E402
from avsl.engines import Thresholds, describe  # noqa: E402
from avsl.engines.networks import Network  # noqa: E402
from avsl.train.data.batches import Clips  # noqa: E402
from avsl.train.data.material import spec_of  # noqa: E402
from avsl.train.data.views import STRONG, WEAK  # noqa: E402
from avsl.train.methods.dmt import pseudo_labels, teach  # noqa: E402
from avsl.train.recipe import Recipe  # noqa: E402
from avsl.train.scoring import plots  # noqa: E402
from avsl.train.scoring.evaluate import Still  # noqa: E402

RECIPE = Recipe(size=32, width=4, embedding=8, precision="fp32")
WAYS = ("intersection", "A", "B", "union")


def warm_up(steps: int = 100) -> plots.Metrics:
    lines: plots.Metrics = [
        {"step": s, "stage": "warm-up", "loss": 40 - s / 10} for s in range(25, steps + 1, 25)
    ]
    lines[-1] |= {"val_A": 10.0, "val_B": 20.0, "val_mean": 25.0}
    return lines


def whole() -> plots.Metrics:
    """100 steps of warm-up, 200 of unbiased learning in which ever more is accepted, 50 more."""
    lines = warm_up()
    for i, step in enumerate(range(125, 301, 25)):
        line: dict[str, Any] = {"step": step, "stage": "unbiased", "loss": 20.0}
        line |= {"accepted": i / 8, "teachers_iou": 0.3, "area": 0.05}
        for k, way in enumerate(WAYS):
            line |= {f"quality_{way}": 0.1 * k}
            # Where nothing is accepted, there is nothing to say of it.
            line |= {f"quality_{way}_accepted": 0.1 * k + 0.5} if i else {}
        lines.append(line)
    lines[-1] |= {"val_A": 30.0, "val_B": 40.0, "val_mean": 45.0}
    return [*lines, {"step": 350, "stage": "distill", "loss": 5.0, "accepted": 0.9}]


def in_run(run: Path, metrics: plots.Metrics) -> Path:
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return run


def drawn(ax: Any) -> dict[str, tuple[list[float], list[float]]]:
    """What the lines of a panel show, by the names in its legend."""
    handles, labels = ax.get_legend_handles_labels()
    return {
        label: (list(line.get_xdata()), list(line.get_ydata()))
        for line, label in zip(handles, labels, strict=True)
    }


def small_png(path: Path) -> tuple[int, ...]:
    """Height and width of a PNG that shows something."""
    picture = imread(path)
    assert path.stat().st_size < 150_000
    assert not list(path.parent.glob("*.part"))
    assert picture[..., :3].min() < 0.3
    assert picture[0, 0, :3].min() == 1
    return picture.shape[:2]


def test_curves_show_what_was_logged(tmp_path: Path) -> None:
    metrics = whole()
    loss, validation, shares, quality = plots.curves(metrics).axes
    assert drawn(loss)["training"][0] == [line["step"] for line in metrics]
    assert drawn(validation)["mean"] == ([100, 300], [25, 45])
    assert drawn(validation)["B"] == ([100, 300], [20, 40])
    steps, accepted = drawn(shares)["accepted"]
    assert (steps[0], steps[-1], accepted[1], accepted[-1]) == (125, 350, 1 / 8, 0.9)
    assert drawn(shares)["label's area"][1] == [0.05] * 8
    assert drawn(quality)["all"][1] == [0] * 8
    assert drawn(quality)["accepted"] == (list(range(150, 301, 25)), [0.5] * 7)
    for ax in (loss, validation, shares, quality):
        assert [text.get_text() for text in ax.texts] == ["warm-up", "unbiased", "distill"]
        assert [text.xy[0] for text in ax.texts] == [0, 100, 300]
        borders = [line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("_")]
        assert borders == [100, 300]
    plots.draw_curves(in_run(tmp_path / "run", metrics))
    assert small_png(tmp_path / "run" / "curves.png") == (340, 1600)


@pytest.mark.parametrize(
    ("metrics", "titles"),
    [
        (warm_up(), ["Loss", "Validation"]),
        (warm_up(50)[:1], ["Loss"]),
        (
            [{"step": 50, "stage": "unbiased", "loss": 3.0, "accepted": 0.0}],
            ["Loss", "Noise filter"],
        ),
    ],
)
def test_panels_without_data_are_left_out(
    tmp_path: Path, metrics: plots.Metrics, titles: list[str]
) -> None:
    figure = plots.curves(metrics)
    assert [ax.get_title() for ax in figure.axes] == titles
    plots.draw_curves(in_run(tmp_path / "run", metrics))
    assert small_png(tmp_path / "run" / "curves.png") == (340, 400 * len(titles))


@pytest.fixture(scope="module")
def clips() -> Clips:
    rng = torch.Generator().manual_seed(1)
    n = 8
    boxes = torch.full((n, 2, 4), float("nan"))
    boxes[:, 0] = torch.tensor([0.2, 0.2, 0.8, 0.8])
    return Clips(
        spec_of(RECIPE, 0).map_size,
        # A formula that can't be set, and a file's name that is no Unicode.
        ["$a_{", "b\udcff", *"cdefgh"],
        torch.randint(256, (n, 32, 32, 3), generator=rng, dtype=torch.uint8),
        torch.rand(n, 16_000, generator=rng) - 0.5,
        boxes,
        torch.arange(n) != 1,
        torch.arange(n) != 2,
        torch.rand(n, WEAK + STRONG, generator=rng),
    )


def tile(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    step = plots.TILE + plots.GAP
    y, x = 2 * plots.ROOM + row * (step + plots.ROOM), plots.GAP + column * step
    return picture[y : y + plots.TILE, x : x + plots.TILE, :3]


@pytest.mark.parametrize(("teachers", "count", "rows"), [(2, 6, 6), (1, 3, 3), (2, 20, 8)])
def test_examples_show_views_maps_and_labels(
    tmp_path: Path, clips: Clips, teachers: int, count: int, rows: int
) -> None:
    torch.manual_seed(0)
    networks = [Network(spec_of(RECIPE, k)) for k in range(teachers)]
    path = tmp_path / "000100.png"
    plots.draw_examples(path, networks, clips, RECIPE, count)
    picture = imread(path)
    line = plots.TILE + plots.GAP
    height = 2 * plots.ROOM + rows * (line + plots.ROOM)
    assert picture.shape[:2] == (height, plots.GAP + (3 + teachers) * line)
    assert not list(tmp_path.glob("*.part"))
    view = clips.weak_pictures[0].permute(1, 2, 0).numpy() / 2 + 0.5
    shrunk = tile(picture, 0, 0).reshape(32, plots.TILE // 32, 32, plots.TILE // 32, 3).mean((1, 3))
    assert np.abs(shrunk - view).mean() < 0.5 / plots.LEVELS
    # Yellow is 1, violet 0: the box stands out where the truth is known.
    green = tile(picture, 0, 1)[..., 1]
    inside = clips.weak_target[0].repeat_interleave(plots.TILE // 4, 0)
    inside = inside.repeat_interleave(plots.TILE // 4, 1).numpy()
    assert green[inside == 1].min() > green[inside == 0].max(initial=0.0)
    assert tile(picture, 1, 1).mean() > 0.95
    assert tile(picture, 1, 2).mean() < 0.8


def test_examples_leave_networks_and_random_numbers_as_they_were(
    tmp_path: Path, clips: Clips
) -> None:
    networks = [Network(spec_of(RECIPE, k)).eval() for k in range(2)]
    before = [tensor.clone() for n in networks for tensor in n.state_dict().values()]
    state = torch.get_rng_state()
    plots.draw_examples(tmp_path / "a.png", networks, clips, RECIPE)
    assert torch.equal(state, torch.get_rng_state())
    after = [tensor for n in networks for tensor in n.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_example_of_a_label_is_the_label(tmp_path: Path, clips: Clips) -> None:
    torch.manual_seed(0)
    networks = [Network(spec_of(RECIPE, k)) for k in range(2)]
    middle = float(teach(networks, clips, RECIPE)[0][0].median())
    recipe = replace(RECIPE, delta=middle, label="own")
    label = pseudo_labels(teach(networks, clips, recipe), recipe).targets[0][0].numpy()
    assert 0 < label.mean() < 1
    plots.draw_examples(tmp_path / "a.png", networks, clips, recipe, 1)
    green = tile(imread(tmp_path / "a.png"), 0, 4)[..., 1]
    cells = green.reshape(4, plots.TILE // 4, 4, plots.TILE // 4).mean((1, 3))
    assert cells[label].min() > cells[~label].max()


def test_bars_stand_in_order_with_their_intervals(tmp_path: Path) -> None:
    rows = [
        ("DMT", 42.0, 40.0, 45.0),
        ("supervised only", 32.0, 29.0, 34.0),
        ("none", 0.0, 0.0, 1.0),
    ]
    (ax,) = plots.bars(rows, "64 labels", "cIoU, %").axes
    assert [bar.get_width() for bar in ax.patches] == [42, 32, 0]
    assert [text.get_text() for text in ax.get_yticklabels()] == [name for name, *_ in rows]
    assert ax.yaxis_inverted()
    (whiskers,) = ax.collections
    assert [s[:, 0].tolist() for s in whiskers.get_segments()] == [[40, 45], [29, 34], [0, 1]]
    assert [text.get_text() for text in ax.texts] == ["42.0", "32.0", "0.0"]
    plots.draw_bars(tmp_path / "bars.png", rows, "64 labels")
    assert small_png(tmp_path / "bars.png")[1] == 640


def test_filtered_out_clips_add_up_by_epoch() -> None:
    # 200 steps of 48 clips, of which 0, 1/8, ... 7/8 are accepted for 25 steps each.
    by_epoch = plots.filtered_out(whole(), 48, 50)
    assert by_epoch == pytest.approx([48 * 25 * (2 - (4 * k + 1) / 8) for k in range(4)])
    # Epochs needn't end where lines do; the last, unfinished one is left out.
    odd = plots.filtered_out(whole(), 48, 60)
    assert len(odd) == 3
    assert odd[0] == pytest.approx(48 * (25 + 25 * 7 / 8 + 10 * 6 / 8))
    assert len(plots.filtered_out(whole(), 48, 201)) == 0


def test_figure_5_is_drawn_from_runs(tmp_path: Path) -> None:
    metrics = {"DMT": whole(), "supervised only": warm_up(300)}
    a, b, c, d = plots.figure5(metrics, 48, 50).axes
    assert drawn(a)["before the filter"][1] == [0] * 8
    assert drawn(a)["after"][1] == [0.5] * 7
    ends = {name: ys[-1] for name, (_, ys) in drawn(b).items()}
    assert ends == pytest.approx({"intersection (IPL)": 0.5, "A": 0.6, "B": 0.7, "union": 0.8})
    assert drawn(c) == {"DMT": ([100, 300], [25, 45]), "supervised only": ([300], [25])}
    assert len(d.patches) == 4
    many = {"DMT": whole()} | {f"another way, number {i}": whole() for i in range(9)}
    runs = {name: in_run(tmp_path / name, lines) for name, lines in many.items()}
    plots.draw_figure5(tmp_path / "figure5.png", runs, 48, 50)
    assert small_png(tmp_path / "figure5.png") == (700, 900)
    lines = plots.figure5(many, 48, 50).axes[2].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(many)


def test_ratios_stand_on_a_log_axis(tmp_path: Path) -> None:
    lines = {"DMT": [(256, 60.0), (16, 20.0), (64, 42.0)], "supervised only": [(64, 31.0)]}
    (ax,) = plots.ratio(lines).axes
    assert drawn(ax)["DMT"] == ([16, 64, 256], [20, 42, 60])
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["16", "64", "256"]
    plots.draw_ratio(tmp_path / "ratio.png", lines)
    assert small_png(tmp_path / "ratio.png") == (400, 600)


def test_failures_are_drawn_with_what_should_have_been_found(tmp_path: Path) -> None:
    scene = make_scene(3, 0, kind="one", count=2)
    picture, masks = scene.render(0, 64, 64)
    still = Still(scene, picture, boxes(masks), scene.sound(-1, 1), np.zeros((64, 64)))
    map_ = np.zeros((8, 8), np.float32)
    map_[2, 3] = 0.9
    heard = describe(0.0, map_, -20.0, False, Thresholds(0.5, 0.3, 0.5, -60.0, 6.0))
    for count in (0, 1, 7):
        plots.draw_failures(tmp_path / f"{count}.png", [(still, heard)] * count)
    sizes = [(tmp_path / f"{count}.png").stat().st_size for count in (0, 1, 7)]
    assert sizes[0] < sizes[1] < sizes[2]
