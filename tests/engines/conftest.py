"""Bundles that several tests look at, exported once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from exported import exported

from avsl.engines import Bundle


@pytest.fixture(scope="session")
def bundle_of_kind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """See exported.py."""
    return cache(lambda kind: exported(kind, tmp_path_factory.mktemp("bundle") / "engine"))
