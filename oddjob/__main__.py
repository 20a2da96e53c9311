"""``python -m oddjob`` is the command ``oddjob``."""

from oddjob.cli import main

if __name__ == "__main__":
    main()
