"""The examples are the first code that a newcomer runs and copies: each must run as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMISED = {
    *("quickstart", "settings_dict", "decorator", "asyncio_jobs", "batch", "graceful_stop"),
    *("protect_an_api", "keys_overtake"),
}
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def test_every_promised_example_is_there():
    """Who would notice: the tests below, which would pass on an empty folder."""
    assert {script.stem for script in SCRIPTS} >= PROMISED


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_example_runs_holds_and_complains_of_nothing(script):
    """Who would notice: whoever types `python examples/….py`, or `make demo`."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    said = f"\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, said
    assert ended.stderr == "", said
    assert ended.stdout != "", "it shows nothing"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_example_is_short_and_uses_public_names_only(script):
    """Who would notice: whoever copies it, once a later version has renamed the private half."""
    text = script.read_text()
    assert len(text.splitlines()) <= (120 if script.stem == "quickstart" else 60)
    assert "from oddjob" not in text
    assert "import oddjob." not in text
    assert "assert " in text
