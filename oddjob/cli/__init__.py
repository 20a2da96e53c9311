"""The command ``oddjob``: see and change what is in a store, and run its jobs.

It needs the extra ``oddjob[cli]``, and says so where that is missing.
"""

import sys


def main() -> None:
    """Run the command with the arguments of the process, and end the process."""
    try:
        from oddjob.cli.program import run
    except ImportError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write("The command needs two more packages: pip install 'oddjob[cli]'\n")
        sys.exit(2)
    run()
