"""Processes: several worker processes under one parent, which starts them anew when they end.

Guarantees
  * A signal to the parent reaches each child once: they are in sessions of their own, so Ctrl-C in
    a terminal does not reach them twice.
  * When the parent dies, the children end as after SIGTERM: they read a pipe that it holds open.
  * A child that ends at once, again and again, is started once a second, and no more often. One
    that says that it cannot run at all (usage, no store) ends the others.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from oddjob.cli.command import LEFT, NO_STORE, USAGE
from oddjob.daemon import SignalWaiter
from oddjob.log import log

_PAUSE: Final = 1.0  # seconds, between two starts of the same child, and two looks at files
_CANNOT_RUN: Final = (USAGE, NO_STORE)

_Child = subprocess.Popen[bytes]


def run_processes(count: int, *, is_batch: bool, reloads: bool) -> int:
    """Run the worker of this command line in several processes; return the exit code."""
    group = _Group()
    with SignalWaiter(group.stop) as waiter:
        files = _changes() if reloads else None
        for _ in range(count):
            group.start(waiter)
        while group.children:
            waiter.wait(_PAUSE if reloads else inf)
            former, files = files, _changes() if reloads else None
            if files != former:
                log(logging.INFO, "a file has changed: the workers start again")
                group.terminate()
            for child in group.take_ended():
                if not (group.is_ending or (is_batch and child.returncode == 0)):
                    what = "worker process %d ended (%d): another one takes its place"
                    log(logging.INFO, what, child.pid, child.returncode)
                    group.start(waiter)
    return group.exit_code


def end_with_parent(number: int) -> None:
    """Send this process a signal when its parent dies, which holds a pipe to it open."""

    def wait() -> None:
        # Not `sys.stdin`, whose lock this thread would hold while the interpreter ends.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


class _Group:
    """The children. Signal handlers come here, too: in the main thread, which starts them."""

    def __init__(self) -> None:
        self.children: list[_Child] = []
        self.is_ending = False
        self.exit_code = 0
        self._ended: SimpleQueue[_Child] = SimpleQueue()

    def start(self, waiter: SignalWaiter) -> None:
        """Start a child, unless the group is to end."""
        command = [sys.executable, "-m", "oddjob", *sys.argv[1:], "--follow-stdin"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
        start = time.monotonic()

        def wait() -> None:
            child.wait()
            if not self.is_ending:
                time.sleep(max(0.0, start + _PAUSE - time.monotonic()))
            self._ended.put(child)
            waiter.wake()

        threading.Thread(target=wait, daemon=True).start()
        self.children.append(child)
        if self.is_ending:  # since
            child.terminate()

    def take_ended(self) -> Iterator[_Child]:
        """Yield the children that have ended."""
        while not self._ended.empty():
            child = self._ended.get()
            self.children.remove(child)
            if child.returncode in (*_CANNOT_RUN, LEFT):
                self.exit_code = child.returncode
            if child.returncode in _CANNOT_RUN and not self.is_ending:
                self.stop(signal.SIGTERM)
            yield child

    def stop(self, number: int) -> None:
        """Let the children end; at the second call, end at once."""
        self.terminate()
        if self.is_ending:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.is_ending = True

    def terminate(self) -> None:
        """Send all children a SIGTERM."""
        for child in self.children:
            child.terminate()


def _changes() -> dict[Path, float]:
    found = {}
    for path in Path.cwd().rglob("*.py"):
        try:
            found[path] = path.stat().st_mtime
        except OSError:  # deleted meanwhile
            continue
    return found
