"""A video file in the making: hidden beside its place, playable at any moment."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av.error

from avsl.engines import UserError
from avsl.realtime.sources.ffmpeg import create_file, open_file

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""What OUT can be, by its suffix."""
FRAGMENT_S = 2.0
"""What a crash may cost: so much is written at a time. Shorter ones make files larger: at this
length an MP4 is half a percent larger than one of a piece."""
BUFFER = 1 << 20
"""Bytes that FFmpeg gathers before it writes: a fragment should cost few calls."""
REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file can't be this large there",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is not a folder",
}


def check_target(target: Path) -> None:
    """Raises UserError where no video of ours can be `target`: by its suffix, or for what is there
    already (a device, a pipe, a folder)."""
    if target.suffix.lower() not in CONTAINERS:
        known = " ".join(CONTAINERS)
        raise UserError(f"{target}: can't write this kind of file; name it with one of {known}")
    if target.exists() and not target.is_file():
        raise UserError(f"{target}: is no file but a folder or device; name another one to write")


def partial_name(target: Path) -> Path:
    """A name beside `target` that says it is not the whole, and that nothing has yet."""
    target = _through(target)
    names = (f"{target.stem}.partial{n}{target.suffix}" for n in ("", *range(2, 1000)))
    return next(p for name in names if not (p := target.with_name(name)).exists())


class PartFile:
    """What FFmpeg writes a file into. What is on the disk is playable at any moment: for that, the
    first fault to write is the last one. From then on nothing reaches the disk any more, least of
    all the index that FFmpeg writes at the end over what it had put at the start.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, target: Path) -> None:
        self.place = _through(target)
        self.name = str(target)
        self.fault: OSError | None = None
        # Two runs at once may have one target.
        self._beside = self.place.with_name(_hidden(self.place, str(os.getpid())))
        self._file = self._beside.open("wb", buffering=0)
        self._size = self._sure = 0

    def write(self, data: Any) -> int:
        if self.fault:
            return len(data)
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as fault:
            self.fault = fault
            raise
        self._size = max(self._size, self._file.tell())
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def sure(self) -> None:
        """What is written up to now can stay, whatever comes."""
        if not self.fault:
            self._sure = self._size

    def finish(self, place: Path | None = None) -> Path:
        """Puts the whole file in its place (or at `place`, beside it) and returns where that is.
        What runs that were killed left of the same target is of no use any more, and goes."""
        self._file.close()
        self._beside.replace(place or self.place)
        for left in _left_behind(self.place):
            with contextlib.suppress(OSError):
                left.unlink()
        return place or self.place

    def keep(self) -> Path | None:
        """Keeps what was written before a fault under a name that says so; None: no picture was."""
        try:
            self._file.truncate(self._sure)
            self._file.close()
            if _has_pictures(self._beside):
                return self._beside.replace(partial_name(self.place))
        except OSError:
            return None
        self.discard()
        return None

    def discard(self) -> None:
        """Leaves nothing behind."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._beside.unlink(missing_ok=True)


def open_to_write(file: Any, kind: str, late: bool) -> Any:
    """A container that keeps `file` playable while it grows, and is an ordinary one of its `kind`
    once it is closed: its index at the end, its times exact.

    Args:
        late: the index at the start has to wait for the first packets of every track, for some
            codec is not described but by these.
    """
    options = {"flush_packets": "1"}
    if kind in ("mp4", "mov"):
        options |= {
            "movflags": f"hybrid_fragmented+{'delay_moov' if late else 'empty_moov'}",
            "frag_duration": str(round(1e6 * FRAGMENT_S)),
            "use_editlist": "1",
            "write_tmcd": "0",  # a timecode among the tags would become a track of its own
        }
    else:
        options["cluster_time_limit"] = str(round(1e3 * FRAGMENT_S))
    return create_file(file, kind, options, BUFFER)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Says in one line why a file can't be written."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        reason = REASONS.get(error.errno or 0, str(error.strerror or error))
        raise UserError(f"{target}: can't be written; {reason}") from None


def _through(target: Path) -> Path:
    """Where a file of this name will lie: a link stays a link, what it points to is written."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def _hidden(place: Path, run: str) -> str:
    return f".{place.stem}.{run}.part{place.suffix}"


def _left_behind(place: Path) -> Iterator[Path]:
    """Unfinished files of one place whose processes are no more."""
    if os.name != "posix":  # elsewhere, asking whether a process lives may end it
        return
    before, after = _hidden(place, "\0").split("\0")
    for path in place.parent.iterdir():
        run = path.name.removeprefix(before).removesuffix(after)
        if path.name != f"{before}{run}{after}" or not run.isdecimal():
            continue
        try:
            os.kill(int(run), 0)
        except ProcessLookupError:
            yield path
        except (OSError, OverflowError):
            continue


def _has_pictures(path: Path) -> bool:
    try:
        with open_file(path) as container:
            return any(packet.size for packet in container.demux(video=0))
    except (UserError, av.error.FFmpegError, IndexError):
        return False
