"""What there is: status, list, show, why, top."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oddjob import Pool
from tests.cli.conftest import ROOT, Run, environment, on_a_file
from tests.durable import jobs
from tests.hang import until

WAIT = 10.0
Read = Callable[..., Any]

# What programs rely on. A key may be added; none may go, or mean something else.
OF_A_JOB = {
    *("id", "name", "pool", "state", "attempt", "max_attempts", "priority", "key", "run_at"),
    *("created_at", "started_at", "finished_at", "error", "progress"),
}
MORE_OF_A_JOB = {
    *("function", "crashes", "runner", "entry", "batch", "kind", "waited", "ran", "attempts"),
}
OF_AN_ATTEMPT = {"number", "started_at", "finished_at", "process", "traceback"}
OF_A_POOL = {
    *(
        "name",
        "is_paused",
        "pause_reason",
        "runners",
        "counts",
        "ended_last_minute",
        "oldest_waiting_at",
    ),
}
STATES = ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_the_json_of_jobs_has_these_keys(running: Pool, read: Read) -> None:
    running.options(retries=1, backoff=0.01).submit(jobs.fail, "disk").exception(WAIT)
    (job,) = read("list")
    assert set(job) == OF_A_JOB
    assert (job["name"], job["pool"], job["state"]) == ("fail", "mail", "failed")
    assert (job["attempt"], job["max_attempts"], job["priority"]) == (2, 2, 0)
    assert job["error"] == {"type": "OSError", "message": "disk"}
    assert all(RFC_3339.fullmatch(job[each]) for each in ("created_at", "finished_at"))
    assert (job["key"], job["run_at"], job["progress"]) == (None, None, None)
    (details,) = read("show", job["id"])
    assert set(details) == OF_A_JOB | MORE_OF_A_JOB
    assert isinstance(details["waited"], float)
    first, _second = details["attempts"]
    assert set(first) == OF_AN_ATTEMPT
    assert "raise OSError(message)" in first["traceback"]


def test_the_json_of_status_has_these_keys(pool: Pool, read: Read) -> None:
    pool.perform(jobs.note, 1)
    found = read("status")
    assert set(found) == {"pools", "runners"}
    (of_pool,) = found["pools"]
    assert set(of_pool) == OF_A_POOL
    assert list(of_pool["counts"]) == STATES
    assert of_pool["counts"]["queued"] == 1
    assert RFC_3339.fullmatch(of_pool["oldest_waiting_at"])


def test_a_job_in_progress_says_how_far_it_is(running: Pool, read: Read, run: Run) -> None:
    running.perform(jobs.report_often, 2)
    until(lambda: read("list")[0]["progress"] == {"done": 2, "total": 2, "note": None})
    assert "2/2 (100%)" in run("top", "--once").stdout


def test_jobs_are_listed_by_what_they_are(pool: Pool, run: Run) -> None:
    pool.options(name="first", key="k").perform(jobs.note, 1)
    pool.options(name="second").after(3600).perform(jobs.note, 2)
    pool.options(name="third", priority=7).perform(jobs.note, 3)

    def names(*args: str) -> list[str]:
        return [job["name"] for job in json.loads(run("list", *args, "--json").stdout)]

    assert names() == ["third", "second", "first"]
    assert names("--state", "scheduled") == ["second"]
    assert names("--state", "scheduled,queued") == ["third", "second", "first"]
    assert names("--name", "first") == names("--key", "k") == ["first"]
    assert names("--since", "1h") == names("--until", "2100-01-01") == names()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert names("--since", tomorrow.isoformat()) == names("--error", "none") == []
    assert names("--limit", "1") == ["third"]
    assert names("--sort", "name", "--limit", "2") == ["first", "second"]
    assert names("--sort", "priority", "--limit", "1") == ["third"]
    assert names("--pool", "mail", "--all") == names()


def test_jobs_of_all_pools_are_listed_in_one_order(pool: Pool, url: str, run: Run) -> None:
    with Pool("other", store=url, consume=False) as other:
        for number, each in enumerate([pool, other, pool, other]):
            each.options(name=f"n{number}").perform(jobs.note, number)
    out = run("list", "--columns", "name,pool").stdout.split()
    assert out == ["NAME", "POOL", "n3", "other", "n2", "mail", "n1", "other", "n0", "mail"]
    assert run("list", "--pool", "other", "--columns", "name").stdout.split()[1:] == ["n3", "n1"]


def test_keys_of_any_kind_can_be_asked_for(pool: Pool, run: Run) -> None:
    for each in ("k", ("customer", 7), 7, "7"):
        pool.options(key=each, name=repr(each)).perform(jobs.note, 1)
    for text, name in (("k", "'k'"), ("('customer', 7)", "('customer', 7)"), ("=7", "7")):
        found = json.loads(run("list", "--key", text, "--json").stdout)
        assert [job["name"] for job in found] == [name]
    assert "('customer', 7)" in run("list", "--columns", "key").stdout


def test_ids_alone_are_printed_for_other_commands(pool: Pool, run: Run) -> None:
    ids = [pool.submit(jobs.note, n).id for n in range(3)]
    assert run("list", "--ids").stdout.split() == ids[::-1]
    assert run("cancel", "-", "--yes", input=run("list", "--ids").stdout).exit_code == 0
    assert pool.counts()["cancelled"] == 3


@on_a_file
def test_a_table_in_a_pipe_is_whole_and_in_a_terminal_fits(pool: Pool, url: str, run: Run) -> None:
    pool.options(name="n" * 300).perform(jobs.note, 1)
    assert "n" * 300 in run("list", env={"COLUMNS": "80"}).stdout
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "oddjob", "list"]
    with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123
        how = {"TERM": "xterm", "COLUMNS": "80"}
        subprocess.run(command, stdout=theirs, env=environment(url) | how, cwd=ROOT, check=True)
        os.close(theirs)
        shown = terminal.read(10_000).decode()
    assert "\x1b[33mqueued" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, plain)) <= 80
    assert "nnn…" in shown


def test_show_has_everything_and_what_is_asked_for(running: Pool, run: Run) -> None:
    job = running.options(key="k", name="mine").submit(jobs.fail, "disk")
    job.exception(WAIT)
    out = run("show", job.id).stdout
    for word in ("mine", "tests.durable.jobs:fail", "OSError: disk", "failed", "key", "ago)"):
        assert word in out
    assert "Traceback" not in out
    assert "arguments" not in out
    assert "raise OSError(message)" in run("show", job.id, "--traceback").stdout
    assert "['disk']" in run("show", job.id, "--arguments").stdout
    run("show", "12345", exit_code=1)


@on_a_file
def test_arguments_that_cannot_be_read_do_no_harm(pool: Pool, run: Run) -> None:
    job = pool.submit(jobs.note, jobs.Unreadable())
    assert "cannot be read: RuntimeError" in run("show", job.id, "--arguments").stdout
    run("list")


def test_why_says_what_a_job_waits_for(pool: Pool, run: Run) -> None:
    job = pool.submit(jobs.note, 1)
    assert "no process runs jobs of pool 'mail'" in run("why", job.id).stdout
    run("pause", "mail")
    assert "pool 'mail' is paused" in run("why", job.id).stdout
    later = pool.after(3600).submit(jobs.note, 1)
    assert re.search("it is due in (1 h|59 min)", run("why", later.id).stdout)


def test_why_names_the_job_with_the_same_key(running: Pool, run: Run, read: Read) -> None:
    view = running.options(key="k")
    first, second = view.submit(jobs.hang), view.submit(jobs.note, 1)
    until(lambda: first.state == "running")
    assert f"it waits for job {first.id}, which has the same key" in run("why", second.id).stdout
    found = read("why", first.id)
    assert set(found) == {"id", "state", "reasons"}
    assert "runs it" in found["reasons"][0]


def test_why_names_limits_and_functions_that_nobody_knows(
    running: Pool, url: str, run: Run
) -> None:
    view = running.options(max_concurrency=1)
    first, second = view.submit(jobs.hang), view.submit(jobs.note, 1)
    until(lambda: first.state == "running")
    assert "its limit is used up (max_concurrency=1): 1 of 1 run" in run("why", second.id).stdout
    out = run("list", "--name", "note", "--columns", "function").stdout
    assert "tests.durable.jobs:note" in out


def test_why_says_how_a_job_has_ended(running: Pool, run: Run) -> None:
    job = running.submit(jobs.fail, "disk")
    job.exception(WAIT)
    out = run("why", job.id).stdout
    assert "it failed after 1 attempt" in out
    assert f"oddjob retry {job.id}" in out


def test_why_names_the_jobs_of_a_chain_that_have_failed(running: Pool, run: Run) -> None:
    """And not those that did not run because of them."""
    chain = running.chain(running.s(jobs.note, "disk"), jobs.fail, jobs.note)
    chain.job.exception(WAIT)
    out = run("why", chain.id).stdout
    assert "it failed\n" in out
    assert out.count("failed: ") == 1
    assert f"job {chain.jobs[1].id} (fail) failed: OSError: disk" in out


def test_a_probe_fails_when_too_many_wait_or_for_too_long(pool: Pool, run: Run) -> None:
    run("status", "--check", "--max-waiting", "5", "--max-age", "60")
    pool.perform_many(jobs.note, range(6))
    result = run("status", "--check", "--quiet", exit_code=1)
    assert "6 jobs waiting, and no process runs any" in result.stderr
    assert result.stdout == ""
    assert "more than 5" in run("status", "--check", "--max-waiting", "5", exit_code=1).stderr
    assert "over 0 s" in run("status", "--check", "--max-age", "0", exit_code=1).stderr
    assert "more than 5" in run("status", "--max-waiting", "5", exit_code=1).stderr
    assert "top --json" in run("status", "--watch", "1", "--json", exit_code=2).stderr


def test_top_prints_a_line_of_json_for_each_look(running: Pool, run: Run) -> None:
    running.submit(jobs.note, 1).result(WAIT)
    running.submit(jobs.fail, "disk").exception(WAIT)
    running.perform(jobs.hang)
    until(lambda: running.counts()["running"] == 1)
    (line,) = run("top", "--once", "--json").stdout.splitlines()
    found = json.loads(line)
    (of_pool,) = found["pools"]
    assert of_pool["ended_last_minute"] == {"succeeded": 1, "failed": 1, "cancelled": 0}
    assert [job["name"] for job in found["longest"]] == ["hang"]
    assert set(found["longest"][0]) == OF_A_JOB


def test_what_jobs_are_called_cannot_take_over_a_terminal(running: Pool, run: Run) -> None:
    """Names and messages come from anybody: no control characters, no markup."""
    evil = "\x1b]0;title\x07\x9b2J[bold red]x[/]\r\u202e"
    job = running.options(name=evil).submit(jobs.fail, evil)
    job.exception(WAIT)
    show = ["show", job.id, "--traceback"]
    for args in (["list"], ["list", "--json"], show, [*show, "--json"], ["why", job.id]):
        out = run(*args, "--color", "never").stdout
        assert not set(out) & set("\x1b\x9b\x07\r\u202e")
        assert "[bold red]x[/]" in out


def test_states_have_colors_unless_that_is_not_wanted(pool: Pool, run: Run) -> None:
    pool.perform(jobs.note, 1)
    assert "\x1b[" not in run("list").stdout  # it is no terminal
    assert "\x1b[33mqueued" in run("list", "--color", "always").stdout
    assert "\x1b[" not in run("list", env={"NO_COLOR": "1", "FORCE_COLOR": "1"}).stdout
    assert "\x1b[" not in run("list", "--color", "never", env={"FORCE_COLOR": "1"}).stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["list", "--state", "dead"], "'dead' is none of scheduled, queued"),
        (["list", "--columns", "id,size"], "there is no 'size'"),
        (["list", "--since", "2 parsecs"], 'neither a time such as "2h" or "7d", nor a date'),
        (["show"], "Missing argument"),
        (["lost"], "No such command"),
    ],
)
def test_wrong_usage_is_explained(args: list[str], message: str, pool: Pool, run: Run) -> None:
    assert message in run(*args, exit_code=2).stderr


def test_a_chain_is_shown_with_its_links_and_retried_whole(
    running: Pool, read: Read, run: Run
) -> None:
    """By the id of the chain; each link says of which chain it is."""
    chain = running.chain(running.s(jobs.fail, "disk"), running.s(jobs.note))
    with pytest.raises(OSError, match="disk"):
        chain.result(WAIT)
    (whole,) = read("show", chain.id)
    assert (whole["kind"], whole["state"]) == ("chain", "failed")
    assert whole["progress"] == {"done": 2, "total": 2, "note": None}
    (link,) = read("show", chain.jobs[0].id)
    assert (link["kind"], link["batch"]) == ("job", chain.id)
    shown = run("show", chain.id).stdout
    assert all(each.id in shown for each in chain.jobs)
    assert "PredecessorFailed" in shown
    run("retry", chain.id, "--yes")
    running.find(chain.id).exception(WAIT)
    assert [each.state for each in running.records(name="note")] == ["failed"]
    run("delete", chain.id, "--yes")
    assert list(running.records()) == []


@on_a_file
def test_a_look_without_an_end_has_no_exit_code_for_a_probe(pool: Pool, run: Run) -> None:
    for option in (["--check"], ["--max-age", "5"]):
        assert "--watch" in run("status", "--watch", "1", *option, exit_code=2).stderr


@on_a_file
def test_the_last_line_of_an_error_with_line_breaks_at_its_end_is_shown(
    running: Pool, run: Run
) -> None:
    job = running.submit(jobs.fail, "disk\n\n")
    job.exception(WAIT)
    (attempt,) = re.findall(r"^ +1 .*", run("show", job.id).stdout, re.MULTILINE)
    assert attempt.endswith("OSError: disk")
