"""A process that runs the jobs of a pool, for tests: ``python -m tests.durable.worker URL``.

It ends when its standard input does.
"""

import sys

import oddjob
from tests.durable import jobs  # whose functions it runs

if __name__ == "__main__":
    with oddjob.Pool("durable", 2, store=sys.argv[1], signing_keys=jobs.KEYS):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
