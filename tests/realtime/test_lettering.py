"""Letters: all there, all different, even in weight, at any height."""

import numpy as np
import pytest

from avsl.realtime.drawing.lettering import text

SHOWN = "ABCDEFGHIJKLMNPQRSTUVWXYZ0123456789.,:%+-/()?[]'\"=<>"  # O and 0 are one shape


@pytest.mark.parametrize("height", [11, 25, 72])
def test_each_character_has_a_look_of_its_own(height: int) -> None:
    masks = {character: text(character, height) for character in SHOWN}
    assert len({(mask.shape, mask.tobytes()) for mask in masks.values()}) == len(SHOWN)
    for character, mask in masks.items():
        assert mask.max() > 150, character
        # Nothing is cut off: strokes keep clear of the edges, beyond their last grey pixel.
        assert not mask[:, 0].any(), character
        assert not mask[:, -1].any(), character
        assert mask[0].max() < 192, character
        assert mask[-1].max() < 192, character


def test_what_has_no_strokes_is_a_gap() -> None:
    for character in (" ", "\N{SNOWMAN}", "\n"):
        mask = text(character, 20)
        assert mask.shape[1] > 2
        assert not mask.any()
    assert text("", 16).shape[0] == 16


def test_strokes_keep_their_weight_and_their_proportions() -> None:
    """Thickness of stems and of curves in half the height, and in twice."""
    small, large = text("HO8", 30), text("HO8", 120)
    assert large.shape[0] == 4 * small.shape[0]
    assert large.shape[1] == pytest.approx(4 * small.shape[1], rel=0.08)
    assert (small / 255).mean() == pytest.approx((large / 255).mean(), rel=0.08)
    letter_h, letter_o = text("I", 120), text("O", 120)
    stem = (letter_h[60] / 255).sum()
    both_sides = (letter_o[60] / 255).sum()
    assert both_sides == pytest.approx(2 * stem, rel=0.1)
    top = (letter_o[:60, letter_o.shape[1] // 2] / 255).sum()
    assert top == pytest.approx(stem, rel=0.15)


def test_advance_is_proportional() -> None:
    widths = {character: text(character, 40).shape[1] for character in "IA%"}
    assert widths["I"] < 0.6 * widths["A"] < widths["A"] < widths["%"]


def test_letters_are_grey_at_their_edges() -> None:
    mask = text("SOUNDING 87 %", 25)
    assert ((mask > 20) & (mask < 235)).sum() > 0.2 * (mask > 235).sum()


def test_a_mask_from_the_cache_can_t_be_spoilt() -> None:
    with pytest.raises(ValueError, match="read-only"):
        text("SILENT", 20)[:] = 0


def test_lower_case_shows_as_capitals() -> None:
    assert np.array_equal(text("unseen 7 %", 16), text("UNSEEN 7 %", 16))
