"""`avsl-live --camera` with the fake engine: `python live_app.py FIELD=VALUE...`, where the values
are Python's and the fields those of LiveOptions. The report is its last line on stderr."""

from __future__ import annotations

import ast
import os
import sys
import time
from pathlib import Path

from avsl.engines.errors import UserError

arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
values = {name: ast.literal_eval(text) for name, text in arguments.items()}
paths = {name: Path(values[name]) for name in ("out", "record", "events") if name in values}
try:
    # isort: split
    from fake_engine import FakeEngine

    from avsl.realtime.live import LiveOptions, run_live  # imports cv2 before av

    class SlowEngine(FakeEngine):
        def localize(self, picture, embedding):  # type: ignore[no-untyped-def]
            time.sleep(float(os.environ.get("FAKE_ENGINE_S", "0")))
            return super().localize(picture, embedding)

    print(
        f"avsl-live: {run_live(LiveOptions(**{**values, **paths}), SlowEngine()).line}",
        file=sys.stderr,
    )
except UserError as error:
    print(f"avsl-live: {error}", file=sys.stderr)
    sys.exit(2)
