"""The one error that users see: what is wrong, where, and what to do, in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A fault a user can cause and mend. The programs print it as one line and exit with 2."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """What both programs run in: a `UserError` becomes its one line on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`). Python would complain once more when it
        # flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
