"""The guide "Operations" is true: each of its commands runs, in a process of its own."""

import re
import shlex
import signal
from pathlib import Path
from urllib.request import urlopen

from oddjob.cli.program import oddjob
from tests.cli.conftest import ROOT, Call, environment, on_a_file, start

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


def address_of_dashboard(url: str, cwd: Path) -> str:
    """Start the dashboard on a port that is free; return what it says, with the usual port."""
    with start("dashboard", "--port", "0", url=url, cwd=cwd) as process:
        assert process.stderr is not None
        said = process.stderr.readline().rstrip()
        address = re.search(r"http://\S+", said)
        assert address is not None, said
        with urlopen(f"{address[0]}healthz", timeout=30) as answer:
            assert answer.read() == b"ok\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        return re.sub(r":\d+/", ":5678/", said)


@on_a_file
def test_every_command_of_the_guide_does_what_it_says(call: Call, tmp_path: Path) -> None:
    program = re.search(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert program is not None
    (tmp_path / "shop.py").write_text(program[1])
    store = re.search(r"export ODDJOB_STORE=(\S+)", GUIDE)
    assert store is not None
    for words, exit_code, shown in commands():
        if words == ["dashboard"]:  # which does not end by itself
            assert address_of_dashboard(store[1], tmp_path) in shown
            continue
        out, said = call(*words, exit_code=exit_code, env=environment(store[1]), cwd=tmp_path)
        printed = [line.rstrip() for line in (out + said).splitlines()]
        for line in shown:
            assert line in printed, (words, printed)


def test_the_guide_has_every_command() -> None:
    named = {words[0] for words, _, _ in commands()} | set(
        re.findall(r"^oddjob (\w+)", GUIDE, re.MULTILINE)
    )
    assert named == set(oddjob.commands)
