"""The field's measures on maps made by hand."""

import numpy as np
import pytest

from avsl.train.scoring.metrics import (
    auc,
    binarise,
    box_mask,
    centre_disc,
    ciou,
    in_box,
    map_peak,
    success,
    upsample,
)


def test_ciou_counts_as_the_formula_says() -> None:
    truth = np.zeros((4, 4))
    truth[:2] = 1  # 8 cells
    predicted = np.zeros((4, 4), bool)
    predicted[1:3] = True  # 4 inside, 4 outside
    assert ciou(predicted, truth) == pytest.approx(4 / (8 + 4))
    assert ciou(truth > 0, truth) == 1
    assert ciou(~(truth > 0), truth) == 0
    assert ciou(predicted, np.zeros((4, 4))) == 0, "an empty truth can't be met"


def test_half_weights_count_half_and_are_no_false_positives() -> None:
    truth = np.array([[1.0, 0.5, 0.0, 0.0]])
    assert ciou(np.array([[True, True, False, False]]), truth) == pytest.approx(1)
    assert ciou(np.array([[False, True, True, False]]), truth) == pytest.approx(0.5 / (1.5 + 1))


def test_success_and_auc() -> None:
    values = np.array([0.0, 0.5, 1.0])
    assert success(values) == pytest.approx(2 / 3)
    assert auc(np.zeros(5)) == pytest.approx(0.025), "success(0) is 1 by definition"
    assert auc(np.ones(5)) == pytest.approx(1)


def test_rules() -> None:
    map_ = np.array([[0.0, 0.1, 0.2, 0.4]])
    assert binarise(map_, "median", 0.5).tolist() == [[False, False, True, True]]
    assert binarise(map_, "fixed", 0.9).tolist() == [[False, False, True, True]]
    assert binarise(map_, "universal", 0.3).tolist() == [[False, False, False, True]]
    assert not binarise(map_, "universal", 0.5).any(), "an absolute map may stay dark"


def test_boxes_clip_to_the_picture() -> None:
    mask = box_mask([(-0.5, 0.5, 0.5, 2.0)], side=10)
    assert mask.sum() == 25
    assert mask[5:, :5].all()


def test_upsampling_keeps_place_and_range() -> None:
    map_ = np.zeros((20, 20), np.float32)
    map_[4, 15] = 1
    large = upsample(map_)
    y, x = np.unravel_index(large.argmax(), large.shape)
    assert abs((y + 0.5) / 224 - 4.5 / 20) < 0.01
    assert abs((x + 0.5) / 224 - 15.5 / 20) < 0.01
    assert large.max() <= 1
    assert np.allclose(upsample(np.full((20, 20), 0.3, np.float32)), 0.3)


def test_peak() -> None:
    map_ = np.zeros((10, 20), np.float32)
    map_[3, 17] = 1
    assert map_peak(map_) == (17.5 / 20, 3.5 / 10)
    assert in_box(*map_peak(map_), (0.8, 0.3, 0.9, 0.4))
    assert not in_box(*map_peak(map_), (0.0, 0.3, 0.8, 0.4))


def test_the_centre_disc_covers_half_under_the_median_rule() -> None:
    disc = binarise(upsample(centre_disc((20, 20))), "median", 0.5)
    assert disc.mean() == pytest.approx(0.5, abs=0.01)
    assert disc[112, 112]
    assert not disc[0, 0]
