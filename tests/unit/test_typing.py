"""What a type checker knows of us: the imaginary user's module passes, and mistakes are found."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import oddjob

TYPING = Path(__file__).parents[1] / "typing"
API = TYPING / "api.py"
ERRORS = TYPING / "errors.py"

Problem = tuple[int, str, str]  # line, mypy's code, message


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Problem]]:
    """What ``mypy --strict`` says of both modules, in a user's place: no configuration of ours."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
        *("--show-absolute-path", "--hide-error-context", f"--cache-dir={elsewhere}"),
        *(str(API), str(ERRORS)),
    ]
    done = subprocess.run(
        command,
        cwd=elsewhere,
        env={**os.environ, "MYPYPATH": str(Path(oddjob.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}, done.stdout
    found: dict[Path, list[Problem]] = {API: [], ERRORS: []}
    for line in done.stdout.splitlines():
        read = re.fullmatch(r"(.+?):(\d+): (error|note): (.*?)(?:  \[([a-z-]+)\])?", line)
        assert read, line
        if read[3] == "error":
            found.setdefault(Path(read[1]), []).append((int(read[2]), read[5], read[4]))
    return found


def promises() -> Iterator[tuple[str, range]]:
    """The functions of the imaginary user's module, and the lines of each."""
    for node in ast.parse(API.read_text("utf-8")).body:
        is_promise = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_promise and not node.decorator_list and "_" in node.name:
            yield node.name, range(node.lineno, (node.end_lineno or 0) + 1)


PROMISES = dict(promises())


@pytest.mark.parametrize("promise", PROMISES)
def test_a_type_checker_knows_that(promise: str, problems: dict[Path, list[Problem]]) -> None:
    """Who checks types sees a wrong promise as red lines in correct code."""
    assert [problem for problem in problems[API] if problem[0] in PROMISES[promise]] == []


def test_a_type_checker_accepts_what_stands_outside_of_functions(
    problems: dict[Path, list[Problem]],
) -> None:
    """Decorated functions and classes stand at the top of people's modules."""
    inside = {line for lines in PROMISES.values() for line in lines}
    assert [problem for problem in problems[API] if problem[0] not in inside] == []
    assert len(PROMISES) >= 30


def test_a_type_checker_finds_every_mistake_and_no_other(
    problems: dict[Path, list[Problem]],
) -> None:
    """A mistake that is found by the checker is not found by a customer."""
    expected = {
        (number, code)
        for number, line in enumerate(ERRORS.read_text("utf-8").splitlines(), 1)
        if (marked := re.search(r"# error: ([a-z-]+(?:, [a-z-]+)*)$", line))
        for code in marked[1].split(", ")
    }
    assert len(expected) >= 60
    assert {problem[:2] for problem in problems[ERRORS]} == expected
