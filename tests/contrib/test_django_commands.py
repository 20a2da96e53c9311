"""The commands of ``manage.py``, and tasks that are run by another process than enqueues them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contrib.settings_of_django import use

# isort: split

from django.core.management import CommandError, call_command

from oddjob.contrib.django.compat import TaskResultDoesNotExist
from tests.contrib import tasks_of_django as tasks

ROOT = Path(__file__).parents[2]
Program = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of the programs of a site; this process enqueues tasks for them."""
    with use(tmp_path / "site.db", consume=False):
        yield {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.contrib.site_of_django",
            "SITE_FOLDER": str(tmp_path),
        }


@pytest.fixture
def program(site: dict[str, str], tmp_path: Path) -> Program:
    """Run a program of the site; return what it prints, or why it fails."""

    def program(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *words], env=site, cwd=tmp_path, capture_output=True, text=True,
            timeout=50, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code > 0 else done.stdout

    return program


def test_a_worker_runs_the_tasks_of_the_queues_that_it_is_told(program: Program) -> None:
    first, mail = tasks.add.enqueue(2, 3), tasks.add.using(queue_name="mail").enqueue(4, 5)
    program("-m", "django", "oddjob_worker", "--batch", "--exclude-queues", "mail")
    first.refresh()
    assert (first.status, first.return_value, first.attempts) == ("SUCCESSFUL", 5, 1)
    assert first.worker_ids[0].split(":")[1] != str(os.getpid())
    mail.refresh()
    assert mail.status == "READY"
    program("-m", "django", "oddjob_worker", "--max-tasks", "1", "--queue-name", "mail")
    mail.refresh()
    assert mail.return_value == 9


def test_a_task_whose_worker_is_killed_is_run_by_the_next_one(
    program: Program, tmp_path: Path
) -> None:
    task = tasks.kill_the_first.enqueue(str(tmp_path / "mark"))
    program("-m", "django", "oddjob_worker", "--batch", code=-signal.SIGKILL)
    program("-m", "django", "oddjob_worker", "--batch")
    task.refresh()
    assert task.return_value == "survived"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--queue-name=default,nope", "no queue 'nope'; there are: default, mail"),
        ("--exclude-queues=nope", "no queue 'nope'; there are: default, mail"),
        ("--max-tasks=0", "argument --max-tasks: '0' is no number from 1 on"),
        ("--max-tasks=many", "argument --max-tasks: 'many' is no number from 1 on"),
    ],
)
def test_an_option_that_makes_no_sense_is_wrong_usage(
    program: Program, option: str, said: str
) -> None:
    """A worker of a queue that is misspelled would run no task, or those of all queues."""
    assert said in program("-m", "django", "oddjob_worker", option, "--batch", code=2)


def test_a_worker_for_no_queue_is_an_error(site: dict[str, str]) -> None:
    with pytest.raises(CommandError, match="No queue is left"):
        call_command("oddjob_worker", "--queue-name=mail", "--exclude-queues=mail")


def test_a_worker_where_no_tasks_are_stored_is_an_error() -> None:
    with pytest.raises(CommandError, match="No backend in TASKS has a store"):
        call_command("oddjob_worker")


def test_the_command_oddjob_knows_the_store_of_the_site(program: Program) -> None:
    tasks.add.enqueue(2, 3)
    (job,) = json.loads(program("-m", "django", "oddjob", "list", "--json"))
    assert job["name"] == "tests.contrib.tasks_of_django.add"


def test_the_first_task_of_a_process_can_be_enqueued_in_a_transaction_that_has_written(
    program: Program,
) -> None:
    """To open the store is to write to its file, for which the process would wait for itself."""
    first, second = program("-c", FIRST_TASKS).split()
    assert [tasks.add.get_result(each).args for each in (first, second)] == [[1, 1], [2, 2]]


FIRST_TASKS = """
import os, django
django.setup()
from django.db import connection, transaction
from tests.contrib import tasks_of_django as tasks
with transaction.atomic():
    connection.cursor().execute("CREATE TABLE orders (name)")
    print(tasks.add.enqueue(1, 1).id, flush=True)
connection.close()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    with transaction.atomic():
        connection.cursor().execute("INSERT INTO orders VALUES (2)")
        print(tasks.add.enqueue(2, 2).id, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("migrates_first", [True, False])
def test_the_store_can_be_in_the_database_of_the_site_whichever_comes_first(
    site: dict[str, str], program: Program, tmp_path: Path, migrates_first: bool
) -> None:
    """The site shows the dashboard of a store that is not there yet."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "shop_without_tasks.py").write_text(
        "from shop import *\nINSTALLED_APPS = INSTALLED_APPS[:1]\nROOT_URLCONF = None\n"
    )
    site["DJANGO_SETTINGS_MODULE"] = "shop"
    if migrates_first:
        program("-m", "django", "migrate", "--settings=shop_without_tasks")
    else:
        program(
            "-c",
            "import django; django.setup()\n"
            "from tests.contrib import tasks_of_django as tasks; tasks.add.enqueue(0, 0)",
        )
    program("-m", "django", "migrate")
    kept, lost = program("-c", TWO_ORDERS).split()
    program("-m", "django", "oddjob_worker", "--batch")
    assert tasks.add.get_result(kept).return_value == 3
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(lost)
    assert program("-c", "import django; django.setup()\n"
                   "from django.contrib.contenttypes.models import ContentType\n"
                   "print(*ContentType.objects.values_list('model', flat=True))"
                   ).split() == ["contenttype", "kept"]  # fmt: skip


SHOP = """
from tests.contrib.site_of_django import *
INSTALLED_APPS = ["django.contrib.contenttypes", *INSTALLED_APPS]
ROOT_URLCONF = "tests.contrib.urls_of_django"
"""
TWO_ORDERS = """
import django
django.setup()
from contextlib import suppress
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from tests.contrib import tasks_of_django as tasks
for model in ("kept", "lost"):
    with suppress(ZeroDivisionError), transaction.atomic():
        ContentType.objects.create(app_label="shop", model=model)
        print(tasks.add.enqueue(1, 2).id)
        1 / (model == "kept")
"""


def test_with_debug_a_worker_starts_again_when_the_code_changes(
    site: dict[str, str], tmp_path: Path
) -> None:
    """``manage.py`` is started from elsewhere, as its settings have to be found all the same."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "manage.py").write_text(
        "import os, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'shop'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    (folder / "shop.py").write_text("from tests.contrib.site_of_django import *\n")
    worker = subprocess.Popen(
        [sys.executable, "project/manage.py", "oddjob_worker"],
        env=site | {"SITE_DEBUG": "1"}, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stderr is not None
    try:
        _read_until(worker.stderr, "Running jobs of")
        (folder / "shop.py").touch()
        _read_until(worker.stderr, "a file has changed")
        _read_until(worker.stderr, "Running jobs of")
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait(30)
        worker.stderr.close()


def _read_until(stream: Any, words: str) -> None:
    while words not in (line := stream.readline()):
        assert line, f"it never said {words!r}"
