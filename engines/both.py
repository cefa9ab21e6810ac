"""A network and motion as one engine: a known still thing is found, and an unknown moving one.

Of a network without kinds, log odds add (`combined`): to the network's come those of motion, over
what motion says where there is nothing to say. Motion never speaks against the network, since a
phone that rings lies still; and a network that doesn't know a thing is not heard against motion,
for it has never seen its like. The surer the network is of something in the picture, the less
motion counts, there and elsewhere.

A network with kinds knows most of what there is, and motion is but evidence (`guided`): of things
that fit it says which, it makes what is half sure glow, and only where nothing known is heard or
seen does it light something itself.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from avsl.engines.bundle import EngineSpec
from avsl.engines.engine import NetworkEngine, NetworkMaps
from avsl.engines.errors import UserError
from avsl.engines.localization import Evidence, Map, Named, Peak
from avsl.engines.motion.engine import Lately, MotionMaps
from avsl.engines.pictures import Picture
from avsl.engines.windows import SoundTimeline

NOTHING = np.float32(0.05)
"""Probability from which on motion counts as evidence, and that it starts from where the network
sees nothing that it knows."""
STILL, GRAIN = 0.5, 0.3
"""What a cell that keeps still counts beside the one that moves most, and the levels that all of
them change by unnoticed."""
HALF, USUAL, MOST = 0.25, 0.15, 1.0
"""From this probability on something is half sure; motion raises its log odds by its own over
those of `USUAL`, by `MOST` at most."""
KNOWN = 0.5
"""Where something is heard or seen so surely, it is no stranger that sounds."""


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
        self._network, self._motion = NetworkMaps(network), MotionMaps(spec)
        self._sure = spec.thresholds.sounding
        self._moves: Map = np.zeros(spec.map_size, np.float32)
        self._knows = self._moves

    def watch(self, time: float, picture: Picture, sound: SoundTimeline) -> None:
        self._network.watch(time, picture, sound)
        self._motion.watch(time, picture, sound)

    def map(self) -> Map:
        self._knows, self._moves = self._network.map(), self._motion.map()
        found = self._network.named()
        if found is None:
            return combined(self._knows, self._moves)
        lately = self._motion.lately()
        return guided(self._knows, self._moves, lately, float(found.heard.max()), self._sure)

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


def guided(knows: Map, moves: Map, lately: Lately, heard: float, sure: float) -> Map:
    """The map of a network with kinds, with motion as evidence. Where nothing has moved, the
    network's.

    Args:
        knows: the network's, `[m, n]`.
        moves: how likely each cell moves with the sound.
        lately: the last second's motion. While the camera moves, `moves` says nothing.
        heard: the probability of the kind that is heard most.
        sure: from this probability on something is said to sound, which motion alone can't do.
    """
    most = knows.max()
    if most > 0:
        # Of the places that fit, the one that moves, at the height that the network gave the best.
        stands_out = lately.amount / (lately.amount.max() + GRAIN)
        placed = knows * (STILL + (1 - STILL) * stands_out)
        knows = np.minimum(placed * (most / placed.max()), most)
    if not lately.camera_rests:
        return knows
    moves = np.minimum(moves, 1 - 1e-6)
    evidence = np.log(np.maximum(moves, 1e-6) / (1 - moves)) - np.log(USUAL / (1 - USUAL))
    likely = np.clip(knows, 1e-6, 1 - 1e-6)
    raised = 1 / (1 + (1 - likely) / likely * np.exp(-np.clip(evidence, 0, MOST)))
    unsure = np.nextafter(np.float32(sure), np.float32(0))
    raised = np.maximum(knows, np.minimum(raised, unsure))
    knows = np.where(knows >= HALF, raised, knows).astype(np.float32)
    if most < KNOWN and heard < KNOWN:
        knows = np.maximum(knows, moves)
    return knows
