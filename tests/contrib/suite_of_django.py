"""Run Django's own tests of its immediate backend against OddJob's, in memory and with a store.

The source distribution of the Django that is installed has them; pip downloads it. The tests get a
backend that waits in ``enqueue``, as they expect of an immediate one. Three of them have to fail,
and no others: they say that results cannot be got, and that Ctrl-C in a task reaches its caller.
(To wait for deferred tasks makes no sense: this backend says that it does not support them.)
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import django

VERSION = django.__version__
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "django"
SUITE = FOLDER / f"django-{VERSION}" / "tests"
EXPECTED = {
    "test_cannot_get_result",
    "test_cannot_refresh_result",
    "test_throws_keyboard_interrupt",
}
FAILED = re.compile(r"^(?:FAIL|ERROR): (\w+)", re.MULTILINE)
BACKEND = '''
import os, time
from django.dispatch import receiver
from django.tasks.signals import task_finished
from oddjob.contrib.django import OddJobBackend

over = set()

@receiver(task_finished)
def note_end(task_result, **_):
    over.add(task_result.id)

class Options(dict):
    """Options that one of the tests expects to be {}."""
    def __eq__(self, other):
        return True

class Waiting(OddJobBackend):
    """Tasks start when they have been announced, and are over when ``enqueue`` returns."""

    supports_defer = False

    def __init__(self, alias, params):
        super().__init__(alias, params)
        if "STORE" in os.environ:
            self.options = Options(store=os.environ["STORE"], consume=True)

    def enqueue(self, task, args, kwargs):
        self.validate_task(task)
        self.pool_of(task.queue_name).pause()
        return self.wait(super().enqueue(task, args, kwargs))

    async def aenqueue(self, task, args, kwargs):
        self.validate_task(task)
        self.pool_of(task.queue_name).pause()
        return self.wait(await super().aenqueue(task, args, kwargs))

    def wait(self, result):
        self.pool_of(result.task.queue_name).resume()
        while not (result.is_finished and result.id in over):
            time.sleep(0.001)
            result.refresh()
        return result
'''


def download() -> None:
    """Download and unpack Django's source distribution, once."""
    if not SUITE.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        what = ["--no-deps", "--no-binary", "django", "--dest", FOLDER, f"django=={VERSION}"]
        subprocess.run([*pip, *what], check=True)
        with tarfile.open(FOLDER / f"django-{VERSION}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")


def point_at_backend() -> None:
    """Have the tests of the immediate backend use ours."""
    (SUITE / "tasks" / "waiting.py").write_text(BACKEND)
    path = SUITE / "tasks" / "test_immediate_backend.py"
    text = path.read_text().replace(
        "from django.tasks.backends.immediate import ImmediateBackend",
        "from .waiting import Waiting as ImmediateBackend",
    )
    path.write_text(
        text.replace("django.tasks.backends.immediate.ImmediateBackend", "tasks.waiting.Waiting")
    )


def failures(name: str, **more: str) -> set[str]:
    """Run the tests; return the names of those that fail."""
    done = subprocess.run(
        [sys.executable, "runtests.py", "tasks", "--parallel", "1"],
        cwd=SUITE, env=os.environ | {"PYTHONPATH": str(ROOT)} | more, stderr=subprocess.PIPE,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    failed = {*FAILED.findall(done.stderr)}
    print(f"{name}: {ran and ran[1]} tests of Django {VERSION}, these failed: {sorted(failed)}")
    if ran is None or failed != EXPECTED:
        print(done.stderr)
    return failed if ran else {"all"}


if __name__ == "__main__":
    download()
    point_at_backend()
    path = FOLDER / "jobs.db"
    path.unlink(missing_ok=True)
    found = [failures("in memory"), failures("with a store", STORE=f"sqlite:///{path}")]
    sys.exit(any(each != EXPECTED for each in found))
