"""The worker, in processes of its own: what it runs, and how it ends."""

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest

from oddjob import Pool, __version__
from oddjob.cli import processes
from oddjob.cli.command import Common
from oddjob.cli.worker import _is_batch_over
from oddjob.operations import StoreOperations
from tests.cli import conftest
from tests.cli.conftest import Call, Run, environment, eventually, on_a_file

WAIT = 40.0
SHOP = "tests.cli.shop"
Submit = Callable[..., None]


class Watched:
    """A store, as it is seen from outside."""

    def __init__(self, store: StoreOperations) -> None:
        self._store = store
        self.url = str(store.url)

    def counts(self, pool: str = "mail") -> dict[str, int]:
        found = self._store.pool(pool).counts()
        return {state: count for state, count in found.items() if count}

    def workers(self, pool: str = "mail") -> set[int]:
        """Return the processes that run jobs of a pool."""
        return {each.pid for each in self._store.runners() if pool in each.pools}


@pytest.fixture
def store(url: str) -> Iterator[Watched]:
    Pool("mail", store=url, consume=False).shutdown()
    with StoreOperations(url) as store:
        yield Watched(store)


@pytest.fixture
def submit(call: Call) -> Submit:
    """Submit jobs of the program, as another process."""

    def submit(*calls: str) -> None:
        for each in calls:
            name, *args = each.split()
            call("enqueue", f"{SHOP}:{name}", *args)

    return submit


def begun(gate: Path) -> int:
    """Return how many jobs wait for a file to be there."""
    marks = gate.with_suffix(".begun")
    return len(marks.read_text()) if marks.exists() else 0


def test_a_batch_runs_what_there_is_and_ends(call: Call, store: Watched, submit: Submit) -> None:
    submit("send ada", "send bob", "send bad", "elsewhere")
    out, said = call("worker", SHOP, "--batch", "-c", "1", "-q")
    assert out == ""
    assert "job send of pool mail failed in attempt 1" in said
    assert "left for later" not in said
    assert store.counts() == {"succeeded": 2, "failed": 1}
    assert store.counts("other") == {"succeeded": 1}


def test_a_batch_leaves_what_a_paused_pool_has(call: Call, store: Watched, submit: Submit) -> None:
    submit("send ada 1")
    call("pause", "mail", "--store", store.url)
    _, said = call("worker", SHOP, "--batch")
    assert "Pool mail is paused: 1 job left in its queue." in said
    assert store.counts() == {"queued": 1}


@on_a_file
def test_a_batch_says_what_it_leaves_when_all_pools_have_ended(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not at each look until then."""
    gate = threading.Event()
    with Pool("mail", store=url, consume=False) as paused, Pool("hands", 1) as busy:
        paused.perform(print)
        with StoreOperations(url) as looks:
            looks.pool("mail").pause()
        running = busy.submit(gate.wait, WAIT)
        assert not _is_batch_over(Common(), [paused, busy])
        assert capsys.readouterr().err == ""
        gate.set()
        assert running.result(WAIT)
        busy.drain(WAIT)
        assert _is_batch_over(Common(), [paused, busy])
        assert "Pool mail is paused: 1 job left in its queue." in capsys.readouterr().err


@on_a_file
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pid-file", "/nowhere/pid"), "cannot write /nowhere/pid: No such file or directory"),
        (("--metrics", "127.0.0.1:99999"), "is no address"),
    ],
)
def test_what_cannot_be_written_or_served_is_said(
    call: Call, arguments: tuple[str, str], message: str
) -> None:
    _, said = call("worker", SHOP, "--batch", *arguments, exit_code=2)
    assert message in said
    assert "Traceback" not in said


@on_a_file
def test_a_program_that_is_given_as_a_path_is_named_as_a_module(run: Run) -> None:
    for command in (("worker", "./tests/cli/shop.py"), ("enqueue", "tests/cli/shop.py:send")):
        assert "such as tests.cli.shop, not as a path" in run(*command, exit_code=1).stderr


def test_a_batch_leaves_what_waits_for_its_time(call: Call, store: Watched, submit: Submit) -> None:
    """It must not take as long as the delay of a retry."""
    call("enqueue", f"{SHOP}:send", "ada", "--after", "1h")
    submit("send bob")
    _, said = call("worker", SHOP, "--batch")
    assert "1 job left for later" in said
    assert store.counts() == {"succeeded": 1, "scheduled": 1}


def test_only_the_pools_that_are_named_run(call: Call, store: Watched, submit: Submit) -> None:
    submit("send ada", "elsewhere")
    _, said = call("worker", f"{SHOP}:pool", "--batch")
    assert "Running jobs of mail. Ctrl-C ends.\n" in said
    assert store.counts() == {"succeeded": 1}
    assert store.counts("other") == {"queued": 1}


@on_a_file
def test_functions_of_a_program_without_pools_run_in_a_new_one(
    url: str, call: Call, store: Watched, run: Run
) -> None:
    run("enqueue", "tests.durable.jobs:note", "1", "--pool", "fresh")
    call("worker", "tests.durable.jobs", "--pool", "fresh", "--batch", "--store", url)
    assert store.counts("fresh") == {"succeeded": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_a_signal_or_drain_lets_running_jobs_finish_and_hands_back_the_rest(
    number: signal.Signals | None,
    url: str,
    tmp_path: Path,
    store: Watched,
    submit: Submit,
    run: Run,
) -> None:
    gate, pid_file = tmp_path / "gate", tmp_path / "pid"
    submit(*[f"wait {gate}"] * 3)
    with conftest.start(
        "worker", SHOP, "--pid-file", str(pid_file), "--name", "mail-1", url=url
    ) as worker:
        eventually(lambda: begun(gate) == 2)
        assert re.search(
            rf"{worker.pid} +mail-1@\S+ +{__version__} +.* ago +mail, other", run("status").stdout
        )
        assert int(pid_file.read_text()) == worker.pid
        if number is None:
            run("drain", str(worker.pid))
        else:
            worker.send_signal(number)
        eventually(lambda: not store.workers("other"))  # which has nothing to finish
        gate.touch()
        _, said = worker.communicate(timeout=WAIT)
    assert (worker.returncode, "Every job that had begun has ended." in said) == (0, True)
    assert store.counts() == {"succeeded": 2, "queued": 1}
    assert not pid_file.exists()


def test_jobs_that_do_not_end_in_time_are_left_with_exit_code_4(
    url: str, tmp_path: Path, store: Watched, submit: Submit
) -> None:
    submit(f"wait {tmp_path}/gate")
    with conftest.start("worker", SHOP, "--drain-timeout", "0.1", url=url) as worker:
        eventually(lambda: begun(tmp_path / "gate"))
        worker.terminate()
        _, said = worker.communicate(timeout=WAIT)
    assert worker.returncode == 4
    assert "1 job had not ended when the time was up" in said
    eventually(lambda: store.counts() == {"queued": 1})


@on_a_file
def test_a_second_signal_ends_it_at_once(
    url: str, tmp_path: Path, store: Watched, submit: Submit
) -> None:
    submit(f"wait {tmp_path}/gate")
    with conftest.start("worker", SHOP, url=url) as worker:
        eventually(lambda: begun(tmp_path / "gate"))
        worker.terminate()
        eventually(lambda: not store.workers("other"))
        worker.terminate()
        worker.communicate(timeout=WAIT)
    assert worker.returncode == -signal.SIGTERM


@on_a_file
@pytest.mark.parametrize("limit", [["--max-jobs", "1"], ["--max-memory", "1K"]])
def test_it_ends_when_it_has_done_enough(
    limit: list[str], call: Call, store: Watched, submit: Submit
) -> None:
    submit("send ada")
    call("worker", SHOP, *limit)
    assert "running" not in store.counts()


def test_only_a_process_that_runs_jobs_is_drained(store: Watched, run: Run) -> None:
    for number in (1, os.getpid()):
        said = run("drain", str(number), exit_code=1).stderr
        assert f"has no process {number} that runs jobs" in said


def test_several_processes_share_the_work_are_replaced_and_end_with_their_parent(
    url: str, tmp_path: Path, store: Watched, submit: Submit
) -> None:
    submit(*[f"wait {tmp_path}/gate"] * 4)
    with conftest.start("worker", SHOP, "-p", "2", "-c", "1", url=url) as parent:
        eventually(lambda: begun(tmp_path / "gate") == 2)
        victim, other = sorted(store.workers())
        assert parent.pid not in (victim, other)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(store.workers() - {victim}) == 2)
        parent.kill()
        (tmp_path / "gate").touch()
        _, said = parent.communicate(timeout=WAIT)  # the children have closed their ends, too
    assert f"worker process {victim} ended (-9): another one takes its place" in said
    eventually(lambda: store.workers() == set())


def test_several_processes_end_as_one_does(
    url: str, tmp_path: Path, store: Watched, submit: Submit
) -> None:
    """With the exit code that tells what was left; and one that has ended is not replaced then."""
    submit("send ada", "send bob")
    with conftest.start("worker", SHOP, "-p", "2", "--batch", url=url) as parent:
        _, said = parent.communicate(timeout=WAIT)
    assert (parent.returncode, store.counts()) == (0, {"succeeded": 2})
    assert "Fatal" not in said
    assert "takes its place" not in said
    submit(f"wait {tmp_path}/gate")
    options = ("-p", "2", "--drain-timeout", "0.1")
    with conftest.start("worker", SHOP, *options, url=url) as parent:
        eventually(lambda: begun(tmp_path / "gate") == 1)
        parent.terminate()
        _, said = parent.communicate(timeout=WAIT)
    assert (parent.returncode, "Fatal" in said) == (4, False)


@on_a_file
def test_it_starts_again_when_a_file_changes(tmp_path: Path, url: str, store: Watched) -> None:
    program = tmp_path / "program.py"
    source = f"import oddjob\npool = oddjob.Pool('NAME', store={url!r})\n"
    program.write_text(source.replace("NAME", "old"))
    with conftest.start("worker", "program", "--reload", url=url, cwd=tmp_path) as parent:
        eventually(lambda: store.workers("old"))
        program.write_text(source.replace("NAME", "newer"))
        eventually(lambda: store.workers("newer"))
        assert not store.workers("old")
        parent.terminate()
        parent.communicate(timeout=WAIT)
    assert parent.returncode == 0


def test_a_file_that_is_saved_while_the_workers_start_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(processes, "_changes", lambda: steps.append("look"))
    monkeypatch.setattr(processes._Group, "start", lambda *_: steps.append("start"))
    processes.run_processes(1, is_batch=False, reloads=True)
    assert steps == ["look", "start"]


@on_a_file
def test_a_program_is_checked_without_running_anything(
    call: Call, store: Watched, submit: Submit
) -> None:
    submit("send ada")
    _, said = call("worker", SHOP, "--check")
    assert "mail, other, memory: the program can be imported, the store is open." in said
    assert store.counts() == {"queued": 1}


@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        ([], 2, "Which program?"),
        (["lost.module"], 1, "cannot import lost.module: No module named 'lost'"),
        (["tests.durable.jobs:lost"], 1, "module 'tests.durable.jobs' has no 'lost'"),
        (["tests.durable.jobs:note"], 1, "is neither a pool nor settings"),
        (["tests.durable.jobs"], 2, "makes no pool"),
        (["tests.durable.jobs", "--pool", "none"], 2, "Which store?"),
        (["tests.durable.jobs", "--max-memory", "much"], 2, "is no size"),
    ],
)
def test_what_cannot_run_is_refused(
    args: list[str], exit_code: int, message: str, run: Run
) -> None:
    assert message in run("worker", *args, exit_code=exit_code, store=None).stderr


@on_a_file
def test_a_pool_that_the_program_does_not_have_is_not_made(call: Call) -> None:
    """It is a typing error."""
    _, said = call("worker", SHOP, "--pool", "mial", exit_code=1)
    assert "makes no pool mial; there are: mail, other, memory" in said


@on_a_file
def test_a_store_that_cannot_be_opened_is_exit_code_3(call: Call, tmp_path: Path) -> None:
    nowhere = environment(f"sqlite:///{tmp_path}/no/jobs.db")
    _, said = call("worker", SHOP, "-p", "2", env=nowhere, exit_code=3)
    assert "cannot be opened" in said


@on_a_file
def test_metrics_are_served_while_the_worker_runs(url: str, store: Watched, submit: Submit) -> None:
    pytest.importorskip("prometheus_client", reason="it is not installed")
    submit("send ada")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with conftest.start("worker", SHOP, "--metrics", address, url=url) as worker:
        eventually(lambda: store.counts() == {"succeeded": 1})
        with urlopen(f"http://{address}/metrics") as page:
            text = page.read().decode()
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=WAIT)
    assert 'oddjob_pool_size{pool="mail"}' in text
    assert worker.returncode == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--metrics", "9100"], "is no address such as"),
        (["--metrics", "127.0.0.1:9100", "-p", "2"], "--metrics is for one process"),
    ],
)
def test_metrics_that_cannot_be_served_are_refused(args: list[str], said: str, run: Run) -> None:
    assert said in run("worker", SHOP, *args, exit_code=2).stderr


def test_a_process_that_ends_at_once_is_replaced_once_a_second_however_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one with a --max-memory that is too small for it, which ends as asked."""
    pauses, is_over = list[float](), threading.Event()
    times = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr(processes, "time", times)
    monkeypatch.setattr(sys, "argv", ["oddjob", "worker", "--help"])
    group = processes._Group()
    group.start(SimpleNamespace(wake=is_over.set))  # type: ignore[arg-type]
    assert is_over.wait(WAIT)
    (child,) = group.take_ended()
    assert (child.returncode, len(pauses)) == (0, 1)
    assert child.stdin is not None
    child.stdin.close()
