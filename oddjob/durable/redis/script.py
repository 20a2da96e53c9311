"""Script: what the server runs in one call, from a file in ``scripts``.

The operations of a pool have functions in common, in `common.lua` and `workflow.lua`. A script gets
those that it uses, as Lua makes all functions of a script anew in each call: with all of them, a
small call takes half as much time again. They are inside one function for the same reason: a
function is made faster if the variables that it captures are of the function around it, and not of
the main chunk.
"""

import re
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Final

from oddjob.durable.redis.location import POOL_KEYS

_FOLDER: Final = Path(__file__).parent / "scripts"
_SPEAKS_FLAGS: Final = 7  # major version of the server
# In the files, a function that others may use begins and ends in the first column, or is one line.
_FUNCTION: Final = re.compile(r"^local function (\w+)(?:.* end|(?:.*\n)+?end)\n", re.MULTILINE)
_WORD: Final = re.compile(r"\w+")

# Before Redis 7, scripts cannot say whether they need memory. A server that has none left refuses
# the first write of a script if it needs some, and lets the script go on after one that needs none.
# The first of these changes nothing, and what the second one sets in `meta` is read by nobody.
_META: Final = f"KEYS[{POOL_KEYS.index('meta') + 1}] or KEYS[1]"  # of a pool, or of the store
_NEEDS_NO_MEMORY: Final = "redis.call('ZREM', KEYS[3], '')\n"
_NEEDS_MEMORY: Final = f"redis.call('HSETNX', {_META}, 'memory', '')\n"


class Script:
    """A script, in the forms for new servers and old ones.

    Args:
        name: of its file.
        needs_memory: whether a server that has no memory left refuses it: it brings new jobs, or
            tries whether it could.
    """

    def __init__(self, name: str, *, needs_memory: bool = False) -> None:
        self.needs_memory: Final = needs_memory
        body = _source(f"{name}.lua")
        if name.startswith("store_"):
            body = _source("store_common.lua") + body
        else:
            body = _with_functions(_source("common.lua") + _source("workflow.lua"), body)
        first = _NEEDS_MEMORY if needs_memory else _NEEDS_NO_MEMORY
        flags = "#!lua\n" if needs_memory else "#!lua flags=allow-oom\n"
        self._for_old: Final = _with_hash(first + body)
        self._for_new: Final = _with_hash(flags + body)

    def form(self, version: tuple[int, int]) -> tuple[str, bytes]:
        """Return the source for a server, and its hash."""
        return self._for_new if version[0] >= _SPEAKS_FLAGS else self._for_old


def _with_functions(common: str, body: str) -> str:
    head, first, functions = common.partition("local function ")
    functions, words = first + functions, set(_WORD.findall(body))
    found = list(_FUNCTION.finditer(functions))
    assert len(found) == functions.count("\nlocal function ") + 1  # noqa: S101  (else see above)
    for match in reversed(found):  # they use those above them
        if match[1] in words:
            words.update(_WORD.findall(match[0]))
    used = _FUNCTION.sub(lambda match: match[0] if match[1] in words else "", functions)
    return f"{head}local function script()\n{used}{body}end\nreturn script()\n"


@cache
def _source(file: str) -> str:
    return (_FOLDER / file).read_text()


def _with_hash(source: str) -> tuple[str, bytes]:
    return source, sha1(source.encode()).hexdigest().encode()  # noqa: S324  (the server's choice)
