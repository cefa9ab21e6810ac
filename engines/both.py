"""A network and motion as one engine: a known still thing is found, and an unknown moving one.

Log odds add: to the network's come those of motion, over what motion says where there is nothing to
say. Motion never speaks against the network, since a phone that rings lies still; and a network
that doesn't know a thing is not heard against motion, for it has never seen its like. The surer the
network is of something in the picture, the less motion counts, there and elsewhere.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from avsl.engines.bundle import EngineSpec
from avsl.engines.engine import NetworkEngine, NetworkMaps
from avsl.engines.errors import UserError
from avsl.engines.localization import Evidence, Map, Named, Peak
from avsl.engines.motion.engine import MotionMaps
from avsl.engines.pictures import Picture
from avsl.engines.windows import SoundTimeline

NOTHING = np.float32(0.05)
"""Probability from which on motion counts as evidence, and that it starts from where the network
sees nothing that it knows."""


class BothEngine:
    """A network with motion beside it.

    Raises:
        UserError: the network's map doesn't divide its picture.
    """

    def __init__(self, network: NetworkEngine) -> None:
        for pixels, cells in zip(network.spec.picture_size, network.spec.map_size, strict=True):
            if pixels % cells or pixels % 2 or pixels < 32:
                raise UserError(
                    f"{network.spec.name}: a picture of {pixels} pixels and a map of {cells} cells "
                    "don't go with motion; use the engine alone"
                )
        self.network = network
        known = {field.name: getattr(network.spec, field.name) for field in fields(EngineSpec)}
        self.spec = EngineSpec(**known | {"name": f"{network.spec.name} + motion"})

    def for_pictures(self, height: int, width: int) -> BothEngine:
        return BothEngine(self.network.for_pictures(height, width))

    def maps(self) -> BothMaps:
        return BothMaps(self.network, self.spec)


class BothMaps:
    """The maps of one stream."""

    def __init__(self, network: NetworkEngine, spec: EngineSpec) -> None:
        self._network = NetworkMaps(network)
        self._parts = self._network, MotionMaps(spec)
        self._moves: Map = np.zeros(spec.map_size, np.float32)
        self._knows = self._moves

    def watch(self, time: float, picture: Picture, sound: SoundTimeline) -> None:
        for part in self._parts:
            part.watch(time, picture, sound)

    def map(self) -> Map:
        self._knows, self._moves = (part.map() for part in self._parts)
        return combined(self._knows, self._moves)

    def evidence(self, peak: Peak) -> Evidence:
        m, n = self._moves.shape
        cell = int(peak[1] * m), int(peak[0] * n)
        return "motion" if self._moves[cell] > self._knows[cell] else "network"

    def named(self) -> Named | None:
        """As the network has it; what it sees nothing in has no name, and is one thing."""
        found = self._network.named()
        if found is None:
            return None
        return found._replace(kinds=np.where(self._knows < NOTHING, np.int32(-1), found.kinds))


def combined(knows: Map, moves: Map) -> Map:
    """One map of the network's and motion's; where motion says nothing, the network's."""
    likely = np.maximum(knows, NOTHING)
    evidence = moves / np.maximum(1 - moves, 1e-6) / (NOTHING / (1 - NOTHING))
    odds = likely / np.maximum(1 - likely, 1e-6)
    odds *= evidence ** (1 - knows.max())
    return np.where(moves > NOTHING, odds / (1 + odds), knows)
