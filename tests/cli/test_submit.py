"""Functions of a program, called by name: enqueue, and replay."""

import json
import re

import pytest

from oddjob import Pool
from oddjob.operations import StoreOperations
from tests.cli.conftest import Call, Run, environment
from tests.durable import jobs

WAIT = 10.0


def test_a_function_that_no_pool_decorates_goes_to_the_pool_that_is_named(
    url: str, run: Run
) -> None:
    args = ("enqueue", "tests.durable.jobs:note", "--pool", "mail")
    first = run(*args, '{"a": [1]}', "--priority", "3").stdout.strip()
    second = run(*args, "word", "--after", "1h").stdout.strip()
    third = run(*args, "5", "--at", "2100-01-01T00:00+00:00", "--json").stdout
    with StoreOperations(url) as store:
        assert store.record(first).arguments() == (({"a": [1]},), {})
        assert (store.record(first).priority, store.record(first).state) == (3, "queued")
        assert store.record(second).arguments() == (("word",), {})
        record = store.record(json.loads(third)["id"])
        assert (record.state, record.run_at.year if record.run_at else 0) == ("scheduled", 2100)


def test_a_unique_job_is_stored_once(pool: Pool, run: Run) -> None:
    args = ("enqueue", "tests.durable.jobs:note", "1", "--pool", "mail", "--unique")
    assert run(*args).stdout == run(*args).stdout
    assert pool.counts()["queued"] == 1


@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        (["tests.durable.jobs:note"], 2, "To which pool?"),
        (["tests.durable.jobs:lost", "--pool", "mail"], 1, "has no 'lost'"),
        (["tests.durable.jobs", "--pool", "mail"], 1, "module:function"),
        (["lost.module:fn", "--pool", "mail"], 1, "No module named 'lost'"),
        (["tests.durable.jobs:note", "[1", "--pool", "mail"], 2, "[1 is no JSON"),
        (["tests.durable.jobs:note", "--at", "2100-01-01", "--after", "1h"], 2, "either"),
        (["tests.durable.jobs:note", "--at", "2h", "--pool", "mail"], 2, "'2h' is no date"),
        (["tests.durable.jobs:note", "--after", "soon", "--pool", "mail"], 2, "--after must be"),
    ],
)
def test_what_cannot_be_queued_is_refused(
    args: list[str], exit_code: int, message: str, pool: Pool, run: Run
) -> None:
    assert message in run("enqueue", *args, exit_code=exit_code).stderr
    assert pool.counts()["queued"] == 0


def test_a_failed_job_is_run_here_and_stays_as_it_is(running: Pool, run: Run) -> None:
    job = running.submit(jobs.fail, "disk")
    job.exception(WAIT)
    result = run("replay", job.id, exit_code=1)
    assert "tests.durable.jobs:fail('disk',)" in result.stderr
    assert re.search(r"line \d+, in fail\n.*raise OSError\(message\)", result.stderr)
    assert "it has failed again" in result.stderr
    assert next(running.records()).attempt == 1
    jobs.runs.clear()
    done = running.submit(jobs.note, [1, "two"])
    done.result(WAIT)
    assert run("replay", done.id).stdout == "[1, 'two']\n"
    assert json.loads(run("replay", done.id, "--json").stdout) == {"result": [1, "two"]}
    assert jobs.runs.count([1, "two"]) == 3


def test_a_function_that_another_decorator_has_wrapped_is_called_with_it(
    running: Pool, run: Run
) -> None:
    """As the worker calls it."""
    done = running.submit(jobs.twice, 4)
    assert done.result(WAIT) == 8
    assert run("replay", done.id).stdout == "8\n"
    queued = run("enqueue", "tests.durable.jobs:twice", "5", "--pool", "mail").stdout.strip()
    assert running.find(queued).result(WAIT) == 10


def test_what_a_program_decorates_goes_to_its_pool(url: str, call: Call) -> None:
    """It is imported for that, and none of its jobs runs meanwhile."""
    job, said = call("enqueue", "tests.cli.shop:send", "ada", "2")
    assert said == "tests.cli.shop:send was submitted to pool mail.\n"
    _, said = call("enqueue", "tests.cli.shop:forget", exit_code=2)
    assert "To which pool?" in said
    _, said = call("enqueue", "tests.cli.shop:send", "x", "--store", "sqlite:///y", exit_code=2)
    assert f"goes to the store of its pool, {url}" in said
    with StoreOperations(url) as store:
        record = store.record(job.strip())
        assert (record.pool, record.state, record.name) == ("mail", "queued", "send")
        assert record.arguments() == (("ada", 2), {})


def test_the_store_of_a_program_is_found(url: str, call: Call) -> None:
    call("enqueue", "tests.cli.shop:send", "ada")
    only_the_program = environment(SHOP_STORE=url, ODDJOB_APP="tests.cli.shop:pool")
    out, _ = call("list", "--columns", "name", env=only_the_program)
    assert out.split() == ["NAME", "send"]
    out, _ = call("list", "--ids", "--app", "tests.cli.shop", env=environment(SHOP_STORE=url))
    assert out.strip()
