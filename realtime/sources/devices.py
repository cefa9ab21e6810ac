"""Which cameras and microphones there are."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator

from avsl.realtime.sources.opencv import cv2  # before everything that imports av

# isort: split
from avsl.engines.errors import UserError, visible
from avsl.realtime.sources.microphone import portaudio

VIDIOC_QUERYCAP = 0x80685600
CAN_CAPTURE = 1
"""V4L2_CAP_VIDEO_CAPTURE; a webcam's second node, for metadata, has it not."""


def list_devices() -> None:
    """Prints cameras and microphones with the numbers and names that the options take."""
    print("cameras (--camera)")
    lines = [f"  {number}  {visible(name)}" for number, name in cameras()]
    print("\n".join(lines or ["  none found"]))
    print("microphones (--microphone)")
    try:
        lines = list(_microphones())
    except UserError as error:
        lines = [f"  {error}"]
    print("\n".join(lines or ["  none found"]))


def cameras() -> Iterator[tuple[int, str]]:
    """Number and name of each camera that is plugged in."""
    if sys.platform == "linux":
        yield from _v4l2_cameras()
        return
    for number in range(4):
        capture = cv2.VideoCapture(number)
        if capture.isOpened():
            yield number, "camera"
        capture.release()


def _v4l2_cameras() -> Iterator[tuple[int, str]]:
    from fcntl import ioctl

    for number in range(64):
        try:
            device = os.open(f"/dev/video{number}", os.O_RDWR | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield number, f"can't be opened ({error.strerror})"
            continue
        try:
            answer = ioctl(device, VIDIOC_QUERYCAP, bytes(104))
        except OSError:
            continue
        finally:
            os.close(device)
        # struct v4l2_capability: driver, card, bus, version, capabilities, device_caps
        card, device_caps = struct.unpack("16x 32s 32x 4x 4x I 12x", answer)
        if device_caps & CAN_CAPTURE:
            yield number, card.split(b"\0")[0].decode(errors="replace")


def _microphones() -> Iterator[str]:
    sounddevice = portaudio()
    default = sounddevice.default.device[0]
    for number, device in enumerate(sounddevice.query_devices()):
        if device["max_input_channels"]:
            host = sounddevice.query_hostapis(device["hostapi"])["name"]
            mark = ", the default" if number == default else ""
            yield f"  {number}  {visible(device['name'])}  ({host}{mark})"
