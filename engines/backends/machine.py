"""What machine this is: its name as benchmarks print it, what networks may take of it, and where
what was found out about it is kept."""

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


def network_threads(beside: bool = True) -> int:
    """Threads for a network. One core stays free for decoding and encoding, which run `beside` it;
    more than four have nothing to do in networks of this size."""
    return min(4, max(1, (os.cpu_count() or 2) - beside))


def cache_folder() -> Path:
    """Where the user's programs keep what they can make again; it may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "avsl"
