"""Programs in which threads are not what they are elsewhere: sub-interpreters, and gevent."""

import importlib.util
import subprocess
import sys
import textwrap

import pytest

WORK = """
    import asyncio, io, logging, threading
    logging.basicConfig(stream=(said := io.StringIO()))
    import oddjob

    async def half(number):
        await asyncio.sleep(0)
        return number // 2

    def inner():
        return pool.submit(abs, -4).result(9)

    with oddjob.Pool(2) as pool:
        assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert pool.submit(half, 8).result(9) == 4
        assert pool.submit(inner).result(9) == 4
        assert pool.after(0.001).submit(abs, -4).result(9) == 4
        timer = pool.every(0.001).perform(abs, 1)
        while not timer.fired:
            pool.submit(abs, 1).result(9)
    with oddjob.Pool(1, retries=1, timeout=9, priority_aging=1, max_queue=2) as pool:
        assert pool.submit(abs, -4).result(9) == 4
    with oddjob.Pool("stored", 1, store="memory:") as pool:
        assert pool.submit(abs, -4).result(9) == 4
    left_open = oddjob.Pool("left open", 1)
    gate = threading.Event()
    left_open.perform(gate.wait)
    left_open.after(99).perform(abs, 1).cancel()
    left_open.perform(lambda: print("the last job", said.getvalue(), flush=True))
    gate.set()
"""


def assert_works(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "the last job \n", 0)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="they had no threads, or not this module")
def test_a_pool_works_in_an_isolated_sub_interpreter() -> None:
    """As `ThreadPoolExecutor` does. There are no daemon threads."""
    assert_works(
        textwrap.dedent(f"""
            import _interpreters, sys
            interpreter = _interpreters.create("isolated")
            _interpreters.exec(interpreter, "import sys; sys.path[:] = " + repr(sys.path))
            failure = _interpreters.exec(interpreter, {textwrap.dedent(WORK)!r})
            assert failure is None, failure.formatted
            _interpreters.destroy(interpreter)
        """)
    )


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_a_pool_works_with_gevents_patches_and_logs_nothing() -> None:
    """Workers are greenlets then."""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    assert_works(patch + textwrap.dedent(WORK))
