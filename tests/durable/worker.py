"""A process that runs the jobs of a pool, for tests: ``python -m tests.durable.worker URL``.

It ends when its standard input does.
"""

import sys

import oddjob
from tests.durable import jobs

if __name__ == "__main__":
    with oddjob.Pool("durable", 2, store=sys.argv[1]) as pool:
        for function in (jobs.note, jobs.stop_when_asked, jobs.walk):
            pool.job(function)
        print("ready", flush=True)
        sys.stdin.read()
