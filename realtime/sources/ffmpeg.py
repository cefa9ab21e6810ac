"""All that opens media files through PyAV, and what changed between its versions 17 and 19."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import av
import av.error
from av.format import Flags
from av.sidedata.sidedata import Type
from av.stream import Disposition

from avsl.engines.errors import UserError

# FFmpeg's own messages speak of its insides; what a person needs is said by our errors.
av.logging.set_level(None)

# Titles in an old code page are no reason not to read a film. PyAV 19 always keeps them.
_LENIENT: dict[str, Any] = (
    {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
)
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def url(path: Path) -> str:
    """`path` for FFmpeg, which takes `12:30.mp4`, `concat:a` and `-` for addresses or options."""
    return f"file:{path}"


def open_file(path: Path) -> Any:
    """Opens a media file to read.

    Raises:
        UserError: it is missing, a folder, a pipe, not readable, or no media file.
    """
    try:
        kind = path.stat().st_mode
        # Pictures and sound are read through two openings of one file, which a pipe has only once.
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind):
            raise UserError(
                f"{path}: a pipe or a device, which can be read only once; save it as a file first"
            )
        return av.open(url(path), **_LENIENT)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a video file") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        empty = path.is_file() and path.stat().st_size == 0
        what = "empty" if empty else "not a video, or damaged or cut off"
        raise UserError(f"{path}: can't be read; it is {what} ({_reason(error)})") from None


def create_file(
    place: Any, kind: str | None = None, options: dict[str, str] | None = None, buffer: int = 32768
) -> Any:
    """Opens a media file to write, a path or what bytes can be written into: `kind` is FFmpeg's
    name of the container (None: by the suffix), `options` are the container's, `buffer` is how many
    bytes are gathered for one write. Raises what PyAV raises."""
    file = url(place) if isinstance(place, Path) else place
    return av.open(file, "w", format=kind, options=options or {}, buffer_size=buffer)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def is_cover(stream: Any) -> bool:
    """Whether a picture track holds a cover or thumbnails, no film."""
    return bool(stream.disposition & _PICTURES)


def keeps_times(container: Any) -> bool:
    """Whether the container says when its pictures are shown: bare streams don't."""
    return not container.format.flags & Flags.no_timestamps.value


def begins_anew(container: Any) -> bool:
    """Whether the container's times may leap ahead in the middle, as a broadcast's do."""
    return bool(container.format.flags & Flags.ts_discont.value)


def display_matrix(picture: av.VideoFrame) -> bytes | None:
    """The 36 bytes that say how the picture is to be turned: nine int32, `[a b u c d v x y w]`."""
    data: Any = picture.side_data
    matrix = data.get(Type.DISPLAYMATRIX)
    return None if matrix is None else bytes(matrix)


def side_data(picture: av.VideoFrame) -> dict[Type, bytes]:
    """What comes with a picture beside its planes, copied: what PyAV gives are pointers, which it
    keeps with the picture, and `make_writable` frees what they point to."""
    data: Any = picture.side_data
    return {data[index].type: bytes(data[index]) for index in range(len(data))}
