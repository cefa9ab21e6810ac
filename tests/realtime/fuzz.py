"""Annotates mutated copies of a file: `python fuzz.py FILE FIRST LAST`, a seed each; prints one
word a seed, and the exception where it is none that a person should see."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from helpers import ToneEngine

from avsl.engines import UserError
from avsl.realtime.films import annotate


def mutate(data: bytes, seed: int) -> bytes:
    """Flips some bytes, cuts the end, or cuts a piece out of the middle."""
    rng = np.random.default_rng(seed)
    out = bytearray(data)
    kind = seed % 4
    if kind in (0, 3):
        # Headers are where a flip does most; half of the flips go there.
        for _ in range(int(rng.integers(1, 40))):
            end = min(len(out), 600) if rng.random() < 0.5 else len(out)
            out[int(rng.integers(end))] = int(rng.integers(256))
    if kind == 1:
        del out[int(rng.integers(1, len(out))) :]
    if kind == 2 or kind == 3:
        start = int(rng.integers(len(out)))
        del out[start : start + int(rng.integers(1, 2000))]
    return bytes(out)


def main() -> None:
    source = Path(sys.argv[1])
    data = source.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        film, out = Path(folder) / f"film{source.suffix}", Path(folder) / "out.mkv"
        for seed in range(int(sys.argv[2]), int(sys.argv[3])):
            film.write_bytes(mutate(data, seed))
            print(seed, end=" ", flush=True)
            try:
                report = annotate(film, out, ToneEngine(), overwrite=True)
                print("read", report.frames, flush=True)
            except UserError as error:
                print("refused" if "\n" not in str(error) else "TWO LINES", flush=True)
            left = {path.name for path in Path(folder).iterdir()} - {film.name, out.name}
            if left:
                print("LEFT BEHIND", left, flush=True)


if __name__ == "__main__":
    main()
