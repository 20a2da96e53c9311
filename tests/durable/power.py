"""What a loss of power may leave of files: everything that was synced, and any part of the rest.

Guarantees
  * What a file had when it was last synced is there.
  * Of each later write, any of its sectors may be there or not, whatever the order of the writes.
  * A file that was made or deleted since its directory was synced may be there or not.
"""

import os
import random
from collections.abc import Iterable
from pathlib import Path

from tests.durable.tracer import Call

SECTOR = 512


class File:
    """The contents of a file, on the disk and on their way to it."""

    def __init__(self) -> None:
        self.on_disk = bytearray()
        self.pending: list[Call] = []  # writes and new sizes

    def sync(self) -> None:
        for each in self.pending:
            change(self.on_disk, each)
        self.pending.clear()

    def after_loss(self, dice: random.Random) -> bytes:
        content = bytearray(self.on_disk)
        share = dice.random()
        for each in self.pending:
            if each.name == "ftruncate":
                if dice.random() < share:
                    change(content, each)
                continue
            for start in range(0, len(each.data), SECTOR):
                if dice.random() < share:
                    sector = each.data[start : start + SECTOR]
                    change(content, Call("pwrite64", "", each.offset + start, sector))
        return bytes(content)


def change(content: bytearray, call: Call) -> None:
    """Do to the content of a file what a system call has done to the file."""
    end = call.offset if call.name == "ftruncate" else call.offset + len(call.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if call.name == "ftruncate":
        del content[end:]
    else:
        content[call.offset : end] = call.data


class Disk:
    """The files of one directory, of which system calls are replayed."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._names: dict[str, File] = {}  # as the processes see them
        self._on_disk: dict[str, File] = {}

    def replay(self, calls: Iterable[Call]) -> None:
        for call in calls:
            directory, name = os.path.split(call.path)
            if call.path == self._directory and call.name in ("fsync", "fdatasync"):
                self._on_disk = dict(self._names)
            elif directory == self._directory:
                self._do(call, name)

    def _do(self, call: Call, name: str) -> None:
        if call.name == "open":
            if call.is_new:
                self._names[name] = File()
        elif call.name == "unlink":
            del self._names[name]
        elif call.name in ("fsync", "fdatasync"):
            self._names[name].sync()
        elif call.name in ("pwrite64", "ftruncate"):
            self._names[name].pending.append(call)
        else:
            raise NotImplementedError(call.name)

    def write_what_is_left(self, directory: Path, dice: random.Random) -> None:
        """Make the files as they may be found when the power is back."""
        for name in sorted({*self._names, *self._on_disk}):
            seen, stored = self._names.get(name), self._on_disk.get(name)
            file = stored if seen is stored else dice.choice([seen, stored])
            if file is not None:
                (directory / name).write_bytes(file.after_loss(dice))
