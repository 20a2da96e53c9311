"""The Makefile, for those who have just cloned the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("target", ["demo", "test"])
def test_an_interpreter_that_is_too_old_is_refused_at_once(target: str, tmp_path: Path) -> None:
    """Otherwise pip runs for minutes, in silence, before it says so."""
    old = tmp_path / "python3.10"
    pretend = "import sys; sys.version_info = (3, 10, 13); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{pretend}" "$2"\n')
    old.chmod(0o755)
    outcome = subprocess.run(
        ["make", target, f"PYTHON={old}", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert outcome.returncode != 0
    assert f"OddJob needs Python 3.11 or newer, and {old} is 3.10" in outcome.stderr
    assert outcome.stdout == ""
