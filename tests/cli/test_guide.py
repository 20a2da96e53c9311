"""The guide "Operations" is true: each of its commands runs, in a process of its own."""

import re
import shlex
from pathlib import Path

from oddjob.cli.program import oddjob
from tests.cli.conftest import ROOT, Call, environment

GUIDE = (ROOT / "examples" / "guides" / "operations.md").read_text("utf-8")


def commands() -> list[tuple[list[str], int, list[str]]]:
    """Return the commands of the guide: their words, exit codes, and what is shown of them."""
    found: list[tuple[list[str], int, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ oddjob "):
                command, _, comment = line[2:].partition("  # exit code ")
                found.append((shlex.split(command)[1:], int(comment or 0), []))
            elif found and not line.startswith("$"):
                found[-1][2].append(line)
    return found


def test_every_command_of_the_guide_does_what_it_says(call: Call, tmp_path: Path) -> None:
    program = re.search(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert program is not None
    (tmp_path / "shop.py").write_text(program[1])
    store = re.search(r"export ODDJOB_STORE=(\S+)", GUIDE)
    assert store is not None
    for words, exit_code, shown in commands():
        out, said = call(*words, exit_code=exit_code, env=environment(store[1]), cwd=tmp_path)
        printed = [line.rstrip() for line in (out + said).splitlines()]
        for line in shown:
            assert line in printed, (words, printed)


def test_the_guide_has_every_command() -> None:
    assert {words[0] for words, _, _ in commands()} == set(oddjob.commands)
