"""What Light-ASD is given: MFCC as they are defined, crops where they belong, 25 a second."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="crops of faces need OpenCV and its libGL")

from avsl.engines import UserError
from avsl.train.speakers import crops
from avsl.train.speakers.crops import at_25, mfcc, scores


def by_definition(samples: np.ndarray, frame: int) -> np.ndarray:
    """The coefficients of one frame, sum by sum."""
    x = np.rint(samples.astype(float) * 32768)
    x = np.array([x[i] - 0.97 * x[i - 1] if i else x[0] for i in range(len(x))])
    cut = np.zeros(512)
    part = x[frame * 160 : frame * 160 + 400]
    cut[: len(part)] = part
    angles = 2 * np.pi * np.outer(np.arange(257), np.arange(512)) / 512
    power = ((np.cos(angles) @ cut) ** 2 + (np.sin(angles) @ cut) ** 2) / 512
    top = 2595 * np.log10(1 + 8000 / 700)
    hz = [700 * (10 ** (top * k / 27 / 2595) - 1) for k in range(28)]
    edges = [int(513 * f / 16000) for f in hz]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising = sum(power[i] * (i - low) / (middle - low) for i in range(low, middle))
        bands.append(
            rising + sum(power[i] * (high - i) / (high - middle) for i in range(middle, high))
        )
    logs = np.log(bands)
    out = [np.log(power.sum())]
    for k in range(1, 13):
        c = sum(logs[j] * np.cos(np.pi * k * (j + 0.5) / 26) for j in range(26)) * (2 / 26) ** 0.5
        out.append(c * (1 + 11 * np.sin(np.pi * k / 22)))
    return np.array(out)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=count) * 0.05).astype(np.float32)


def test_mfcc_are_as_defined() -> None:
    samples = noise(2000)
    got = mfcc(samples)
    for frame in (0, 5, len(got) - 1):  # the last holds samples and zeros
        np.testing.assert_allclose(got[frame], by_definition(samples, frame), atol=1e-4)


@pytest.mark.parametrize(
    ("count", "frames"),
    [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16_000, 99), (640_000, 3999)],
)
def test_there_is_one_every_10_ms(count: int, frames: int) -> None:
    assert mfcc(noise(count)).shape == (frames, 13)


def test_louder_is_more_energy_and_the_same_shape() -> None:
    samples = np.rint(noise(16_000) * 32768).astype(np.float32) / 32768
    quiet, loud = mfcc(samples), mfcc(4 * samples)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], np.log(16), atol=1e-4)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-3)


def test_silence_is_the_least_number() -> None:
    got = mfcc(np.zeros(16_000, np.float32))
    np.testing.assert_allclose(got[:, 0], np.log(np.finfo(float).eps), rtol=1e-6)
    np.testing.assert_allclose(got[:, 1:], 0, atol=1e-4)
    assert np.array_equal(mfcc(np.full(16_000, 1e-6, np.float32)), got), (
        "16 bits hear nothing of it"
    )


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        (np.arange(4) / 25, [0, 1, 2, 3]),
        (np.arange(6) / 50, [0, 2, 4]),
        (np.arange(3) / 12.5, [0, 0, 1, 1, 2, 2]),
        (np.arange(6) / 30, [0, 1, 2, 4, 5]),
        (np.array([0.08, 0.12]), [0, 0, 0, 1]),
        (np.array([0.0]), [0]),
    ],
)
def test_pictures_are_shown_25_times_a_second(times: np.ndarray, shown: list[int]) -> None:
    assert at_25(times) == shown


def test_times_must_rise() -> None:
    with pytest.raises(ValueError, match="rise"):
        at_25([0.0, 0.04, 0.04])


def gradient(h: int = 300, w: int = 400) -> np.ndarray:
    """Grey says the column, so that a crop says where it was cut."""
    return np.broadcast_to((np.arange(w) / 2).astype(np.uint8)[None, :, None], (h, w, 3)).copy()


def test_a_crop_is_seven_tenths_of_the_box_and_lower() -> None:
    box = np.array([[150.0, 80.0, 250.0, 180.0]])
    across = crops.crops([gradient()], box)[0]
    assert across.shape == (112, 112)
    # Columns 165 to 235 of 400; rows 115 to 185: the middle is 20 below the box's.
    np.testing.assert_allclose(across[50, [0, 55, 111]] * 2.0, [165, 199.5, 234], atol=2.5)
    down = np.ascontiguousarray(gradient(400, 300).swapaxes(0, 1))[:300]
    down = np.broadcast_to((np.arange(300) / 2).astype(np.uint8)[:, None, None], (300, 400, 3))
    got = crops.crops([down.copy()], box)[0]
    np.testing.assert_allclose(got[[0, 55, 111], 50] * 2.0, [115, 149.5, 184], atol=2.5)


def test_of_a_long_box_the_longer_side_counts() -> None:
    one, other = (
        crops.crops([gradient()], np.array([[x, 80.0, 400 - x, 180.0]])) for x in (150.0, 180.0)
    )
    assert np.array_equal(one, other)


def test_outside_the_picture_is_grey() -> None:
    out = crops.crops([np.zeros((100, 100, 3), np.uint8)], np.array([[-60.0, 20.0, 40.0, 120.0]]))[
        0
    ]
    assert (out[:, 0] == 110).all() and (out[-1] == 110).all() and out[20, -1] == 0


def test_a_box_that_jumps_once_is_steadied() -> None:
    boxes = np.tile([150.0, 80.0, 250.0, 180.0], (20, 1))
    still = crops.crops([gradient()] * 20, boxes)
    boxes[10] += 40
    assert np.array_equal(crops.crops([gradient()] * 20, boxes), still)


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(UserError, match="picture 0: the face's box"):
        crops.crops([gradient()], np.array([[150.0, 80.0, 150.0, 80.0]]))


def test_scores_cut_the_film_into_windows_of_every_length() -> None:
    """A made-up look that says how long its window is: the mean over all lengths comes out, with
    what is left over at the end."""
    asked = []

    def look(faces: np.ndarray, heard: np.ndarray) -> np.ndarray:
        assert faces.dtype == np.uint8 and heard.shape == (4 * len(faces), 13)
        asked.append(len(faces))
        return np.full(len(faces), len(faces), np.float32)

    boxes = np.tile([150.0, 80.0, 250.0, 180.0], (70, 1))
    got = scores(look, [gradient()] * 70, boxes, noise(70 * 640 + 400), lengths=(1, 2))
    assert asked == [25, 25, 20, 50, 20]
    np.testing.assert_allclose(got, [37.5] * 50 + [20] * 20)


def test_scores_end_where_the_sound_does() -> None:
    boxes = np.tile([150.0, 80.0, 250.0, 180.0], (50, 1))
    got = scores(lambda f, m: np.zeros(len(f)), [gradient()] * 50, boxes, noise(16_000))
    assert len(got) == 24  # 99 frames of MFCC
    with pytest.raises(ValueError, match="boxes"):
        scores(lambda f, m: np.zeros(len(f)), [gradient()] * 49, boxes, noise(16_000))
