"""Use the installed package, without its sources and any other package; `make wheel` runs it."""

import re
import subprocess
import sys
from pathlib import Path

import oddjob

ROOT = Path(__file__).parents[1]
PACKAGE = Path(oddjob.__file__).parent
WITH_DATA = {"*.lua", "*.html", "*.css", "*.js", "py.typed"}


def main() -> None:
    """Run the first program of the README, and examples."""
    assert PACKAGE.is_relative_to(sys.prefix), f"this is not the installed package: {PACKAGE}"
    for pattern in WITH_DATA:
        sources = {each.relative_to(ROOT / "oddjob") for each in (ROOT / "oddjob").rglob(pattern)}
        assert sources, pattern
        missing = [each for each in sources if not (PACKAGE / each).exists()]
        assert not missing, f"not installed: {missing}"
    program = re.search(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert program is not None
    for words in (
        ["-c", program[1]],
        [str(ROOT / "examples" / "decorator.py")],
        [str(ROOT / "examples" / "durable.py")],
    ):
        subprocess.run([sys.executable, "-W", "error", *words], check=True, timeout=60)
    sys.stdout.write(f"oddjob {oddjob.__version__} works as it is installed\n")


if __name__ == "__main__":
    main()
