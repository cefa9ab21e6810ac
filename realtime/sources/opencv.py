"""cv2, imported the one way that works; import this module before anything that imports av.

PyAV carries its own libxcb. Where `av` comes first, the Qt of cv2 binds to it, and the first
`imshow` hangs for ever. What cv2 reads from the environment is read at its import, too.
"""

from __future__ import annotations

import os
import sys

__all__ = ["AV_CAME_FIRST", "cv2"]

AV_CAME_FIRST = "av" in sys.modules
"""Then no window can be opened in this process."""

if sys.platform == "linux":
    # The wheel holds no other Qt platform plugin; with another one asked for, Qt aborts.
    os.environ["QT_QPA_PLATFORM"] = "xcb"
for name, value in {
    "QT_LOGGING_RULES": "*.warning=false",
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # nothing
    # A frozen camera holds `grab` for so many seconds (10 if not said); whole seconds only.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "1",
    # Windows: with them, opening a camera takes up to twenty seconds.
    "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS": "0",
}.items():
    os.environ.setdefault(name, value)

try:
    import cv2
except ImportError as error:
    from avsl.engines.errors import UserError

    raise UserError(
        f"OpenCV, which opens cameras and windows, can't start ({error}); on Debian and Ubuntu: "
        "sudo apt install libgl1 libglib2.0-0 libsm6 libice6"
    ) from None

# Its pool would take the cores from the network; what is done here takes parts of a millisecond.
cv2.setNumThreads(1)
