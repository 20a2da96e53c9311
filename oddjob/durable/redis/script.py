"""Script: what the server runs in one call, from a file in ``scripts``.

The operations of a pool have functions in common, in `common.lua` and `workflow.lua`. A script gets
those that it uses, as Lua makes all functions of a script anew in each call: with all of them, a
small call takes half as much time again. They are inside one function for the same reason: Lua
searches for each variable of the main chunk that a function captures, but not for those of a
function around it.
"""

import re
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "scripts"
_SPEAKS_FLAGS: Final = 7  # major version of the server
_FUNCTION: Final = re.compile(r"^local function (\w+)(?:.* end|(?:.*\n)+?end)\n", re.MULTILINE)
_WORD: Final = re.compile(r"\w+")

# Before Redis 7, scripts cannot say whether they need memory. A server that has none left refuses
# the first write of a script if it needs some, and lets the script go on after one that needs none.
# The first of these changes nothing, and what the second one sets in `meta` is read by nobody.
_NEEDS_NO_MEMORY: Final = "redis.call('ZREM', KEYS[3], '')\n"
_NEEDS_MEMORY: Final = "redis.call('HSETNX', KEYS[24] or KEYS[1], 'memory', '')\n"


class Script:
    """A script, in the forms for new servers and old ones.

    Args:
        name: of its file.
        may_fill: whether it runs also when the server has no memory left. Everything does but what
            brings new jobs, or asks whether it could.
    """

    def __init__(self, name: str, *, may_fill: bool = True) -> None:
        self.brings_jobs: Final = not may_fill
        body = _source(f"{name}.lua")
        if name.startswith("store_"):
            body = _source("store_common.lua") + body
        else:
            body = _with_functions(_source("common.lua") + _source("workflow.lua"), body)
        flags = "#!lua flags=allow-oom\n" if may_fill else "#!lua\n"
        first = _NEEDS_NO_MEMORY if may_fill else _NEEDS_MEMORY
        self._forms: Final = (_with_hash(first + body), _with_hash(flags + body))

    def form(self, version: tuple[int, int]) -> tuple[str, bytes]:
        """Return the source for a server, and its hash."""
        return self._forms[version[0] >= _SPEAKS_FLAGS]


def _with_functions(common: str, body: str) -> str:
    head, first, functions = common.partition("local function ")
    functions, words = first + functions, set(_WORD.findall(body))
    for match in reversed(list(_FUNCTION.finditer(functions))):  # they use those above them
        if match[1] in words:
            words.update(_WORD.findall(match[0]))
    used = _FUNCTION.sub(lambda match: match[0] if match[1] in words else "", functions)
    return f"{head}local function script()\n{used}{body}end\nreturn script()\n"


@cache
def _source(file: str) -> str:
    return (_FOLDER / file).read_text()


def _with_hash(source: str) -> tuple[str, bytes]:
    return source, sha1(source.encode()).hexdigest().encode()  # noqa: S324  (the server's choice)
