"""What the networks of faces are taught: labels stay where they belong whatever is done to a
picture, scenes say of each cell what is in it, and the rate goes up and down by the step alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
cv2 = pytest.importorskip("cv2", reason="pictures of faces need OpenCV and its libGL")

from avsl.engines.networks.faces import FacePoints  # noqa: E402
from avsl.engines.networks.lips import Sync  # noqa: E402
from avsl.engines.speakers.crop import MIDDLE  # noqa: E402
from avsl.engines.speakers.tracks import placed  # noqa: E402
from avsl.train.speakers import heads, learning, points  # noqa: E402
from avsl.train.speakers.heads import Head, Scenes, heads_loss, paste, targets  # noqa: E402
from avsl.train.speakers.labels import AS_IT_IS, Face, Found, Seen, face_of, seen_of  # noqa: E402
from avsl.train.speakers.learning import Course, one_cycle  # noqa: E402
from avsl.train.speakers.mesh import KEPT, MIRRORED  # noqa: E402
from avsl.train.speakers.points import Portraits, jittered, points_loss  # noqa: E402

UPRIGHT = np.array(
    [(30, 38), (42, 38), (70, 38), (82, 38)]
    + [(32 + 8 * i, 26) for i in range(3)] + [(64 + 8 * i, 26) for i in range(3)]
    + [(56, 36), (56, 48), (56, 56), (50, 58), (62, 58)]
    + [(44, 78), (68, 78), (56, 72), (56, 86), (50, 73), (62, 73), (50, 85), (62, 85)]
    + [(46, 78), (66, 78), (56, 77), (56, 80), (51, 77), (61, 77), (51, 80), (61, 80)]
    + [(56, 104), (36, 88), (76, 88), (26, 50), (86, 50)],
    np.float32,
)  # fmt: skip
"""A face's points in a crop."""
FLAT = np.column_stack([UPRIGHT, np.linspace(-9, 9, 36, dtype=np.float32)])


def spot(size: tuple[int, int], at: np.ndarray, wide: float = 2.0) -> np.ndarray:
    """A bright spot on black, `[h, w]` uint8."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (250 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * wide**2))).astype(np.uint8)


def brightest(picture: np.ndarray) -> np.ndarray:
    """Where, to a fraction of a pixel: the middle of what is bright."""
    weight = np.where(picture > 0.5 * picture.max(), picture, 0).astype(float)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def test_a_mirror_exchanges_left_and_right() -> None:
    assert [MIRRORED[i] for i in MIRRORED] == list(range(len(KEPT)))
    other = UPRIGHT[list(MIRRORED)]
    assert np.array_equal(other[:, 1], UPRIGHT[:, 1])
    assert np.abs(112 - other[:, 0] - UPRIGHT[:, 0]).max() <= 1e-6, "this face is symmetric"


@pytest.mark.parametrize(("roll", "eyes"), [(0.0, 40.0), (0.3, 25.0), (-0.2, 130.0)])
def test_a_face_is_cut_out_with_its_points(roll: float, eyes: float) -> None:
    """However it lies in the picture; also where it is reduced threefold."""
    place = AS_IT_IS._replace(x=290.0, y=240.0, eyes=eyes, roll=roll)
    lies = place.moved(FLAT)
    assert np.array(placed(AS_IT_IS, lies)) == pytest.approx(np.array(place), abs=1e-3)
    for mark in (0, 16, 31):
        picture = np.repeat(spot((520, 600), lies[mark], eyes / 15)[..., None], 3, 2)
        face = face_of(picture, Found(place, lies, 1, 1))
        assert face.points == pytest.approx(FLAT + np.array([56, 56, 0]), abs=0.01)
        assert brightest(face.wide) == pytest.approx(face.points[mark, :2], abs=0.15)
    eyes_at = face.points[:4, :2].mean(0)
    assert eyes_at == pytest.approx(np.array(MIDDLE) + 56, abs=0.01)


def test_heads_are_kept_where_a_smaller_picture_has_them() -> None:
    place = AS_IT_IS._replace(x=700.0, y=300.0, eyes=90.0)
    picture = np.repeat(spot((600, 896), np.array([700, 300]), 9)[..., None], 3, 2)
    seen = seen_of(picture, [Found(place, FLAT, 0.9, 0.7)])
    assert seen.picture.shape == (300, 448)
    x, y, eyes, *sure = seen.heads[0]
    assert (eyes, *sure) == pytest.approx((45, 0.9, 0.7))
    assert brightest(seen.picture) == pytest.approx((x, y), abs=0.2)
    assert seen_of(picture, []).heads.shape == (0, 5)


def test_points_stay_under_their_labels() -> None:
    """A bright point is marked: wherever a crop is moved, it is where its label is, and in a mirror
    it is its fellow's."""
    mark, fellow = 15, 16
    face = Face(spot((224, 224), FLAT[mark, :2] + 56), FLAT + np.float32([56, 56, 0]).tolist())
    under = {mark: 0, fellow: 0}
    for seed in range(40):
        crop, moved = jittered(np.random.default_rng(seed), face)
        at = brightest(crop)
        if not (4 < at[0] < 107 and 4 < at[1] < 107):
            continue
        near = min(under, key=lambda i: np.hypot(*(moved[i, :2] - at)))
        assert moved[near, :2] == pytest.approx(at, abs=0.4), seed
        under[near] += 1
    assert min(under.values()) > 8, "half of them are mirrored"


def test_no_face_and_a_hidden_mouth_are_no_face() -> None:
    rng = np.random.default_rng(0)
    face = Face(np.full((224, 224), 120, np.uint8), FLAT + np.array([56, 56, 0], np.float32))
    white = np.full((80, 90), 255, np.uint8)
    portraits = Portraits([face, Face(face.wide, face.points, "somebody")], [white])
    crops, moved, there = portraits.batch(rng)
    assert crops.shape == (32, 112, 112) and moved.shape == (32, 36, 3) and there.shape == (32,)
    many = [portraits.draw(rng)[1:] for _ in range(400)]
    share = 1 - np.mean([there for _, there in many])
    assert share == pytest.approx(points.NONE + (1 - points.NONE) * points.COVERED, abs=0.06)
    assert any(moved.any() and not there for moved, there in many), "hidden mouths"
    crop = np.zeros((112, 112), np.float32)
    assert portraits._cover(rng, crop, FLAT) and crop[78, 56] == 255 and crop[38, 40] == 0
    assert not portraits._cover(rng, crop, FLAT + np.float32(300))


@torch.no_grad()
def test_of_no_face_points_say_nothing() -> None:
    torch.manual_seed(0)
    network = FacePoints().eval()
    crops, there = torch.rand(2, 112, 112) * 255, torch.tensor([1.0, 0.0])
    right = network(crops)[0]

    def more(face: int, part: slice) -> float:
        """By how much the loss grows where points of a face are a pixel lower."""
        wrong = right.clone()
        wrong[face, part, 1] += 1
        losses = [float(points_loss(network, crops, at, there)) for at in (wrong, right)]
        return losses[0] - losses[1]

    assert more(1, slice(0, 36)) == pytest.approx(0, abs=1e-6)
    assert more(0, points.INSIDE) > 10 * more(0, slice(4, 10)) > 0, "lips count most"


def test_a_pasted_picture_brings_its_heads_and_hides_others() -> None:
    seen = Seen(spot((300, 400), np.array([250, 120]), 6), np.array([[250, 120, 20, 0.9, 0.9]]))
    for seed in range(12):
        canvas = np.zeros((heads.H, heads.W), np.uint8)
        before = [Head(100, 50, 9, 0.9), Head(5, 5, 9, 0.9)]
        rng = np.random.default_rng(seed)
        shown = paste(rng, canvas, before, seen, (20, 30, 150, 200), 10.0 + seed)
        assert shown[0] == before[1] and len(shown) == 2, "the other one is covered"
        inside = canvas[20:170, 30:230].astype(float)
        if inside.max() > 240 and np.mean(inside > 120) < 0.1:  # not where what is beyond is bright
            at = brightest(inside) + np.array([30, 20])
            assert at == pytest.approx(shown[1][:2], abs=0.7)
        assert shown[1].eyes == pytest.approx(10 + seed)
    doubtful = Seen(seen.picture, np.array([[250, 120, 20, 0.9, 0.1]]))
    assert paste(rng, canvas, [], doubtful, (0, 0, 192, 256), 20.0)[0].sure < heads.SURE


def test_a_mirrored_scene_has_mirrored_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(spot((192, 256), np.array([60, 100]), 5), np.array([[60, 100, 12, 0.9, 0.9]]))
    empty = Seen(np.zeros((100, 100), np.uint8), np.zeros((0, 5), np.float32))
    scenes = Scenes([seen, empty])
    monkeypatch.setattr(heads, "a_little_worse", lambda rng, picture: picture)
    monkeypatch.setattr(
        scenes, "scene", lambda rng: (seen.picture, [Head(60, 100, 12, 0.9)]), raising=True
    )
    sides = set()
    for seed in range(8):
        picture, heat, _, place, _ = scenes.draw(np.random.default_rng(seed))
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        right, down, _ = place[:, row, column]
        at = (column + right + 0.5) * 8 - 0.5, (row + down + 0.5) * 8 - 0.5
        assert at == pytest.approx(brightest(picture), abs=0.1)
        sides.add(int(column))
    assert len(sides) == 2


def test_cells_say_where_heads_are() -> None:
    """Read as the engine reads them, they give the head back; doubtful ones don't count."""
    heat, counts, place, near = targets([Head(101.3, 60.8, 24.0, 0.9), Head(200, 150, 20, 0.6)])
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert heat.max() == 1 and (heat == 1).sum() == 1
    right, down, size = place[:, row, column]
    found = (column + right + 0.5) * 8 - 0.5, (row + down + 0.5) * 8 - 0.5, np.exp(size)
    assert found == pytest.approx((101.3, 60.8, 24.0), abs=1e-4)
    assert near[row, column] == 1 and counts[row, column] == 1
    assert counts[18, 24] == 0 and heat[18, 24] == 0 and near[18, 24] == 0, "a doubtful one"
    for eyes in (2.0, 130.0):
        heat, counts, _, near = targets([Head(100, 60, eyes, 0.9)])
        assert counts[7, 12] == 0 and not heat.any() and not near.any()


def test_what_is_doubtful_teaches_nothing() -> None:
    class Says(torch.nn.Module):
        def forward(self, scenes: torch.Tensor) -> torch.Tensor:
            return said

    known = [torch.from_numpy(a)[None] for a in targets([Head(60, 60, 20, 0.9)])]
    doubt = [
        torch.from_numpy(a)[None] for a in targets([Head(60, 60, 20, 0.9), Head(200, 150, 20, 0.5)])
    ]
    said = torch.cat([torch.logit(known[0][:, None].clamp(1e-3, 1 - 1e-3)), known[2]], 1)
    right = float(heads_loss(Says(), said, *known))
    said[0, 0, 18, 24] = 5.0
    assert float(heads_loss(Says(), said, *known)) > right + 1
    assert float(heads_loss(Says(), said, *doubt)) < right + 0.1
    said[0, 0, 18, 24] = -7.0
    said[0, 3] += 1
    assert float(heads_loss(Says(), said, *known)) == pytest.approx(right + 0.5, abs=0.05)


@pytest.mark.parametrize("rising", [0.1, 0.3])
def test_the_rate_is_torchs_one_cycle(rising: float) -> None:
    course = Course("any", 200, 0.0, rising)
    optimizer = torch.optim.AdamW(Sync().parameters(), learning.RATE)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning.RATE, 200, pct_start=rising)
    for step in range(200):
        group = optimizer.param_groups[0]
        assert one_cycle(step, course) == pytest.approx((group["lr"], group["betas"][0]), rel=1e-6)
        optimizer.step()
        torchs.step()
