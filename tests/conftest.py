"""What every test gets: a clean slate before it, and no thread left behind after it."""

import gc
import sys
import threading
from collections.abc import Iterator

import pytest

import oddjob

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """A test that leaves a pool running, or a thread, fails."""
    before = set(threading.enumerate())
    yield
    assert oddjob.shutdown_all(10), "named pools did not finish in 10 seconds"
    left = [thread for thread in threading.enumerate() if thread not in before]
    if left:
        gc.collect()  # anonymous pools that only a cycle holds
    for thread in left:
        thread.join(10)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Let threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
