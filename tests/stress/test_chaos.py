"""Chaos for a minute; `make chaos` goes on for as long as one likes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60
SEEDS = ["1", "2", "3"]


@pytest.mark.timeout(SECONDS + 240)
def test_chaos_costs_no_job_no_thread_and_no_capacity() -> None:
    """What no test has thought of, somebody's production will."""
    outcome = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "tests/stress/chaos.py"),
            *("--seconds", str(SECONDS), "--seeds", *SEEDS),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS + 200,
        check=False,
    )
    print(outcome.stdout)
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr[-5000:]}"
    tallies = outcome.stdout.splitlines()
    assert len(tallies) == len(SEEDS)
    for tally in tallies:
        for happened in ("crashes", "timed_out", "forks", "strikes", "drains", "breakdowns"):
            assert happened in tally, f"nothing is shown where nothing happened: {tally}"
