"""Typing for every supported Python: newer features, and the type variables that modules share.

Guarantees: on Python 3.13 and later this loads nothing but ``typing``; before, it loads
``typing_extensions``, which takes a few milliseconds.
"""

# ruff: noqa: PLC0414  (the doubled names tell type checkers that these are exported)

import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

if sys.version_info >= (3, 13):
    from typing import ParamSpec as ParamSpec
    from typing import ReadOnly as ReadOnly
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import override as override
else:
    from typing_extensions import ParamSpec as ParamSpec
    from typing_extensions import ReadOnly as ReadOnly
    from typing_extensions import TypedDict as TypedDict
    from typing_extensions import TypeVar as TypeVar
    from typing_extensions import override as override

# For signatures that take a function ``fn`` and what it is called with.

P = ParamSpec("P")  # the arguments of one call
T = TypeVar("T")  # the result of its job: what `fn`, or the coroutine that it makes, returns
Item = TypeVar("Item")  # the argument of each of many calls

AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, T]]
