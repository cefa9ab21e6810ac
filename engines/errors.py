"""The one error that users see: what is wrong, where, and what to do, in one line."""


class UserError(Exception):
    """A fault a user can cause and mend. The programs print it as one line and exit with 2."""
