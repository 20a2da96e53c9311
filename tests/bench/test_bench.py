"""The benchmarks themselves, with little work, so that they keep running; no figure is asserted."""

import os
import subprocess
import sys
from pathlib import Path

from tests.redis_server import find_binary


def output_of(script: str, *arguments: str) -> str:
    """Run a benchmark, a file or a module, and return what it prints."""
    file = Path(__file__).with_name(script)
    program = [str(file)] if file.exists() else ["-m", script]
    outcome = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=True,
    )
    assert outcome.stderr == ""
    return outcome.stdout


def test_the_benchmark_beside_the_standard_library_prints_every_row() -> None:
    output = output_of("against_stdlib.py", "--rounds", "1", "--scale", "0.002")
    rows = [line for line in output.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + (19 if hasattr(os, "sched_setaffinity") else 18)
    assert all(row.count("|") == 7 for row in rows)
    assert "served after 200 jobs, after 23 with fair shares, and after 20 without" in output


def test_the_benchmark_of_timeouts_prints_both_figures() -> None:
    assert output_of("lateness.py", "--jobs", "10").count("10 timeouts") == 2


def test_the_benchmark_of_timers_prints_every_figure() -> None:
    output = output_of("timers.py", "--rounds", "1", "--scale", "0.001")
    assert output.count("**") == 4
    assert "bytes remain in use" in output
    assert "99th percentile" in output
    assert "of a crontab of 50 entries" in output


def test_the_benchmark_of_jobs_on_redis_prints_every_row() -> None:
    find_binary()  # or this test is skipped
    output = output_of("tests.bench.durable_redis", "--rounds", "1", "--scale", "0.001")
    for row in (
        *("oddjob, perform ", "oddjob, perform_many ", "LPUSH + RPOP", "nothing kept"),
        *("results kept", "1,000 waiting", "submit → start elsewhere", "submit → result here"),
        *("of 500 jobs, the other nine are done after 56", "with fair shares"),
        *("idle process", "2 : 1, workers in each: 1", "  pools", "waiting jobs", "idle processes"),
    ):
        assert row in output


def test_the_benchmark_of_the_dashboard_prints_every_page() -> None:
    output = output_of("dashboard.py", "--jobs", "3000", "--rounds", "1")
    assert output.count("\n/") == 10
    assert "3,000 jobs stored" in output
