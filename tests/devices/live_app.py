"""`avsl-live --camera` with the fake engine: `python live_app.py FIELD=VALUE...`, where the values
are Python's and the fields those of LiveOptions. The report is its last line on stderr."""

from __future__ import annotations

import ast
import os
import sys
import time
from pathlib import Path

from avsl.realtime.live import LiveOptions, run_live  # imports cv2 before av

# isort: split
from fake_engine import FakeEngine

from avsl.engines import UserError


class SlowEngine(FakeEngine):
    def localize(self, picture, embedding):  # type: ignore[no-untyped-def]
        time.sleep(float(os.environ.get("FAKE_ENGINE_S", "0")))
        return super().localize(picture, embedding)


options = {}
for argument in sys.argv[1:]:
    name, text = argument.split("=", 1)
    value = ast.literal_eval(text)
    options[name] = Path(value) if name in ("out", "record", "events") else value
try:
    print(f"avsl-live: {run_live(LiveOptions(**options), SlowEngine()).line}", file=sys.stderr)
except UserError as error:
    print(f"avsl-live: {error}", file=sys.stderr)
    sys.exit(2)
