"""Check that every public name has a type on which all type checkers agree; `make pyright` runs it.

Classes that inherit from Django's cannot have one: Django has no types.
"""

import json
import subprocess
import sys
from typing import Any

UNTYPED = "oddjob.contrib.django."


def main() -> int:
    """Print what has no type; return how many names that are."""
    words = ["pyright", "--verifytypes", "oddjob", "--ignoreexternal", "--outputjson"]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    symbols: list[dict[str, Any]] = json.loads(found)["typeCompleteness"]["symbols"]
    assert len(symbols) > 1_000, found
    missing = [each for each in symbols if each["isExported"] and not each["isTypeKnown"]]
    missing = [each for each in missing if not each["name"].startswith(UNTYPED)]
    for symbol in missing:
        for problem in symbol["diagnostics"]:
            sys.stdout.write(f"{symbol['name']}: {problem['message']}\n")
    return len(missing)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
