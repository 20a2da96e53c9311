"""The pytest plugin of OddJob: the fixture ``oddjob_inline``."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def oddjob_inline() -> Iterator[None]:
    """Run every job at once, in the thread that submits it; see `oddjob.testing.inline`."""
    from oddjob.testing import inline  # loaded only for tests that use it

    with inline():
        yield
