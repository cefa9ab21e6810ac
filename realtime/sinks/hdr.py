"""What HDR pictures say of the screen they were graded on, in the words of the encoder."""

from __future__ import annotations

import numpy as np
from av.sidedata.sidedata import Type

SCENE_BY_SCENE = (Type.DYNAMIC_HDR_PLUS, Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER)
"""What is made for each picture as it was, and fits none that was drawn on."""


def x265_params(data: dict[Type, bytes]) -> list[str]:
    """HDR10's mastering display and content light level, if they are in a picture's side data."""
    found = []
    if (mastering := data.get(Type.MASTERING_DISPLAY_METADATA)) is not None:
        # Of FFmpeg's AVMasteringDisplayMetadata: fractions x and y of red, green, blue and white,
        # the least and the greatest luminance, and whether there are colours and luminances.
        numbers = np.frombuffer(mastering, np.int32)
        colours, has = numbers[:20].reshape(10, 2), numbers[20:22]
        values = colours[:, 0] / np.maximum(colours[:, 1], 1)
        red, green, blue, white = np.rint(values[:8] * 50_000).astype(int).reshape(4, 2)
        least, most = np.rint(values[8:] * 10_000).astype(int)
        if has.all():
            points = zip(["G", "B", "R", "WP"], (green, blue, red, white), strict=True)
            screen = "".join(f"{name}({x},{y})" for name, (x, y) in points)
            found.append(f"master-display={screen}L({most},{least})")
    if (light := data.get(Type.CONTENT_LIGHT_LEVEL)) is not None:
        most, mean = np.frombuffer(light, np.uint32)[:2]
        found.append(f"max-cll={most},{mean}")
    return found


def lost(data: dict[Type, bytes], kept: bool) -> str | None:
    """One line about what a picture says of itself and can't be written, if there is any."""
    names = [] if kept or not x265_params(data) else ["HDR10's mastering data"]
    if any(data.get(kind) is not None for kind in SCENE_BY_SCENE):
        names.append("what HDR10+ or Dolby Vision say of each scene")
    return f"{' and '.join(names)} left out" if names else None
