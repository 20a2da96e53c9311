"""Fixtures of the tests of guests."""

from collections.abc import Iterator

import pytest

import oddjob


@pytest.fixture(autouse=True)
def end_pools() -> Iterator[None]:
    """Shut down the pools, and forget the settings, of each test."""
    yield
    assert oddjob.shutdown_all(10)
