"""A program that runs the command in children of its own, and imports everything once for them.

For each line, a JSON object with ``args``, ``env``, ``cwd``, ``out`` and ``err`` (files), it prints
the exit code of the child.
"""

import json
import os
import sys
from pathlib import Path

from oddjob.cli import main
from oddjob.cli.program import oddjob

assert oddjob.name  # it is imported now, and not by each child

for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(call[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.environ.clear()
        os.environ.update(call["env"])
        os.chdir(call["cwd"])
        sys.argv[1:] = call["args"]
        main()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    Path(call["out"]).touch()
    sys.stdout.write(f"{code}\n")
    sys.stdout.flush()
