"""Location: whether a store may be at a path, and the files beside the database."""

import os
import re
from pathlib import Path
from typing import Final

from oddjob.durable.peers import FilePeers
from oddjob.errors import StoreUnsafe, StoreUnusable

# Where SQLite's locks and shared memory may reach no other machine, or no other container.
_NETWORK_FILE_SYSTEMS: Final = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "lustre", "gfs2"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.osxfs"),
    *("fuse.grpcfuse", "fakeowner"),
)


def open_peers(path: str) -> FilePeers:
    """Return this process's access to the directory beside the database, which is made if needed.

    Raises:
        StoreUnusable: it cannot be used.
    """
    directory = Path(f"{path}-oddjob")
    try:
        directory.mkdir(exist_ok=True)
        for each in (path, f"{path}-wal", f"{path}-shm", directory, directory / "lock"):
            _check_writable(Path(each))
        return FilePeers(directory)
    except StoreUnusable:
        raise
    except OSError as error:
        raise StoreUnusable(
            f"{path} cannot be opened: does its directory exist, and may this process write there? "
            f"({error})"
        ) from error


def _check_writable(file: Path) -> None:
    """Refuse a file of another user's, of which SQLite would say less.

    Raises:
        StoreUnusable: this process may not write it.
    """
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        status = file.stat()
        raise StoreUnusable(
            f"{file} is not writable: it belongs to user {status.st_uid} (group {status.st_gid}) "
            f"with mode {status.st_mode & 0o777:04o}, and this process runs as user {os.getuid()}. "
            "All users of a store need to read and write the database and the files beside it"
        )


def check_file_system(path: str) -> None:
    """Refuse a file on a network file system.

    Raises:
        StoreUnsafe: it is on one; the message says what to do.
    """
    kind = _file_system_of(Path(path).resolve().parent)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnsafe(
            f"{path} is on a network file system ({kind}), where locks cannot be relied on: put it "
            "on a local disk (in a container: a named volume), or use Redis"
        )


def _file_system_of(directory: Path) -> str:
    """Return the kind of file system that a directory is on; empty where that is not known."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    kinds: dict[str, str] = {}
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        kinds[place] = after.split()[0]  # a later mount hides an earlier one
    places = map(str, (directory, *directory.parents))
    return next((kinds[place] for place in places if place in kinds), "")
