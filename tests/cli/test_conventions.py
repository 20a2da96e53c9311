"""What holds for every command: helps, exit codes, errors, passwords, and where options may be."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from oddjob import Pool
from oddjob.cli.command import Program, safe
from oddjob.cli.program import oddjob
from oddjob.operations.phrases import counted
from tests.cli.conftest import ROOT, Run, on_a_file
from tests.durable import jobs

HELP = Path(__file__).with_name("help.txt")
SECRET = "hunter2"


def commands(group: Program = oddjob, *before: str) -> list[tuple[str, ...]]:  # type: ignore[assignment]
    """Return the words of all commands, those of groups included."""
    found = [before]
    for name, each in sorted(group.commands.items()):
        inner = isinstance(each, Program)
        found += commands(each, *before, name) if inner else [(*before, name)]  # type: ignore[arg-type]
    return found


def helps() -> str:
    pages = []
    for words in commands():
        result = CliRunner().invoke(oddjob, [*words, "--help"], env={"COLUMNS": "80"})
        assert result.exit_code == 0, result.output
        pages.append(f"$ oddjob {' '.join([*words, '--help'])}\n{result.stdout}")
    return "\n".join(pages)


def test_the_helps_are_these_and_fit_80_columns() -> None:
    """Look at the difference; then `ODDJOB_WRITE_HELP=1` writes them anew."""
    if "ODDJOB_WRITE_HELP" in os.environ:
        HELP.write_text(helps(), "utf-8")
    assert max(map(len, helps().splitlines())) <= 80
    assert helps() == HELP.read_text("utf-8")


def test_a_number_agrees_with_what_it_counts() -> None:
    """As "1 job" does: whatever is counted for people is said by `counted`."""
    assert counted(1) == "1 job"
    assert counted(1000, "crash") == "1,000 crashes"
    assert counted(0, "process") == "0 processes"
    plurals = re.compile(
        r"\} (<[^>]*>)?([a-z]+ )?(jobs|attempts|processes|workers|threads|crashes|groups)\b"
    )
    found = [
        (path.name, *match)
        for folder in ("operations", "cli", "dashboard")
        for path in (ROOT / "oddjob" / folder).rglob("*.*")
        if path.suffix in (".py", ".html")
        for match in plurals.findall(path.read_text("utf-8"))
    ]
    assert found == []


def test_every_command_has_its_place_in_the_help() -> None:
    listed = [name for names in oddjob.sections.values() for name in names]
    assert sorted(listed) == sorted(oddjob.commands)
    out = CliRunner().invoke(oddjob, ["--help"]).stdout
    assert "..." not in out.partition("Run jobs")[2]  # no summary is cut


def test_options_may_stand_before_and_after_the_command(pool: Pool, url: str, run: Run) -> None:
    pool.perform(jobs.note, 1)
    ways = [["--json", "--store", url, "list"], ["list", "--json", "--store", url]]
    assert len({run(*args, store=None).stdout for args in ways}) == 1
    assert run("list", "--ids", store=None, env={"ODDJOB_STORE": url}).stdout
    elsewhere = {"ODDJOB_STORE": "sqlite:////nowhere/jobs.db"}
    assert run("list", "--ids", env=elsewhere).stdout  # what is said goes before


def test_the_url_may_be_in_a_file(pool: Pool, url: str, run: Run, tmp_path: Path) -> None:
    pool.perform(jobs.note, 1)
    (tmp_path / "url").write_text(f"{url}\n")
    assert run("list", "--ids", store=f"@{tmp_path}/url").stdout
    assert "cannot be read" in run("list", store=f"@{tmp_path}/none", exit_code=3).stderr


@on_a_file
def test_a_store_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    """A typing error must not leave an empty store, nor look like one."""
    assert "there is no store" in run("list", exit_code=3).stderr
    assert list(tmp_path.iterdir()) == []


@on_a_file
def test_a_file_that_is_no_store_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("something else, which is longer than a header " * 10)
    assert "is no SQLite database" in run("list", exit_code=3).stderr


@on_a_file
@pytest.mark.parametrize("args", [["list"], ["doctor"], ["migrate"], ["torture"], ["copy", "foo"]])
def test_a_store_that_is_no_url_is_wrong_usage(run: Run, url: str, args: list[str]) -> None:
    """With all forms that there are."""
    store = url if args[0] == "copy" else "foo"
    said = run(*args, store=store, exit_code=2).stderr
    assert 'is given as "sqlite:///jobs.db", "redis://localhost" or "memory:", not \'foo\'' in said


@on_a_file
def test_options_that_may_be_repeated_may_be_so_before_and_after_the_command(
    pool: Pool, url: str, read: Callable[..., Any]
) -> None:
    with Pool("post", store=url, consume=False) as other:
        for each in pool, other:
            each.perform(print)
        found = read("--pool", "mail", "list", "--pool", "post")
    assert {each["pool"] for each in found} == {"mail", "post"}


@on_a_file
def test_a_program_without_a_module_is_refused(pool: Pool, run: Run) -> None:
    assert "MODULE" in run("worker", ":pool", "--check", exit_code=1).stderr


def test_without_a_store_the_help_is_near(run: Run) -> None:
    result = run("list", store=None, exit_code=2, env={"ODDJOB_STORE": None})
    assert "Which store?" in result.stderr
    assert "ODDJOB_STORE" in result.stderr


@pytest.mark.parametrize(
    ("args", "exit_code", "code"),
    [
        (["show", "99"], 1, "failed"),
        (["list", "--state", "dead"], 2, "usage"),
        (["lost"], 2, "usage"),
        (["--lost"], 2, "usage"),
        (["list", "--store", "sqlite:////nowhere/jobs.db"], 3, "store"),
        (["list", "--store", "ftp://x"], 2, "usage"),
    ],
)
def test_errors_are_json_where_that_is_asked_for(
    args: list[str], exit_code: int, code: str, pool: Pool, run: Run
) -> None:
    result = run("--json", *args, exit_code=exit_code)
    error = json.loads(result.stderr)["error"]
    assert set(error) == {"code", "message"}
    assert error["code"] == code
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        "list --limit 0", "list --limit -1", "status --watch 0", "status --watch nan",
        "status --max-age -1", "status --max-waiting -1", "top --interval -1", "top --interval inf",
        "worker x --drain-timeout nan", "worker x --max-memory -5", "worker x --max-memory 0",
        "dashboard --port 65536",
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_wrong_usage(words: str, pool: Pool, run: Run) -> None:
    *_, option, _ = words.split()
    assert f"Invalid value for '{option}'" in run(*words.split(), exit_code=2).stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:hunter2@host/0 is away", "redis://user:***@host/0 is away"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("rediss://:hun@hunter2@host:1/0", "rediss://:***@host:1/0"),
        ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=***&db=1"),
        ("sqlite:///jobs.db at 10:30, mail@host", "sqlite:///jobs.db at 10:30, mail@host"),
        ('{"url":"redis://host","to":"ada@x"}', '{"url":"redis://host","to":"ada@x"}'),
    ],
)
def test_no_password_is_printed(text: str, shown: str) -> None:
    assert safe(text) == shown


@on_a_file
def test_no_password_of_the_store_is_printed_by_any_command(run: Run, tmp_path: Path) -> None:
    """Neither of a URL that is refused, nor of one whose server is away."""
    for url in (f"http://:{SECRET}@127.0.0.1:1/0", f"redis://:{SECRET}@127.0.0.1:1/0"):
        (tmp_path / "url").write_text(url)
        for words in [["list"], ["doctor"], ["--json", "status"], ["migrate"]]:
            result = CliRunner().invoke(oddjob, ["--store", f"@{tmp_path}/url", *words])
            assert result.exit_code in (1, 2, 3), result.output
            assert SECRET not in result.output


def test_a_password_in_the_error_of_a_job_is_not_printed(running: Pool, run: Run) -> None:
    job = running.submit(jobs.fail, f"cannot reach redis://:{SECRET}@host/0")
    job.exception(10)
    show = ["show", job.id, "--traceback"]
    for args in (["list"], ["list", "--json"], show, [*show, "--json"], ["why", job.id]):
        out = run(*args).output
        assert SECRET not in out
        assert "redis://:***@host/0" in out


def test_without_its_packages_the_command_says_what_to_install() -> None:
    program = "import sys; sys.modules['click'] = None; from oddjob.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "pip install 'oddjob[cli]'" in ended.stderr


def test_the_version_is_the_packages(run: Run) -> None:
    assert re.fullmatch(r"oddjob \d+\.\d+\.\d+\S*\n", run("--version", store=None).stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_to_complete_the_command(shell: str, run: Run) -> None:
    out = run("completion", shell, store=None).stdout
    assert "_ODDJOB_COMPLETE" in out
    answer = CliRunner().invoke(
        oddjob,
        env={"_ODDJOB_COMPLETE": "bash_complete", "COMP_WORDS": "oddjob sta", "COMP_CWORD": "1"},
        prog_name="oddjob",
    )
    assert answer.stdout == "plain,status\n"


def test_commands_are_of_one_kind() -> None:
    """So that each has the options that all have."""
    for words in commands():
        command: click.Command = oddjob
        for word in words:
            command = command.commands[word]  # type: ignore[attr-defined]
        assert {"--store", "--json", "--yes"} <= {
            name for each in command.params for name in each.opts
        }


def test_a_store_in_memory_is_no_store_for_a_command(run: Run) -> None:
    """It would end with the command, and jobs that were copied to it as well."""
    for command in (["status"], ["list"], ["copy", "memory:"]):
        store = None if "copy" not in command else "sqlite:///jobs.db"
        words = command if store else ["--store", "memory:", *command]
        said = run(*words, store=store, exit_code=2).stderr
        assert "A store in memory ends with its process" in said
