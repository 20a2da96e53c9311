"""What pytest finds when OddJob is installed: the fixture ``oddjob_inline``."""

from collections.abc import Iterator

import pytest

__all__ = ["oddjob_inline"]


@pytest.fixture
def oddjob_inline() -> Iterator[None]:
    """Every pool runs jobs at once, in the thread that submits; see `oddjob.testing.inline`."""
    from oddjob.testing import inline  # only for those who ask

    with inline():
        yield
