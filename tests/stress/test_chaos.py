"""Every kind of failure at once, for some seconds; `make chaos` goes on for as long as you like."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.long import IS_LONG
from tests.strikes import WITH_LOSES_LOCKS

ROOT = Path(__file__).parents[2]
SEEDS = ["1", "2", "3"] if IS_LONG else ["1"]
SECONDS = 20 * len(SEEDS) if IS_LONG else 4


def summaries_of(program: str, *options: str) -> list[str]:
    """Run a program of chaos; return what it says of each seed."""
    outcome = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", program),
            *("--seconds", str(SECONDS), "--seeds", *SEEDS, *options),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS + 200,
        check=False,
    )
    print(outcome.stdout)
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr[-5000:]}"
    summaries = outcome.stdout.splitlines()
    assert len(summaries) == len(SEEDS)
    return summaries


@pytest.mark.timeout(SECONDS + 240)
def test_chaos_costs_no_job_no_thread_and_no_capacity() -> None:
    """Failures that no other test combines."""
    for summary in summaries_of("tests.stress.chaos"):
        strikes = () if WITH_LOSES_LOCKS else ("strikes",)
        for event in ("crashes", "timed_out", "forks", *strikes, "drains", "breakdowns"):
            assert event in summary, f"it shows nothing, since this did not happen: {summary}"


@pytest.mark.timeout(SECONDS + 240)
def test_chaos_around_a_server_loses_no_job() -> None:
    """Of processes, the server and connections; `make chaos-redis` goes on for longer."""
    summaries_of("tests.stress.chaos_redis", *([] if IS_LONG else ["--short"]))
