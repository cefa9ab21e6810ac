"""The window: checks for a display, shows pictures, reads keys. Main thread only."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from avsl.realtime.sources.opencv import AV_CAME_FIRST, cv2  # before everything that imports av

# isort: split
from avsl.engines.errors import UserError

TITLE = "avsl-live"
ESCAPE = "\x1b"

# What Qt does at its start, in a process that may fail. libSM and libICE are all that its plugin
# needs and the wheel of cv2 doesn't bring.
PROBE = """
import ctypes
for name in ("libSM.so.6", "libICE.so.6"):
    ctypes.CDLL(name)
xcb = ctypes.CDLL("libxcb.so.1")
xcb.xcb_connect.restype = ctypes.c_void_p
connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
raise SystemExit(3 if xcb.xcb_connection_has_error(connection) else 0)
"""


def check_display() -> None:
    """Makes sure that a window can be opened; without a display, Qt would abort the process.

    Raises:
        UserError: no display, one that doesn't answer or refuses, or a library is missing.
    """
    if sys.platform != "linux":
        return
    without = "avsl-live --no-window with -o, --record or --events runs without one"
    display = os.environ.get("DISPLAY")
    if not display:
        raise UserError(f"no display to open a window on (DISPLAY isn't set); {without}")
    try:
        probe = subprocess.run(
            [sys.executable, "-I", "-S", "-c", PROBE],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(f"the display {display} doesn't answer; {without}") from None
    if probe.returncode == 3:
        raise UserError(f"the display {display} doesn't answer or refuses; {without}")
    if probe.returncode:
        reason = (probe.stderr.strip().splitlines() or ["?"])[-1].removeprefix("OSError: ")
        raise UserError(
            f"a window needs a library that is missing ({reason}); on Debian and Ubuntu: "
            f"sudo apt install libsm6 libice6 libxcb1; {without}"
        )


class Window:
    """One window that pictures are shown in, as large as the first one and resizable.

    Raises:
        UserError: this cv2 has no windows.
    """

    def __init__(self) -> None:
        if AV_CAME_FIRST:
            raise RuntimeError("av was imported before cv2; the window would hang")
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        try:
            cv2.namedWindow(TITLE, flags)
        except cv2.error:
            raise UserError(
                "this OpenCV has no windows; pip uninstall opencv-python-headless, then "
                "pip install --force-reinstall opencv-python"
            ) from None
        self._sized = False

    def show(self, picture: Any) -> str | None:
        """Shows a BGR picture `[h, w, 3]` uint8 and returns the key pressed meanwhile, if any."""
        if not self._sized:
            cv2.resizeWindow(TITLE, picture.shape[1], picture.shape[0])
            self._sized = True
        cv2.imshow(TITLE, picture)
        return self.key()

    def key(self) -> str | None:
        """The key pressed since the last call. Windows are painted in here, too."""
        code = cv2.waitKey(1)
        return chr(code & 0xFF) if code >= 0 else None

    @property
    def closed(self) -> bool:
        """Whether it was closed with its button. It would come back with the next `show`."""
        try:
            return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # that no window is left is an error to Qt
            return True

    def close(self) -> None:
        cv2.destroyAllWindows()
        cv2.waitKey(1)
