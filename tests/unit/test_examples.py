"""Examples are the first code that you run and copy: each one runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {
    *("asyncio_jobs", "batch", "decorator", "fair", "graceful_stop", "keys_overtake"),
    *(
        "middleware",
        "move_to_redis",
        "nightly_report",
        "outbox",
        "protect_an_api",
        "settings_dict",
        "steps",
    ),
}
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
OF_FRAMEWORKS = sorted(EXAMPLES.glob("web/*.py"))
FRAMEWORKS = {"django", "fastapi", "flask", "litestar", "trio"}


def test_every_expected_example_exists() -> None:
    """Otherwise the tests below could pass on an empty folder."""
    assert {script.stem for script in SCRIPTS} >= EXPECTED


@pytest.mark.parametrize("script", OF_FRAMEWORKS, ids=lambda script: script.stem)
def test_an_example_of_a_framework_runs_in_it(script: Path) -> None:
    """Such a program may warn: the frameworks' test clients do, in some versions."""
    framework = script.stem.partition("_")[0]
    assert framework in FRAMEWORKS
    pytest.importorskip(framework, reason=f"{framework} is not installed")
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 0, f"\n{ended.stdout}\n{ended.stderr}"
    assert len(script.read_text("utf-8").splitlines()) <= 60


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs_without_a_warning_and_shows_something(script: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    output = f"\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, output
    assert ended.stderr == "", output
    assert ended.stdout != ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_is_short_uses_public_names_and_checks_its_result(script: Path) -> None:
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 60
    assert "from oddjob" not in text
    assert "import oddjob." not in text
    assert "assert " in text
