"""The README is the contract: every block of Python in it runs, and what it names is there.

Each block is a program of its own. One that goes on where the block before it ended says so with
the comment ``<!-- continues -->`` on the line above its fence, and shares that block's names.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

import oddjob
from oddjob.settings import PoolOptions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(<!-- continues -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEWEST = 10  # programs: with fewer, the pattern above misses some, or somebody has cut them out


class Program(NamedTuple):
    """Blocks that share their names, each moved down to the line at which it stands."""

    heading: str
    line: int
    blocks: list[str]


def programs(text: str) -> list[Program]:
    """The programs in a text, in order."""
    found: list[Program] = []
    for match in BLOCK.finditer(text):
        above = text[: match.start(2)]
        code = "\n" * above.count("\n") + match[2]
        if match[1]:
            found[-1].blocks.append(code)
        else:
            headings = re.findall(r"^#+ (.*)$", above, re.MULTILINE)
            found.append(Program(headings[-1], above.count("\n") + 1, [code]))
    return found


PROGRAMS = programs(README)


@pytest.mark.parametrize(
    "program", PROGRAMS, ids=lambda program: f"{program.heading}, line {program.line}"
)
def test_the_python_of_the_readme_runs(program):
    """Who would notice: the first person who pastes it."""
    names = {"__name__": "__main__"}
    try:
        for block in program.blocks:
            exec(compile(block, "README.md", "exec"), names)
    finally:
        assert oddjob.shutdown_all(10)


def test_no_block_of_python_is_missed():
    """Who would notice: nobody, were the test above to run on nothing."""
    assert len(PROGRAMS) >= FEWEST
    assert sum(len(program.blocks) for program in PROGRAMS) == README.count("```python")


def test_a_block_runs_alone_unless_it_is_marked_as_continuing():
    """Who would notice: a reader whose paste fails for want of a name from another section."""
    text = """# One
```python
first = 1
```
<!-- continues -->
```python
second = first
```
# Two
```python
third = 3
```
"""
    assert [(program.heading, len(program.blocks)) for program in programs(text)] == [
        ("One", 2),
        ("Two", 1),
    ]
    assert programs(text)[1].line == text.splitlines().index("third = 3") + 1


def test_the_makefile_has_every_target_that_the_readme_names():
    """Who would notice: a newcomer whose first command is `make demo`."""
    named = set(re.findall(r"`make (\w+)`", README))
    there = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "bench"} <= named <= there


@pytest.mark.parametrize("name", oddjob.__all__)
def test_the_readme_mentions_every_public_name(name):
    """Who would notice: whoever looks up a name that they found in somebody's code."""
    assert re.search(rf"\b{name}\b", README)


@pytest.mark.parametrize("option", PoolOptions._fields)
def test_the_settings_table_has_every_option_and_its_default(option):
    """Who would notice: whoever configures a pool from the table."""
    default = PoolOptions._field_defaults[option]
    row = re.search(rf"^\| `{option}` \| (.*?) \| (.*?) \|", README, re.MULTILINE)
    assert row is not None
    if default is not None and default != "":  # what these stand for is said in words
        shown = default.__name__ if isinstance(default, type) else repr(default)
        assert row[2] == f"`{shown}`"


def test_the_figures_have_their_place():
    """Who would notice: the script that writes the measured figures between these lines."""
    assert re.search(r"^<!-- figures -->\n(.*\n)*?<!-- /figures -->$", README, re.MULTILINE)


def test_every_test_that_is_named_exists() -> None:
    """A claim that no test shows is a defect; so is one whose test was renamed."""
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", README)
    assert len(named) > 10
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / file).read_text("utf-8"), f"{file} has no {name}"
