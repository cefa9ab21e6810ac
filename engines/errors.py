"""The one error that users see: what is wrong, where, and what to do, in one line."""

from __future__ import annotations

import contextlib
import errno
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
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`).
        drop_stdout()
        sys.exit(0)
    except ModuleNotFoundError:
        raise
    except (ImportError, MemoryError) as error:  # `ulimit -v`, a container with a small limit
        reason = f" ({error})" if str(error) else ""
        say(f"error: not enough memory, or a library that doesn't fit{reason}; allow more memory")
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        drop_stdout()
        say(f"error: {error.filename or 'stdout'}: can't be written; {error.strerror}")
        sys.exit(2)


def say(line: str) -> None:
    """A line on stderr, where there is one."""
    if sys.stderr is not None:  # print would take stdout, where the events go
        print(visible(line), file=sys.stderr)


def visible(text: str) -> str:
    """Text that may hold names from outside, as a terminal may be given it: what would move its
    cursor, colour it or forge a line of ours is spelt out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def drop_stdout() -> None:
    """From now on stdout goes nowhere: Python would complain once more about what it still holds
    when it flushes it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
