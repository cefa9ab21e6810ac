"""Runs the parts of `measure.py`, each in a process of its own, and writes down what they find; see
run.sh.

A part that fails, hangs or crashes is one line, and the next has its turn. What is found is written
after every part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUDGET_S = 500
"""For all of them; a machine that is lent for ten minutes also has to start."""
PARTS = {
    "machine": 60,
    "bundles": 120,
    "torch": 120,
    "training": 120,
    "roofline": 90,
    "tensorrt-rtx": 60,
    "tests": 200,
    "tensorrt": 240,
}
"""The most seconds that each may take, what is worth most first."""
GOAL_MS = 1.5
"""Of a picture of 1920x1080 at batch 1: sound and picture network and overlay, upload and download
included, in 99 of 100 pictures."""


def run_part(name: str, limit: float, job: dict[str, Any]) -> dict[str, Any]:
    """What a part found; where it found nothing, `failed` says why in a line."""
    began = time.monotonic()
    command = [sys.executable, str(HERE / "measure.py"), name, json.dumps(job)]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as out,
        tempfile.TemporaryFile("w+", errors="replace") as err,
    ):
        child = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            code: int | str = child.wait(max(1.0, limit))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # and whatever it has started
            child.wait()
            code = f"took longer than {limit:.0f} s"
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    said, complained = (text.strip().splitlines() for text in texts)
    result: dict[str, Any] = {"part": name, "seconds": round(time.monotonic() - began, 1)}
    try:
        result |= json.loads(said[-1])  # also of one that was ended: what it had found by then
    except (ValueError, IndexError, TypeError):
        code = code or "said nothing that can be read"
    if code:
        why = complained[-1] if complained and isinstance(code, int) else "ended"
        result |= {"failed": f"{why} ({code})"[:300], "log": complained[-30:]}
    return result


def lines(results: list[dict[str, Any]]) -> list[str]:
    """All that was found, as Markdown."""
    found = {result["part"]: result for result in results}
    machine = found.get("machine", {}).get("found", {})
    out = [f"{machine.get('gpu', 'no GPU')}; {machine.get('cpu', '')}", ""]
    out += [f"- {name}: {version}" for name, version in machine.get("versions", {}).items()]
    frames = [
        row
        for part in ("torch", "tensorrt", "tensorrt-rtx")
        for row in found.get(part, {}).get("found", [])
    ]
    if frames:
        out += [
            "",
            "| engine | picture | runs with | ms p50 | p99 | n |",
            "|---|---|---|---:|---:|---:|",
        ]
        out += [
            f"| {r['engine']} | {r['picture']} | {r['with']} | {r['p50']:.3f} | {r['p99']:.3f} | "
            f"{r['n']} |"
            for r in frames
        ]
        large = [row for row in frames if row["picture"] == "1920x1080" and row["engine"] == "real"]
        if large:
            best = min(large, key=lambda row: float(row["p99"]))
            met = "met" if best["p99"] < GOAL_MS else "not met"
            out += ["", f"Goal, real at 1920x1080 in {GOAL_MS} ms p99: {met} ({best['with']})"]
    if rows := found.get("roofline", {}).get("found"):
        head = "| engine | batch | ms | pictures/s | share of the roofline |"
        out += ["", head, "|---|---:|---:|---:|---:|"]
        for r in rows:
            share = f"{100 * r['share']:.0f} %" if r["share"] else ""
            rate = 1000 * r["batch"] / r["ms"]
            out.append(f"| {r['engine']} | {r['batch']} | {r['ms']:.3f} | {rate:.0f} | {share} |")
    if rows := found.get("training", {}).get("found"):
        out += ["", "| a step of DMT | clips | samples/s |", "|---|---:|---:|"]
        out += [f"| {r['recipe']} | {r['batch']} | {r['samples_per_s']:.0f} |" for r in rows]
    out += ["", "| part | s | |", "|---|---:|---|"]
    for result in results:
        notes = [result.get("failed", ""), *result.get("said", [])]
        text = "; ".join(note for note in notes if note) or "done"
        out.append(f"| {result['part']} | {result['seconds']:.0f} | {text.replace('|', '/')} |")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engines", nargs="+", default=["real", "small", "pair"])
    parser.add_argument("--rounds", type=int, default=300, help="pictures that are timed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began, results = time.monotonic(), []
    patience = 1 if options.device == "cuda" else 5
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "folder": folder,
            "device": options.device,
            "engines": options.engines,
            "rounds": options.rounds,
        }
        for name in options.parts:
            left = patience * BUDGET_S - (time.monotonic() - began)
            if left > 5:
                results.append(run_part(name, min(patience * PARTS[name], left), job))
            else:
                results.append({"part": name, "seconds": 0.0, "failed": "no time was left"})
            print(
                "; ".join([name, *results[-1].get("said", []), results[-1].get("failed", "done")])
            )
            (options.out / "gpu.json").write_text(json.dumps(results, indent=2) + "\n")
            (options.out / "gpu.md").write_text("\n".join(lines(results)) + "\n")
    print("\n" + "\n".join(lines(results)))
    return int(any("failed" in result for result in results))


if __name__ == "__main__":
    sys.exit(main())
