"""A folder that is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avsl.engines import UserError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder`, which becomes `folder` at the end, and is removed if
    something fails.

    Raises:
        UserError: `folder` exists or can't be written.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; name a new folder")
    beside = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        beside.rename(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(f"{folder}: can't be written ({error.strerror})") from None
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
