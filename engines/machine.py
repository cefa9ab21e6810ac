"""What machine this is, as benchmarks print it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu() -> str:
    """Model, cores, and the instruction sets that decide a network's speed."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = next((li.split(":")[1].strip() for li in text.splitlines() if "model name" in li), "")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return f"{model or platform.machine()}, {os.cpu_count()} cores, " + " ".join(
        flag for flag in wanted if flag in flags
    )


def cache_folder() -> Path:
    """Where the user's programs keep what they can make again; it may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "avsl"
