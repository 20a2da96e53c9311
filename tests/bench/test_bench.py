"""The benchmark itself, in small, so that it cannot rot; what it measures is not asserted."""

import subprocess
import sys
from pathlib import Path


def test_the_measure_of_late_timeouts_prints_both_figures() -> None:
    """The other half of ``make bench``."""
    script = Path(__file__).with_name("lateness.py")
    outcome = subprocess.run(
        [sys.executable, str(script), "--jobs", "10"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert outcome.stdout.count("10 timeouts") == 2
    assert outcome.stderr == ""


def test_the_benchmark_prints_every_figure() -> None:
    """Whoever wants to check the README's figures types ``make bench``."""
    script = Path(__file__).with_name("against_stdlib.py")
    outcome = subprocess.run(
        [sys.executable, str(script), "--rounds", "1", "--scale", "0.002"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    rows = [line for line in outcome.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 14
    assert all(row.count("|") == 7 for row in rows)
    assert outcome.stderr == ""


def test_the_measure_of_timers_prints_every_figure() -> None:
    script = Path(__file__).with_name("timers.py")
    outcome = subprocess.run(
        [sys.executable, str(script), "--rounds", "1", "--scale", "0.001"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert outcome.stdout.count("**") == 4
    assert "bytes are left in use" in outcome.stdout
    assert "percentile" in outcome.stdout
    assert "of a crontab of 50 entries" in outcome.stdout
    assert outcome.stderr == ""
