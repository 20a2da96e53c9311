"""A disk without space, for a while."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.durable.full_disk import NO_MOUNT

ROOT = Path(__file__).parents[2]


def test_a_full_disk_loses_no_job_and_is_logged_once(tmp_path: Path) -> None:
    """New jobs are refused; outcomes wait for space in memory, and nothing runs twice (fault 8)."""
    program = "from tests.durable.full_disk import main; main()"
    command = ["unshare", "-rm", sys.executable, "-c", program, str(tmp_path)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, timeout=50, check=False, text=True, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        pytest.skip("no unshare here; test_sqlite_upkeep.py has a quota instead of a disk")
    if done.returncode == NO_MOUNT or "unshare" in done.stderr:
        pytest.skip("no disk can be mounted here; test_sqlite_upkeep.py has a quota instead")
    assert done.returncode == 0, done.stderr
