"""A chain: each job gets the result of the one before, and a retry resumes where it has failed."""

import logging
import tempfile
from pathlib import Path

import oddjob

FOLDER = tempfile.TemporaryDirectory()
pool = oddjob.Pool("pages", store=f"sqlite:///{Path(FOLDER.name) / 'jobs.db'}")
calls: list[str] = []
is_disk_full = True


@pool.job(retries=3, backoff=0.1)
def fetch(url: str) -> str:
    """Get a page; a link of a chain has retries of its own."""
    calls.append("fetch")
    if calls.count("fetch") == 1:
        raise ConnectionError("try again")
    return f"<h1>{url}</h1>"


@pool.job
def parse(page: str, tag: str) -> str:
    """Get the title; the page comes first, then what the call was given."""
    calls.append("parse")
    return page.removeprefix(f"<{tag}>").removesuffix(f"</{tag}>")


@pool.job
def save(title: str) -> int:
    """Store the title, if there is room."""
    calls.append("save")
    if is_disk_full:
        raise OSError("no space left")
    return len(title)


if __name__ == "__main__":
    logging.getLogger("oddjob").setLevel(logging.CRITICAL)  # nothing about failures
    with pool:
        chain = pool.chain(fetch.s("example.org"), parse.s(tag="h1"), save)
        try:
            chain.result()
        except OSError as error:
            print(f"the chain has {chain.state}: {error}")
        is_disk_full = False
        chain.retry()  # as does the command: oddjob retry ID
        length = chain.result()
    print(*calls)
    assert length == len("example.org")
    assert calls == ["fetch", "fetch", "parse", "save", "save"]
    FOLDER.cleanup()
