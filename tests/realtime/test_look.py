"""The overlay: where it draws, where it must not, and that it says the same in every format."""

import av
import numpy as np
import pytest

from avsl.engines import Thresholds, describe
from avsl.realtime.drawing.lettering import text
from avsl.realtime.drawing.overlay import Overlay

T = Thresholds(glow=0.5, unseen=0.3, sounding=0.6, gate_db=-60, gate_margin_db=6)
FORMATS = ("yuv420p", "yuvj420p", "yuv420p10le", "rgb24", "bgr24")


def picture(width: int, height: int, format_: str, value: int = 90) -> av.VideoFrame:
    rgb = np.full((height, width, 3), value, np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format_)
    frame.make_writable()
    return frame


def located(*cells: tuple[int, int, float], silent: bool = False, size: int = 20):
    map_ = np.full((size, size), 0.01, np.float32)
    for row, column, p in cells:
        map_[row, column] = p
    return describe(0.0, map_, -20.0, silent, T)


def drawn(frame, localization, **attributes: object) -> tuple[np.ndarray, np.ndarray]:
    """RGB before and after."""
    overlay = Overlay(T)
    for name, value in attributes.items():
        setattr(overlay, name, value)
    before = frame.to_ndarray(format="rgb24").astype(int)
    overlay.draw(frame, localization)
    return before, frame.to_ndarray(format="rgb24").astype(int)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(before - after).max(-1) > 4


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (162, 122), (1281, 721)])
def test_the_glow_lies_on_the_hot_cell_and_nowhere_else(
    format_: str, size: tuple[int, int]
) -> None:
    width, height = size
    before, after = drawn(picture(width, height, format_), located((4, 14, 0.95)))
    where = changed(before, after)
    where[round(height * 0.8) :] = False  # the label's part
    rows, columns = np.nonzero(where)
    assert abs(rows.mean() / height - 4.5 / 20) < 0.012
    assert abs(columns.mean() / width - 14.5 / 20) < 0.012
    assert rows.min() >= (3 / 20) * height - 3
    assert rows.max() <= (6 / 20) * height + 3
    assert columns.min() >= (13 / 20) * width - 3
    assert columns.max() <= (16 / 20) * width + 3


@pytest.mark.parametrize("format_", FORMATS)
def test_outside_glow_and_label_not_one_value_changes(format_: str) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (360, 640, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format_)
    frame.make_writable()
    planes = [np.frombuffer(plane, np.uint8).copy() for plane in frame.planes]
    Overlay(T).draw(frame, located((10, 2, 0.9), (10, 17, 0.8)))
    for plane, old in zip(frame.planes, planes, strict=True):
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        same = lines == old.reshape(lines.shape)
        tall = len(lines)
        assert same[: round(0.44 * tall)].all()
        assert same[round(0.61 * tall) : round(0.85 * tall)].all()
        assert same[:, plane.line_size // 2 - 8 : plane.line_size // 2 + 8].all()
        assert not same.all()


@pytest.mark.parametrize("value", [0, 90, 255])
def test_every_format_shows_the_same_colours(value: int) -> None:
    blob = located(*((r, c, 0.9) for r in range(8, 12) for c in range(8, 12)))
    shown = {f: drawn(picture(640, 360, f, value), blob)[1][175:185, 315:325] for f in FORMATS}
    for format_, patch in shown.items():
        assert np.abs(patch.mean((0, 1)) - shown["rgb24"].mean((0, 1))).max() < 8, format_


@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_the_picture_s_own_matrix_is_used(matrix: int) -> None:
    frame = picture(640, 360, "yuv420p")
    frame.colorspace = matrix
    blob = located(*((r, c, 0.9) for r in range(8, 12) for c in range(8, 12)))
    _, after = drawn(frame, blob)
    _, plain = drawn(picture(640, 360, "rgb24"), blob)
    assert np.abs(after[180, 320] - plain[180, 320]).max() < 10


def patch_of_glow(frame: av.VideoFrame, where: slice) -> np.ndarray:
    """Luma of a picture with a glow in its middle, in 0..1 of its range."""
    blob = located(*((r, c, 0.9) for r in range(8, 12) for c in range(8, 12)))
    Overlay(T).draw(frame, blob)
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
    return (luma[where, 318:322] - 64.0) / 876


@pytest.mark.parametrize(("transfer", "share"), [(1, 1.0), (18, 0.75), (16, 0.58)])
def test_hdr_keeps_the_glow_at_the_white_of_ordinary_pictures(transfer: int, share: float) -> None:
    def dark() -> av.VideoFrame:
        frame = picture(640, 360, "yuv420p10le", 0)
        frame.colorspace, frame.color_range = 9, 1
        return frame

    frame, plain = dark(), dark()
    frame.color_trc = transfer
    middle = slice(178, 182)
    ratio = patch_of_glow(frame, middle).mean() / patch_of_glow(plain, middle).mean()
    assert ratio == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("range_", [1, 2])
def test_the_range_of_the_picture_is_used(range_: int) -> None:
    frame = picture(640, 360, "yuv420p", 0)
    grey = np.frombuffer(frame.planes[0], np.uint8)
    grey[:] = 0 if range_ == 2 else 16
    frame.color_range = range_
    blob = located(*((r, c, 0.9) for r in range(8, 12) for c in range(8, 12)))
    Overlay(T).draw(frame, blob)
    rgb = frame.reformat(format="rgb24", dst_color_range=2).to_ndarray().astype(int)
    _, plain = drawn(picture(640, 360, "rgb24", 0), blob)
    assert np.abs(rgb[180, 320] - plain[180, 320]).max() < 8


def test_what_stays_under_the_threshold_tints_nothing() -> None:
    weak = located(*((r, c, 0.49) for r in range(3, 6) for c in range(3, 6)))
    assert weak.state == "unsure"
    before, after = drawn(picture(640, 360, "rgb24"), weak)
    assert np.array_equal(before[:300], after[:300])


def test_unsure_glows_less_than_sounding() -> None:
    strength = []
    for p in (0.59, 0.61):
        spot = located(*((r, c, p) for r in range(3, 6) for c in range(3, 6)))
        before, after = drawn(picture(640, 360, "rgb24"), spot)
        strength.append(np.abs(before - after)[:300].sum())
    assert 0 < strength[0] < 0.7 * strength[1]


@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (720, 1280), (3840, 2160), (120, 178)])
def test_the_label_is_small_and_whole(size: tuple[int, int]) -> None:
    width, height = size
    before, after = drawn(picture(width, height, "rgb24"), located((9, 9, 1.0)), opacity=0.0)
    rows, columns = np.nonzero(changed(before, after))
    assert 11 < np.ptp(rows) + 1 <= max(0.045 * height, 14)
    assert rows.max() < height - 2
    assert columns.max() < width - 2


def test_silence_draws_a_label_and_nothing_else() -> None:
    before, after = drawn(picture(640, 360, "yuv420p"), located((4, 4, 0.9), silent=True))
    where = changed(before, after)
    assert where.any()
    assert not where[:300].any()


def test_states_look_different_without_colour() -> None:
    looks = []
    for localization in (
        located(silent=True),
        located(),
        located((4, 4, 0.55)),
        located((4, 4, 0.9)),
    ):
        _, after = drawn(picture(640, 360, "yuv420p"), localization, opacity=0.0)
        looks.append(after.mean(-1)[300:])
    for i in range(4):
        for j in range(i):
            assert (np.abs(looks[i] - looks[j]) > 20).sum() > 40


def test_attributes() -> None:
    spot = located(*((r, c, 0.9) for r in range(3, 6) for c in range(3, 6)))
    before, hidden = drawn(picture(640, 360, "yuv420p"), spot, visible=False)
    assert np.array_equal(before, hidden)
    strengths = []
    for opacity in (0.0, 0.3, 0.6, 1.0):
        before, after = drawn(picture(640, 360, "yuv420p"), spot, opacity=opacity)
        strengths.append(np.abs(before - after)[:280].sum())
    assert strengths[0] == 0
    assert strengths == sorted(strengths)
    weak = located((4, 4, 0.5))
    assert changed(*drawn(picture(640, 360, "yuv420p"), weak, threshold=0.3))[:280].any()
    assert not changed(*drawn(picture(640, 360, "yuv420p"), weak, threshold=0.9))[:280].any()


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (64, 2), (2, 64), (119, 119), (4096, 2160)])
@pytest.mark.parametrize("format_", ["yuv420p", "yuv420p10le", "bgr24"])
def test_any_size(size: tuple[int, int], format_: str) -> None:
    full = np.full((20, 20), 0.99, np.float32)
    Overlay(T).draw(picture(*size, format_), describe(0.0, full, 0.0, False, T))


def test_bright_on_bright_does_not_wrap() -> None:
    full = describe(0.0, np.full((20, 20), 0.99, np.float32), 0.0, False, T)
    for format_ in FORMATS:
        _, after = drawn(picture(640, 360, format_, 255), full)
        assert after[:280].min() > 100


def test_text() -> None:
    assert np.array_equal(text("unseen 7 %", 16), text("UNSEEN 7 %", 16))
    assert text("", 16).shape[0] == 16
    assert text("ABC", 16).shape[1] > text("AB", 16).shape[1]
    assert text("A", 64).shape[0] == 64
    assert 0.05 < (text("H", 64) > 127).mean() < 0.6
    masks = {text(c, 24).tobytes() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+-?"}
    # O and 0 are one shape.
    assert len(masks) == 39
    text("\N{SNOWMAN}\n\t", 16)
