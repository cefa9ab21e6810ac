"""A microphone of two channels: the sound may be in either, or opposite in both."""

from __future__ import annotations

import numpy as np
import pytest
from live_process import Json, PlugIn, StartLive
from rig import FakeMicrophone
from scene import RATE, coloured_things

CHANNELS = {
    "the same in both": (0.25, 0.25),
    "opposite": (0.25, -0.25),
    "opposite, on an offset": (0.25, -0.25),
    "the second alone": (0.0, 0.25),
    "the first alone": (0.25, 0.0),
    "an offset alone": (0.0, 0.0),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_no_channel_is_left_out(
    plug_in: PlugIn, microphone: FakeMicrophone, start_live: StartLive, name: str
) -> None:
    camera = plug_in(coloured_things(1.0)[:1])
    t = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * t)[:, None] * np.array(CHANNELS[name])
    microphone.play((tone + 0.2 * ("offset" in name)).astype(np.float32))
    live = start_live({**camera.env, **microphone.env}, window=False)
    if not any(CHANNELS[name]):
        # On a busy computer the speaker stutters, and each gap is a step that is heard.
        live.wait_until(lambda: len(live.events) > 40 and not any(map(loud, live.events[-20:])))
        assert not any("muted" in line for line in live.said)
        return
    live.wait_for_event(found)
    assert live.events[-1][1]["level_db"] > -23


def loud(arrived: tuple[float, Json]) -> bool:
    return arrived[1]["state"] != "silent"


def found(event: Json) -> bool:
    """The red disc, whose tone it is."""
    return event["state"] == "sounding" and event["peaks"][0][0] < 0.4
