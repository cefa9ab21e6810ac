"""A camera's picture on its way: to planes, mirrored, and back."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("size", [(640, 480), (641, 483), (322, 242), (160, 120)])
def test_colours_stay_where_they_are(opencv: None, size: tuple[int, int]) -> None:
    from avsl.engines import Thresholds
    from avsl.realtime.drawing.view import View
    from avsl.realtime.sources.camera import _planes
    from avsl.realtime.sources.frames import Frame

    width, height = size
    bgr = np.full((height, width, 3), 90, np.uint8)
    bgr[height // 4 : height // 2, width // 8 : width // 4] = (200, 40, 30)
    bgr[-height // 4 :, width // 2 :] = (20, 180, 60)
    picture = _planes(bgr)
    rgb = picture.to_ndarray(format="rgb24")
    assert abs(rgb.shape[0] - height) < 4 and abs(rgb.shape[1] - width) < 2
    near = bgr[: rgb.shape[0], : rgb.shape[1], ::-1].astype(int)
    off = np.abs(rgb - near).max(2)
    assert np.median(off) < 3 and (off > 30).mean() < 0.02  # colour edges are soft

    view = View(Thresholds(0.5, 0.3, 0.6, -60, 6))
    frame = Frame(picture, 0.0, 0)
    plain = view.draw(frame, None)
    assert np.abs(plain[..., ::-1].astype(int) - rgb).mean() < 2
    view.react("m")
    assert np.array_equal(view.draw(frame, None)[:, ::-1], plain)


def test_figures_off_hide_neither_recording_nor_frozen(opencv: None) -> None:
    from avsl.engines import Thresholds
    from avsl.realtime.drawing.view import Figures, View
    from avsl.realtime.sources.camera import _planes
    from avsl.realtime.sources.frames import Frame

    view = View(Thresholds(0.5, 0.3, 0.6, -60, 6))
    frame = Frame(_planes(np.full((480, 640, 3), 90, np.uint8)), 0.0, 0)
    noted = "no microphone, as asked"

    def said(*running: str) -> float:
        """How much of the window is written on."""
        shown = view.render(frame, None, Figures(30, 30, 9, 0, None, (noted,), running), [])
        return float((shown != view.draw(frame, None)).mean())

    figures = said()
    assert figures > 0
    view.react("h")
    assert said() == 0
    recording = said("recording a.mp4")
    view.react(" ")
    both = said("recording a.mp4")
    assert 0 < said() == recording < both < figures
