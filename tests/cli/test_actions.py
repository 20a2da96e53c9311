"""What changes jobs and pools: by ids, by filters, after a question, or not at all."""

import re
from collections.abc import Callable
from typing import Any

import pytest

import oddjob.cli.actions
from oddjob import Pool
from oddjob.operations import StoreOperations
from tests.cli.conftest import Run
from tests.durable import jobs
from tests.hang import until

WAIT = 10.0
Read = Callable[..., Any]


def states(pool: Pool) -> dict[str, int]:
    return {state: count for state, count in pool.counts().items() if count}


def fail(pool: Pool, *messages: str) -> list[str]:
    submitted = [pool.submit(jobs.fail, each) for each in messages]
    for job in submitted:
        job.exception(WAIT)
    pool.pause()  # what is queued again, stays so
    return [job.id for job in submitted]


def test_a_failed_job_is_queued_again(running: Pool, run: Run) -> None:
    (job,) = fail(running, "disk")
    assert run("retry", job).stderr == "1 job queued again.\n"
    assert states(running) == {"queued": 1}


def test_what_cannot_be_done_is_said_and_the_rest_is_done(running: Pool, run: Run) -> None:
    first, second = fail(running, "disk", "net")
    run("retry", first)
    result = run("retry", first, second, "999", "--yes", exit_code=1)
    assert "1 job queued again" in result.stderr
    assert "not queued again: 1 not found, 1 queued" in result.stderr
    assert states(running) == {"queued": 2}


def test_jobs_are_picked_by_what_they_are(running: Pool, run: Run) -> None:
    fail(running, "disk", "net")
    assert run("retry", "--all", "--error", "disk").stderr == "1 job queued again.\n"
    assert states(running) == {"queued": 1, "failed": 1}
    run("retry", "--all", "--error", "disk", exit_code=1)  # there is no such job any more


def test_all_means_those_in_a_state_that_the_command_is_for(pool: Pool, run: Run) -> None:
    pool.perform_many(jobs.note, range(3))
    pool.after(3600).perform(jobs.note, 1)
    run("cancel", "--all", "--state", "queued", "--yes")
    assert states(pool) == {"cancelled": 3, "scheduled": 1}
    run("retry", "--all", "--yes", exit_code=1)  # the failed ones are meant
    run("retry", "--all", "--state", "cancelled", "--yes")
    assert states(pool) == {"queued": 3, "scheduled": 1}
    run("delete", "--all", "--yes")
    assert states(pool) == {}


def test_a_running_job_is_asked_to_stop_and_not_deleted(running: Pool, run: Run) -> None:
    job = running.submit(jobs.stop_when_asked)
    until(lambda: job.state == "running")
    assert "not deleted: 1 running" in run("delete", job.id, exit_code=1).stderr
    waiting = running.after(3600).submit(jobs.note, 1)
    dry = run("cancel", "--all", "--dry-run").stderr
    assert dry == "1 job would be canceled, 1 running job would be asked to stop.\n"
    assert run("cancel", job.id).stderr == "1 running job asked to stop.\n"
    assert job.result(WAIT) == "cancel_requested: True"
    assert run("cancel", waiting.id).stderr == "1 job canceled.\n"


def test_a_dry_run_counts_and_changes_nothing(running: Pool, run: Run, read: Read) -> None:
    ids = fail(running, "disk", "net")
    before = states(running)
    for args in (["retry", *ids], ["retry", "--all"], ["delete", "--all"]):
        assert read(*args, "--dry-run") == {"count": 2, "dry_run": True, "asked_to_stop": 0}
    assert "would be deleted" in run("purge", "--older-than", "0s", "--dry-run").stderr
    assert states(running) == before


def test_many_jobs_are_not_changed_without_a_yes(
    running: Pool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(running, "disk", "net")
    refused = run("retry", "--all", exit_code=2)
    assert "2 jobs will be queued again. Give --yes if that is meant." in refused.stderr
    monkeypatch.setattr(oddjob.cli.actions, "can_answer", lambda: True)
    assert "Go on?" in run("retry", "--all", input="n\n", exit_code=1).stderr
    assert states(running) == {"failed": 2}
    run("retry", "--all", input="y\n")
    assert states(running) == {"queued": 2}


def test_jobs_of_several_pools_are_changed(pool: Pool, url: str, run: Run) -> None:
    with Pool("other", store=url, consume=False) as other:
        for number in range(450):
            (pool, other)[number % 2].perform(jobs.note, number) if number < 4 else None
        other.perform_many(jobs.note, range(300))
        assert run("cancel", "--all", "--yes").stderr == "304 jobs canceled.\n"
        assert states(other) == {"cancelled": 302}
        run("delete", "--all", "--pool", "other", "--yes")
        assert states(other) == {}
    assert states(pool) == {"cancelled": 2}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["retry"], "either ids"),
        (["retry", "1", "--all"], "either ids"),
        (["retry", "1", "--name", "x"], "either ids"),
        (["cancel", "--all", "--state", "failed"], "cancel is not for jobs that are failed"),
        (["purge", "--state", "queued"], "a queued job has not ended"),
        (["purge", "--older-than", "a while"], "older_than must be a time such as"),
        (["pause"], "Which pool?"),
    ],
)
def test_wrong_usage_changes_nothing(args: list[str], message: str, pool: Pool, run: Run) -> None:
    pool.perform(jobs.note, 1)
    assert message in run(*args, "--yes", exit_code=2).stderr
    assert states(pool) == {"queued": 1}


def test_old_records_are_purged_by_state_and_age(running: Pool, run: Run, read: Read) -> None:
    fail(running, "disk", "net")
    assert read("purge", "--yes") == {"count": 0, "dry_run": False, "asked_to_stop": 0}
    assert read("purge", "--state", "succeeded", "--older-than", "0s", "--yes")["count"] == 0
    assert read("purge", "--state", "failed", "--older-than", "0s", "--yes")["count"] == 2
    assert states(running) == {}


def test_a_pool_is_paused_and_resumed_in_all_processes(
    running: Pool, url: str, run: Run, read: Read
) -> None:
    running.submit(jobs.note, 1).result(WAIT)
    assert run("pause", "mail").stderr == "Pool mail is paused.\n"
    with StoreOperations(url) as store:
        assert store.pool("mail").is_paused
    assert re.search(r"mail \(paused\)", run("status").stdout)
    (found,) = read("resume", "mail")
    assert found == {"name": "mail", "is_paused": False, "pause_reason": ""}
    assert running.submit(jobs.note, 2).result(WAIT) == 2
    assert "no pool 'lost' in the store; there are: mail" in run(
        "pause", "lost", exit_code=1
    ).stderr  # fmt: skip


def test_the_reason_of_a_pause_is_shown_to_those_who_wonder(
    pool: Pool, url: str, run: Run, read: Read
) -> None:
    job = pool.submit(jobs.note, 1)
    run("pause", "mail", "--reason", " the mail\nserver is down")
    assert "Pool mail is paused: the mail server is down" in run("status").stdout
    assert read("status")["pools"][0]["pause_reason"] == "the mail server is down"
    assert "paused (the mail server is down)" in run("why", job.id).stdout
    assert "is paused (the mail server is down)" in run("doctor", exit_code=1).stdout
    run("resume", "mail")
    assert "mail server" not in run("status").stdout + run("why", job.id).stdout


def test_recurring_jobs_are_listed_run_paused_and_deleted(
    running: Pool, run: Run, read: Read
) -> None:
    running.options(name="nightly").every(86_400).perform(jobs.note, 7)
    (found,) = read("recurring", "list")
    assert set(found) == {
        *("name", "pool", "function", "rule", "is_paused", "next_run_at", "last_run_at"),
        "last_job",
    }
    assert (found["name"], found["rule"]) == ("nightly", "every 86400 s")
    assert "every 86400 s" in run("recurring", "list").stdout
    assert "every 86400 s" in run("recurring").stdout
    job = run("recurring", "run", "nightly").stdout.strip()
    assert running.find(job).result(WAIT) == 7
    run("recurring", "pause", "nightly")
    assert "paused" in run("recurring", "list").stdout
    run("recurring", "resume", "nightly")
    assert not read("recurring", "list")[0]["is_paused"]
    assert "there are: nightly" in run("recurring", "run", "weekly", exit_code=1).stderr
    run("recurring", "delete", "nightly")
    assert read("recurring", "list") == []


def test_a_cron_expression_is_explained_without_a_store(run: Run) -> None:
    out = run("recurring", "explain", "30 2 * * *", "--tz", "Europe/Berlin", store=None).stdout
    assert "clocks are set forward by 1:00:00" in out
    run("recurring", "explain", "99 * * * *", exit_code=2, store=None)
