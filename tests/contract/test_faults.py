"""Faults that other executors have, shown on the standard library's, and absent from ours."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.faults import FAULTS

FAULTS_PY = Path(__file__).with_name("faults.py")


def play(name: str, executor: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(FAULTS_PY), name, executor],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_pool_does_not_have_the_fault(name: str) -> None:
    """Users who move here to be rid of one of these would notice."""
    outcome = play(name, "Pool")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == "well\n"


@pytest.mark.parametrize("name", FAULTS)
def test_the_standard_library_has_the_fault(name: str) -> None:
    """Keeps the scenarios honest: each one fails where the fault is known to be."""
    outcome = play(name, "ThreadPoolExecutor")
    assert outcome.returncode == 1, "cured? then say so in from-concurrent-futures.md"
