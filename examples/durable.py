"""Durable jobs: a process dies in the middle of its work, and the next one finishes it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import oddjob

folder = Path(os.environ.setdefault("DEMO_FOLDER", tempfile.mkdtemp()))
pool = oddjob.Pool("letters", 1, store=f"sqlite:///{folder}/jobs.db", consume="run" in sys.argv)


@pool.job
def send(number: int) -> str:
    """Write a letter. The first process dies at the third one."""
    if number == 3 and "first" in sys.argv:
        os._exit(1)  # as if its power had failed
    with (folder / "sent").open("a") as sent:
        sent.write(f"letter {number}\n")
    return f"letter {number} sent by {sys.argv[2]}"


if __name__ == "__main__":
    if "run" in sys.argv:
        pool.submit(send, 6).result()  # waits until all letters before that have been sent
    else:
        letters = send.submit_many(range(1, 6))  # they are on the disk now
        for name in ("first", "second"):
            subprocess.run([sys.executable, __file__, "run", name], check=False)
        for letter in letters:
            print(letter.result(timeout=30))
        # At least once: one that had been sent when the process died may have been sent again.
        sent = set((folder / "sent").read_text().splitlines())
        assert sent == {f"letter {number}" for number in range(1, 7)}
