"""Type checkers: the imaginary user's module passes mypy and pyright, and they find mistakes."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oddjob

ROOT = Path(oddjob.__file__).parents[1]
TYPING = Path(__file__).parents[1] / "typing"
API = TYPING / "api.py"
ERRORS = TYPING / "errors.py"

Problem = tuple[int, str, str]  # line, code, message
Problems = dict[str, list[Problem]]  # by file name

# What pyright does not look for, and what it knows better: `Self`.
MYPY_ALONE = {"func-returns-value", "assert-type"}


@pytest.fixture(scope="module")
def by_mypy(tmp_path_factory: pytest.TempPathFactory) -> Problems:
    """What ``mypy --strict`` says of both modules, without any configuration."""
    elsewhere = tmp_path_factory.mktemp("mypy")
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
        *("--show-absolute-path", "--hide-error-context", f"--cache-dir={elsewhere}"),
        *(str(API), str(ERRORS)),
    ]
    done = subprocess.run(
        command,
        cwd=elsewhere,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}, done.stdout
    found: Problems = {}
    for line in done.stdout.splitlines():
        read = re.fullmatch(r"(.+?):(\d+): (error|note): (.*?)(?:  \[([a-z-]+)\])?", line)
        assert read, line
        if read[3] == "error":
            found.setdefault(Path(read[1]).name, []).append((int(read[2]), read[5], read[4]))
    return found


@pytest.fixture(scope="module")
def by_pyright(tmp_path_factory: pytest.TempPathFactory) -> Problems:
    """What pyright says of both modules, in strict mode."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    elsewhere = tmp_path_factory.mktemp("pyright")
    for module in (API, ERRORS):
        (elsewhere / module.name).write_text(module.read_text("utf-8"), "utf-8")
    config = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (elsewhere / "pyrightconfig.json").write_text(json.dumps(config), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    if done.returncode not in {0, 1}:  # it is fetched from npm when first used
        pytest.skip(f"pyright cannot run: {done.stderr[-200:]}")
    found: Problems = {}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        problem: Any = (
            each["range"]["start"]["line"] + 1,
            each.get("rule", ""),
            each["message"],
        )
        if each["severity"] == "error":
            found.setdefault(Path(each["file"]).name, []).append(problem)
    return found


def promises() -> Iterator[tuple[str, range]]:
    """Yield the functions of the imaginary user's module, and the lines of each."""
    for node in ast.parse(API.read_text("utf-8")).body:
        is_promise = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_promise and not node.decorator_list and "_" in node.name:
            yield node.name, range(node.lineno, (node.end_lineno or 0) + 1)


def marked(*, ignored: set[str] = frozenset()) -> set[tuple[int, str]]:  # type: ignore[assignment]
    """Return line and code of every mistake that is to be found."""
    return {
        (number, code)
        for number, line in enumerate(ERRORS.read_text("utf-8").splitlines(), 1)
        if (mark := re.search(r"# error: ([a-z-]+(?:, [a-z-]+)*)$", line))
        for code in mark[1].split(", ")
        if code not in ignored
    }


PROMISES = dict(promises())


@pytest.mark.parametrize("promise", PROMISES)
def test_mypy_knows_that(promise: str, by_mypy: Problems) -> None:
    """A wrong promise is an error in correct code."""
    assert [each for each in by_mypy.get("api.py", ()) if each[0] in PROMISES[promise]] == []


@pytest.mark.parametrize("promise", PROMISES)
def test_pyright_knows_that(promise: str, by_pyright: Problems) -> None:
    """Half of all users see these types in their editor."""
    assert [each for each in by_pyright.get("api.py", ()) if each[0] in PROMISES[promise]] == []


@pytest.mark.parametrize("checker", ["by_mypy", "by_pyright"])
def test_a_type_checker_accepts_the_code_outside_of_functions(
    checker: str, request: pytest.FixtureRequest
) -> None:
    """Decorated functions and classes are at the top of people's modules."""
    problems: Problems = request.getfixturevalue(checker)
    inside = {line for lines in PROMISES.values() for line in lines}
    assert [each for each in problems.get("api.py", ()) if each[0] not in inside] == []
    assert len(PROMISES) >= 30


def test_mypy_finds_every_mistake_and_no_other(by_mypy: Problems) -> None:
    """A mistake that the checker finds is not found by a customer."""
    assert len(marked()) >= 60
    assert {problem[:2] for problem in by_mypy["errors.py"]} == marked()


def test_pyright_finds_every_mistake_and_no_other(by_pyright: Problems) -> None:
    """A mistake that the editor shows is not found by a customer."""
    expected = {line for line, _ in marked(ignored=MYPY_ALONE)}
    assert {problem[0] for problem in by_pyright["errors.py"]} == expected
