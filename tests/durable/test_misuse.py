"""What cannot work is refused, with what was wrong, what is expected, and what to do."""

import functools
import operator
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import oddjob
from oddjob import Pool, PoolClosed, PoolNameTaken, StoreUnusable
from oddjob.durable.operation import Operation
from oddjob.durable.record import Partition, Record, Submit
from tests.durable import jobs
from tests.durable.conftest import WAIT


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    with Pool("work", 2, store=url) as pool:
        yield pool


def record_of(pool: Pool, job_id: object) -> Record:
    record = pool._core.store.open().call(lambda store: store.reader.record(int(str(job_id))))
    assert isinstance(record, Record)
    return record


def stored(pool: Pool, function: str, payload: bytes) -> Record:
    """Return what becomes of a job that another program has stored."""
    partition = Partition("work", function)
    (submitted,) = pool._core.store.open().submit([Submit(partition, payload, wants_outcome=False)])
    pool.find(submitted.id).exception(WAIT)
    return record_of(pool, submitted.id)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("redis://localhost/0?prefx=a", "unknown option prefx of redis://localhost:6379/0"),
        ("redis://localhost/jobs", "a database is a number"),
        ("redis://localhost:none", "no number from 0 to 65535"),
        ("redis://one,two:6380/0", r"redis://one:6379,two:6380/0.*redis\+sentinel://"),
        ("redis+sentinel://one,two/0", r"as in redis\+sentinel://one:26379,two:26379/mymaster/0"),
        (
            "redis+sentinel://me:secret@one/main/jobs",
            "redis.sentinel://one:26379/main/jobs.*number",
        ),
        ("redis+cluster://one/?prefix=", "redis.cluster://one:6379/0.*a prefix has some text"),
        ("redis+proxy://me:secret@one/0", "a store is given as .*, not 'redis.proxy://…@one/0'"),
        ("redis://one/0?ssl_cert_reqs=none", "unknown option ssl_cert_reqs of redis://one:6379/0"),
        ("redis://one/0?sentinel_pasword=x", "unknown option sentinel_pasword of"),
        ("postgres://localhost/jobs", 'store must be a URL such as "sqlite:///jobs.db"'),
        ("redys://me:secret@localhost/0", "not 'redys://…@localhost/0'"),
        ("jobs.db", 'store must be a URL such as "sqlite:///jobs.db"'),
        ("sqlite:///:memory:", 'a store in memory is given as "memory:"'),
        ("sqlite://jobs.db", 'a SQLite file is given as "sqlite:///jobs.db"'),
        ("sqlite:/jobs.db", 'or, by its whole path, as "sqlite:////var/jobs.db"'),
        ("sqlite:jobs.db", 'or, by its whole path, as "sqlite:////var/jobs.db"'),
        ("redis+proxy://localhost", '"sqlite:///jobs.db", "redis://localhost" or "memory:"'),
        ("redis://one/0?min_replicas=-1", "min_replicas is a whole number, 0 or more, not '-1'"),
        ("redis://one/0#shop", "redis://one:6379/0.*: write # as %23"),
        ("sqlite:///jobs.db?durabilty=full", "unknown option durabilty=full in .* known are"),
        ("sqlite:///jobs.db?durability=some", "unknown option durability=some in .* known are"),
    ],
)
def test_a_store_that_is_not_one(store: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Pool("work", store=store)


def test_two_pools_of_one_name(pool: Pool, url: str) -> None:
    """They would be one pool to other processes, and two here."""
    with pytest.raises(PoolNameTaken, match="there is a live pool 'work'"):
        Pool("work", 2, store=url)


def test_two_urls_of_one_store_with_other_options(pool: Pool, url: str) -> None:
    with pytest.raises(ValueError, match=r"jobs\.db with durability=full, not normal$"):
        Pool("other", store=f"{url}?durability=normal")


def test_two_urls_of_one_server_with_other_options(redis_url: str) -> None:
    """What differs is named; its value may be secret."""
    other = redis_url.replace("//", "//me:verysecret@")
    with Pool("work", 1, store=redis_url):
        said = "with another min_replicas than this URL$"
        with pytest.raises(ValueError, match=said):
            Pool("other", store=f"{redis_url}?min_replicas=1")
        said = "with another accept_eviction and another user or password than this URL$"
        with pytest.raises(ValueError, match=said):
            Pool("other", store=f"{other}?accept_eviction=1")
        with pytest.raises(ValueError, match="unknown option min_replica of"):
            Pool("other", store=f"{redis_url}?min_replica=1")


def test_the_name_of_a_file_may_have_a_number_sign(tmp_path: Path) -> None:
    with Pool("work", 1, store=f"sqlite:///{tmp_path}/jobs#1.db?durability=normal") as pool:
        assert pool.submit(len, "four").result(10) == 4
    assert (tmp_path / "jobs#1.db").exists()


def test_a_pool_without_a_name() -> None:
    with pytest.raises(TypeError, match="needs a name, by which other processes find it"):
        Pool(store="memory:")


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="does its directory exist"):
        Pool("work", store=f"sqlite:///{tmp_path}/missing/jobs.db")


def test_a_directory_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match=f"^{tmp_path} is a directory: give the path of a fil"):
        Pool("work", store=f"sqlite:///{tmp_path}")
    assert not Path(f"{tmp_path}-oddjob").exists()


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("dear diary" * 100)
    before = text.read_bytes()
    with pytest.raises(StoreUnusable, match="is no SQLite database"):
        Pool("work", store=f"sqlite:///{text}")
    assert text.read_bytes() == before
    assert [*tmp_path.iterdir()] == [text]


def test_the_name_of_a_pool_whose_store_could_not_be_opened_is_free(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnusable):
            Pool("work", store=f"sqlite:///{tmp_path}/missing/jobs.db")
    Pool("work").shutdown()


def test_configure_with_a_store_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    with Pool("before", 2) as before:
        for _ in range(2):
            with pytest.raises(StoreUnusable):
                oddjob.configure(store=f"sqlite:///{tmp_path}/missing/jobs.db")
        assert oddjob.pools() == {"before": before}
        assert before.submit(abs, -1).result(10) == 1
        oddjob.configure(extra_pools=["after"])
    oddjob.shutdown_all()


@pytest.mark.parametrize("keys", [bytearray(32), memoryview(bytes(32)), [32], 32, [None]])
def test_signing_keys_are_texts_or_bytes(keys: Any) -> None:
    with pytest.raises(TypeError, match="signing_keys must be a key, or a list of keys"):
        Pool("work", store="memory:", signing_keys=keys)


class Thing:
    def method(self) -> None: ...


def outer() -> Callable[[], object]:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: 1, "a lambda cannot be stored, .*: give it a name, with def"),
        (outer(), "outer.<locals>.inner, inside another function, cannot .*: define it at the top"),
        (Thing().method, "Thing.method, bound to an object, cannot .* with the object as an arg"),
        ("text".upper, "str.upper, bound to an object, cannot be stored"),
        (functools.partial(str, 1), "a partial of str cannot .*: submit str itself, with all its"),
        (operator.itemgetter(1), "a callable of class itemgetter cannot be stored"),
    ],
)
def test_a_function_that_is_refused_is_named_with_what_to_do(
    pool: Pool, function: Any, said: str
) -> None:
    with pytest.raises(TypeError, match=f"^{said}.*Or keep the job in memory, with persist=False$"):
        pool.submit(function)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"priority": 2**63},
            "priority must fit in 64 bits, between .* in a pool with this store, not 9223",
        ),
        ({"max_concurrency": 2**70}, "max_concurrency must fit in 64 bits"),
        ({"rate": oddjob.Rate(2**70)}, "the limit of rate must fit in 64 bits"),
        ({"key_limit": 2**70}, "key_limit must fit in 64 bits"),
        ({"key": "\ud800"}, r"key must be text that UTF-8 can encode .* not '\\ud800'"),
        ({"unique": "\ud800"}, "unique must be text that UTF-8 can encode"),
    ],
)
def test_an_option_that_no_store_can_keep_is_refused(
    pool: Pool, options: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        pool.options(**options).submit(jobs.note, 1)
    in_memory: Any = {**options, "unique": False, "persist": False}
    assert pool.options(**in_memory).submit(abs, -1).result(WAIT) == 1
    assert caplog.records == []


def test_redis_refuses_priorities_that_it_cannot_compare(redis_url: str) -> None:
    """Larger ones would be equal to each other, such as milliseconds since the epoch."""
    with Pool("work", 1, store=redis_url) as pool:
        with pytest.raises(
            ValueError, match=r"^priority must fit in 32 bits, between -2\*\*31 and"
        ):
            pool.options(priority=2**31).submit(jobs.note, 1)
        pool.pause()
        jobs.runs.clear()
        for priority in (-(2**31) + 1, 2**31 - 2, 2**31 - 1):
            pool.options(priority=priority).perform(jobs.note, priority)
        pool.resume()
    assert jobs.runs == [2**31 - 1, 2**31 - 2, -(2**31) + 1]


def test_the_name_of_a_pool_that_no_store_can_keep(pool: Pool, url: str) -> None:
    with pytest.raises(ValueError, match=r"^a pool's name must be text that UTF-8 .*"):
        Pool("\ud800", store=url)
    assert pool.submit(abs, -1).result(WAIT) == 1


def test_what_a_store_cannot_keep_fails_none_of_what_is_stored_with_it(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever that is: three submits come at once, and one of them raises."""
    partition = Partition("work", "builtins:abs")
    good = Submit(partition, pickle.dumps(((-1,), {})))
    bad = Submit(partition, b"", priority=2**70)
    operations = [Operation([each]) for each in (good, bad, good)]
    runner = pool._core.store.open()
    runner.call(lambda _store: runner._submits.extend(operations))
    with pytest.raises(OverflowError):
        operations[1].wait()
    for operation in operations[::2]:
        assert pool.find(operation.wait()[0].id).result(WAIT) == 1
    assert pool.submit(abs, -1).result(WAIT) == 1
    assert caplog.records == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (object(), r"<object object at 0x\w+> cannot be a key in a pool with a store"),
        (("a", object()), r"<object object at 0x\w+> cannot be a key"),
        (lambda *_: abs.__call__, r"<method-wrapper .* at 0x\w+> cannot be a key"),
    ],
)
def test_a_key_that_no_other_process_can_have(pool: Pool, key: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        pool.options(key=key).submit(jobs.note, 1)


@pytest.mark.parametrize(("verb", "seconds"), [("after", 1e12), ("every", 1e15)])
def test_a_time_after_all_dates_is_refused(pool: Pool, verb: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"^{verb} .* s is too far: .* until the year 9999"):
        getattr(pool, verb)(seconds).perform(jobs.note, 1)
    assert list(pool.records()) == pool.recurring() == []


def test_a_stored_time_after_all_dates_is_shown_as_the_last_one(pool: Pool) -> None:
    """The delay of a retry may lead to it."""
    submit = Submit(Partition("work", "builtins:abs"), b"", delay=1e12)
    pool._core.store.open().submit([submit])
    assert [str(record.run_at)[:4] for record in pool.records()] == ["9999"]


@pytest.mark.parametrize("function", [None, "module:function"])
def test_what_is_no_function(pool: Pool, function: Any) -> None:
    with pytest.raises(TypeError, match=f"^{function!r} is not callable$"):
        pool.submit(function)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retry_on", lambda _error: True),
        ("no_retry_on", type("Local", (Exception,), {})),
    ],
)
def test_a_predicate_that_other_processes_cannot_find(pool: Pool, option: str, value: Any) -> None:
    """The function's own is found with the function."""
    with pytest.raises(TypeError, match=f"^{option}, .* top level of a module .*cannot be stored"):
        pool.options(retries=1, **{option: value}).submit(jobs.note, 1)
    assert pool.job(retries=1, **{option: value})(jobs.greet).submit("A").result(WAIT) == "A."


def test_a_job_is_found_by_itself_and_by_nothing_else(pool: Pool) -> None:
    job = pool.submit(jobs.greet, "Ann")
    assert pool.find(job).result(WAIT) == "Ann."
    for wrong in None, [job.id], b"1":
        with pytest.raises(TypeError, match=r"^find\(\) takes the id of a job, not "):
            pool.find(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["name", "error"])
def test_records_of_what_is_no_name(pool: Pool, option: str) -> None:
    with pytest.raises(TypeError, match=f"^{option} must be a string, not <function greet"):
        pool.records(**{option: jobs.greet})  # type: ignore[arg-type]


def test_records_of_several_states_are_in_order(any_url: str) -> None:
    with Pool("work", 2, store=any_url) as pool:
        calls = [(abs, -1), (jobs.fail, "no")] * 6
        submitted = [pool.options(retries=0).submit(fn, value) for fn, value in calls]
        assert [each.exception(WAIT) is None for each in submitted] == [True, False] * 6
        found = pool.records(state=["failed", "succeeded"], limit=11)
        assert [each.id for each in found] == [each.id for each in submitted[:0:-1]]
        assert list(pool.records(state=[])) == []
        with pytest.raises(ValueError, match=r"state must be one of 'scheduled', .* not 'done'"):
            pool.records(state=["failed", "done"])  # type: ignore[list-item]


@pytest.mark.parametrize("function", [lambda: 1, outer(), Thing().method, threading.Lock().acquire])
def test_functions_that_other_processes_cannot_find(pool: Pool, function: Any) -> None:
    """They may run without the store."""
    with pytest.raises(TypeError, match=r"at the top level of a module.*, with persist=False"):
        pool.submit(function)
    assert pool.queue() == []
    pool.options(persist=False).submit(function).exception(WAIT)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("consume", False),
        ("keep_succeeded", 0),
        ("keep_failed", "1 day"),
        ("keep_bytes", "1 GB"),
        ("unknown_after", 60),
    ],
)
def test_an_option_for_stores_is_refused_in_a_pool_without(option: str, value: Any) -> None:
    """It would be ignored; `store=False` says that this is meant."""
    said = f"{option}={value!r} has no effect in a pool without a store: give store="
    with pytest.raises(TypeError, match=f"^{re.escape(said)}"):
        Pool("plain", **{option: value})
    with pytest.raises(oddjob.SettingsError, match=re.escape(said)):
        oddjob.configure({"extra_pools": {"plain": {option: value}}})
    Pool("plain", store=False, **{option: value}).shutdown()


def test_unique_jobs_need_a_store() -> None:
    """But a test may run the same functions without one."""
    with Pool("plain") as plain, pytest.raises(TypeError, match=r"^unique=True needs a store"):
        plain.job(unique=True)(jobs.note)
    with Pool("plain", store=False) as plain:
        function = plain.job(unique=True)(jobs.greet)
        assert function.submit("Ann").result(WAIT) == "Ann."
        assert function.options(unique=False, persist=False).submit("Bob").result(WAIT) == "Bob."


def test_a_job_that_is_not_stored_is_not_unique(pool: Pool) -> None:
    with pytest.raises(TypeError, match="unique=True has no effect with persist=False"):
        pool.options(unique=True, persist=False)


def test_a_unique_key_that_is_the_name_of_a_parameter(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"did you mean unique=lambda name, mark='.': name\?"):
        pool.job(unique="name")(jobs.greet)


def test_arguments_of_many_megabytes(pool: Pool) -> None:
    assert len(pool.submit(jobs.note, b"x" * 20_000_000).result(WAIT)) == 20_000_000
    jobs.runs.clear()


def test_what_is_too_large_for_a_store_is_refused_where_it_is_submitted(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oddjob.durable.codec._MOST_BYTES", 50_000)
    with pytest.raises(oddjob.PayloadError, match=r"cannot be stored: 60,.* bytes, of at most"):
        pool.submit(len, b"x" * 60_000)
    assert pool.counts()["queued"] == 0


def test_a_closed_pool(pool: Pool) -> None:
    pool.shutdown()
    for submit in pool.submit, pool.perform:
        with pytest.raises(PoolClosed, match="cannot schedule new futures after shutdown"):
            submit(jobs.note, 1)


def test_a_payload_that_cannot_be_read_fails_its_job_and_is_kept(pool: Pool) -> None:
    """The worker lives (fault 30)."""
    record = stored(pool, "tests.durable.jobs:note", b"garbage")
    assert record.payload == b"garbage"
    assert str(record.error).startswith("PayloadError: its arguments cannot be read: ")
    assert pool.submit(jobs.note, 1).result(WAIT) == 1


def test_a_call_that_does_not_fit_the_function_any_more_fails_its_job(pool: Pool) -> None:
    with pytest.raises(TypeError, match="takes 1 positional argument but 3 were given"):
        pool.submit(jobs.note, 1, 2, 3).result(WAIT)


class Awkward(Exception):
    """It cannot be made from what it was pickled as, nor shown."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Ghost(Exception):
    """It is something else once it has been stored."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, ("not an exception",))


def raise_unstorable() -> None:
    raise ValueError(threading.Lock())


def raise_awkward() -> None:
    raise Awkward(1, 2)


def raise_ghost() -> None:
    raise Ghost("boo")


class Quitter:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exit_when_read, ())


def exit_when_read() -> None:
    if threading.current_thread().name.startswith("oddjob-callbacks"):
        raise SystemExit


def return_quitter() -> Quitter:
    return Quitter()


def test_exceptions_and_results_that_cannot_be_stored(pool: Pool) -> None:
    """The record says what they were, and those who wait hear of an end."""
    for function, kind in (raise_awkward, Awkward), (raise_ghost, Ghost):
        job = pool.submit(function)
        assert isinstance(job.exception(WAIT), kind)
        assert str(record_of(pool, job.id).error).startswith(kind.__name__)
    error = pool.submit(raise_unstorable).exception(WAIT)
    assert isinstance(error, oddjob.PayloadError)
    assert re.match(r"a failure that cannot be stored: ValueError: .*\(.*cannot pickle", str(error))
    assert isinstance(pool.submit(return_quitter).exception(WAIT), SystemExit)
    assert pool.submit(jobs.note, 1).result(WAIT) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    with Pool("work", store=f"sqlite:///{tmp_path}/jobs.db"):
        pass
    (tmp_path / "jobs.db").chmod(0o400)
    with pytest.raises(StoreUnusable, match="is not writable"):
        Pool("work", store=f"sqlite:///{tmp_path}/jobs.db")
