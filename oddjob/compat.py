"""Typing for every supported Python: newer features, and the type variables that modules share.

Type checkers take them from ``typing_extensions``, of which they bring the types. At run time,
before Python 3.13, the little that is needed is defined here: loading that module would take a
quarter as long as loading everything else.
"""

# ruff: noqa: F401, PLC0414  (the doubled names tell type checkers that these are exported)

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import ParamSpec as ParamSpec
    from typing_extensions import ReadOnly as ReadOnly
    from typing_extensions import TypedDict as TypedDict
    from typing_extensions import TypeVar as TypeVar
    from typing_extensions import override as override
elif sys.version_info >= (3, 13):
    from typing import ParamSpec, ReadOnly, TypedDict, TypeVar, override
else:
    import typing
    from typing import NotRequired as ReadOnly  # of keys none of which is required: it says nothing
    from typing import TypedDict

    def ParamSpec(name: str, **_default: Any) -> Any:  # noqa: N802
        """Make a parameter specification, whose default only type checkers know."""
        return typing.ParamSpec(name)

    def TypeVar(name: str, *, default: Any = None, **options: Any) -> Any:  # noqa: ARG001, N802
        """Make a type variable, whose default only type checkers know."""
        return typing.TypeVar(name, **options)

    def override(method: Any) -> Any:
        """Return the method: this says that it overrides another one."""
        return method


# For signatures that take a function ``fn`` and what it is called with.

P = ParamSpec("P")  # the arguments of one call
T = TypeVar("T")  # the result of its job: what `fn`, or the coroutine that it makes, returns
Item = TypeVar("Item")  # the argument of each of many calls

AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, T]]
