"""An engine without networks that needs both picture and sound: tones belong to colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avsl.engines import Bundle, Thresholds, WindowSpec
from avsl.engines.bundle import DEFAULT

if TYPE_CHECKING:
    from avsl.engines.engine import Maps

Floats = NDArray[np.float32]

COLOURS = np.array([(220, 40, 40), (40, 200, 60), (50, 70, 230), (230, 210, 40)], np.float32)
"""RGB of the things."""
TONES = (440.0, 880.0, 1760.0, 3520.0)
"""What each of them sounds like, in Hz."""


class FakeEngine:
    """Where the colour is whose tone was heard in the last quarter of a second."""

    def __init__(self) -> None:
        self.spec = self.bundle = Bundle(
            folder=DEFAULT,
            name="fake",
            version="1",
            window=WindowSpec(rate=16_000, length=16_000, hop=800, guard=640),
            picture_size=(160, 160),
            map_size=(20, 20),
            embedding_size=len(TONES),
            thresholds=Thresholds(
                glow=0.35, unseen=0.2, sounding=0.4, gate_db=-60, gate_margin_db=6
            ),
            meta={},
        )
        t = np.arange(4000) / 16_000
        self._turns = np.exp(-2j * np.pi * np.outer(TONES, t))

    def for_pictures(self, height: int, width: int) -> FakeEngine:
        return self

    def maps(self) -> Maps:
        from avsl.engines.engine import NetworkMaps  # brings av along, and cv2 must come first

        return NetworkMaps(self)

    def embed(self, samples: Floats) -> Floats:
        heard = np.abs(self._turns @ samples[-4000:])
        return (heard / (heard.sum() + 1e-6)).astype(np.float32)

    def localize(self, picture: NDArray[np.uint8], embedding: Floats) -> Floats:
        cells = picture.reshape(20, 8, 20, 8, 3).mean((1, 3), dtype=np.float32)
        far = np.linalg.norm(cells[..., None, :] - COLOURS, axis=-1)
        sounding = np.pad(np.exp(-((far / 60) ** 2)) @ embedding, 1)
        # The mean over 3 x 3 cells, so that a thing has one highest cell, its middle.
        return np.lib.stride_tricks.sliding_window_view(sounding, (3, 3)).mean((2, 3), np.float32)
