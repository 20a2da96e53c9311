"""Settings: what a pool can be told, what it is told by default, and what is wrong with the rest.

`read_settings` turns the plain dict that `oddjob.configure` takes into a `Plan` or refuses it
whole; nothing is started here.
"""

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, NoReturn, get_args

from oddjob.errors import SettingsError
from oddjob.events import OnEvent
from oddjob.rate import Rate, as_rate
from oddjob.retry import DELAYS, Backoff, as_delays

__all__ = [
    "DEFAULT_POOL",
    "CrashOn",
    "Delays",
    "Exceptions",
    "OnError",
    "Plan",
    "PoolOptions",
    "WhenFull",
    "check_count",
    "check_delays",
    "check_exceptions",
    "check_flag",
    "check_name",
    "check_observer",
    "check_priority",
    "check_rate",
    "check_size",
    "check_timeout",
    "read_settings",
]

DEFAULT_POOL: Final = "job"

OnError = Callable[[Any, BaseException], object]
Exceptions = type[BaseException] | tuple[type[BaseException], ...]
CrashOn = Exceptions
Delays = Backoff | float | Iterable[float]
WhenFull = Literal["block", "raise", "caller_runs", "drop_oldest"]


class PoolOptions(NamedTuple):
    """All that a pool can be told, but for its name; the defaults are the library's own."""

    pool_size: int = 5
    max_restarts: int = 3
    max_seconds: float = 5.0
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    thread_name_prefix: str = ""
    on_error: OnError | None = None
    crash_on: CrashOn = ()
    timeout: float | None = None
    max_abandoned: int | None = None  # as many as there are workers
    exit_timeout: float | None = None
    on_event: OnEvent | None = None
    max_queue: int | None = None
    when_full: WhenFull = "block"
    submit_timeout: float | None = None
    rate: Rate | str | None = None
    key_limit: int = 1
    ageing: float | None = None
    retries: int = 0
    backoff: Delays = DELAYS
    retry_on: Exceptions = Exception
    give_up_on: Exceptions = ()

    def but(self, **changes: Any) -> "PoolOptions":
        """A copy with other values; each is checked, and None leaves a value as it is.

        Raises:
            TypeError: a value is of the wrong type, or no option has that name.
            ValueError: a number is out of range.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        for key, value in given.items():
            if key not in _CHECKS:
                raise TypeError(f"{key!r} is no option of a pool; they are {', '.join(_CHECKS)}")
            _CHECKS[key](key, value)
        return self._replace(**given)


class Plan(NamedTuple):
    """What a settings dict asks for."""

    default_pool: str | None = DEFAULT_POOL
    defaults: PoolOptions = PoolOptions()
    pools: Mapping[str, PoolOptions] = {}


def check_size(key: str, value: object) -> int:
    """The number of workers that `value` is, or a refusal of what is none."""
    is_number = hasattr(value, "__index__") and not isinstance(value, bool)
    _require(is_number, key, "a whole number", value)
    size = operator.index(value)  # type: ignore[arg-type]  # it has __index__
    if size <= 0:
        raise ValueError(f"{key} must be greater than 0, not {value!r}")
    return size


def check_name(key: str, value: object) -> None:
    """Refuse what cannot be a pool's name."""
    _require(isinstance(value, str), key, "a string", value)
    if not value:
        raise ValueError(f"{key} must not be empty")


def check_count(key: str, value: object) -> None:
    """Refuse what is no whole number from 0 on."""
    _require(isinstance(value, int) and not isinstance(value, bool), key, "a whole number", value)
    if value < 0:  # type: ignore[operator]  # an int by now
        raise ValueError(f"{key} must be 0 or more, not {value!r}")


def check_observer(key: str, value: object) -> None:
    """Refuse what cannot be called; None is nobody."""
    if value is not None:
        _check_callable(key, value)


def check_timeout(key: str, value: object) -> None:
    """Refuse what is no number of seconds above 0; infinity is one, and means no limit."""
    if not _seconds(key, value) > 0:
        raise ValueError(f"{key} must be greater than 0, math.inf being no limit, not {value!r}")


def _check_patience(key: str, value: object) -> None:
    if not _seconds(key, value) >= 0:
        raise ValueError(f"{key} must be 0 or more, math.inf being no limit, not {value!r}")


def _check_seconds(key: str, value: object) -> None:
    if not 0 < _seconds(key, value) <= sys.float_info.max:
        raise ValueError(f"{key} must be greater than 0 and finite, not {value!r}")


def _seconds(key: str, value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    _require(is_number, key, "a number of seconds", value)
    if isinstance(value, int) and value > sys.float_info.max:
        raise ValueError(f"{key} is too large: {value!r}")
    return value  # type: ignore[return-value]  # a number by now


def _check_callable(key: str, value: object) -> None:
    _require(callable(value), key, "a callable", value)


def check_exceptions(key: str, value: object) -> None:
    """Refuse what is no class of exceptions, nor several."""
    classes = value if isinstance(value, tuple) else (value,)
    fits = all(isinstance(each, type) and issubclass(each, BaseException) for each in classes)
    _require(fits, key, "an exception class or a tuple of them", value)


def check_priority(key: str, value: object) -> None:
    """Refuse what is no whole number."""
    _require(isinstance(value, int) and not isinstance(value, bool), key, "a whole number", value)


def check_flag(key: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    _require(isinstance(value, bool), key, "True or False", value)


def check_rate(key: str, value: object) -> None:
    """Refuse what is no rate."""
    wanted = "a Rate or a text like '100/minute'"
    _require(isinstance(value, Rate | str), key, wanted, value)
    try:
        as_rate(value)
    except ValueError as error:
        raise ValueError(f"{key} must be {wanted}, not {value!r}") from error


def check_delays(key: str, value: object) -> None:
    """Refuse what tells no delays."""
    try:
        as_delays(value)
    except TypeError as error:
        wanted = "a Backoff, a number of seconds, or several of these"
        raise TypeError(f"{key} must be {wanted}, not {value!r}") from error
    except ValueError as error:
        raise ValueError(f"{key} must be 0 or more and finite, not {value!r}") from error


def _check_when_full(key: str, value: object) -> None:
    known = get_args(WhenFull)
    _require(isinstance(value, str), key, "a string", value)
    if value not in known:
        raise ValueError(f"{key} must be one of {', '.join(map(repr, known))}, not {value!r}")


def _check_tuple(key: str, value: object) -> None:
    _require(isinstance(value, tuple), key, "a tuple", value)


def _check_text(key: str, value: object) -> None:
    _require(isinstance(value, str), key, "a string", value)


def _require(fits: bool, key: str, wanted: str, value: object) -> None:
    if not fits:
        raise TypeError(f"{key} must be {wanted}, not {value!r}")


_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "pool_size": check_size,
    "max_restarts": check_count,
    "max_seconds": _check_seconds,
    "initializer": _check_callable,
    "initargs": _check_tuple,
    "thread_name_prefix": _check_text,
    "on_error": _check_callable,
    "crash_on": check_exceptions,
    "timeout": check_timeout,
    "max_abandoned": check_count,
    "exit_timeout": _check_patience,
    "on_event": _check_callable,
    "max_queue": check_size,
    "when_full": _check_when_full,
    "submit_timeout": _check_patience,
    "rate": check_rate,
    "key_limit": check_size,
    "ageing": _check_seconds,
    "retries": check_count,
    "backoff": check_delays,
    "retry_on": check_exceptions,
    "give_up_on": check_exceptions,
}


# What a pool can be told not to have, though the settings say that all pools do.
_MAY_BE_NONE: Final = frozenset(
    key for key, default in PoolOptions._field_defaults.items() if default is None
)


def read_settings(settings: Mapping[str, Any]) -> Plan:
    """Validate a settings dict whole.

    Args:
        settings: ``default_pool`` (a name, or False for none), ``extra_pools`` (a list of names
            and of mappings from names to options, or one such mapping), and any option of a pool
            as the default for all pools.

    Raises:
        SettingsError: naming the path of the first key or value that is not understood.
    """
    if not isinstance(settings, Mapping):
        raise SettingsError(f"settings must be a mapping, not {settings!r}")
    _refuse_unknown("settings", settings, ["default_pool", "extra_pools", *_CHECKS])
    options = {key: value for key, value in settings.items() if key in _CHECKS}
    defaults = _apply("settings", PoolOptions(), options)
    pools: dict[str, PoolOptions] = {}
    default_pool = settings.get("default_pool", DEFAULT_POOL)
    if default_pool is False:
        default_pool = None
    else:
        _add(pools, "settings['default_pool']", default_pool, defaults)
    for path, name, overrides in _extra_pools(settings.get("extra_pools", ())):
        _add(pools, path, name, defaults, overrides)
    return Plan(default_pool, defaults, pools)


def _extra_pools(extra: object) -> Iterator[tuple[str, Any, object]]:
    path = "settings['extra_pools']"
    if isinstance(extra, Mapping):
        yield from ((f"{path}[{name!r}]", name, options) for name, options in extra.items())
        return
    if isinstance(extra, str | bytes | bytearray) or not isinstance(extra, Iterable):
        raise SettingsError(f"{path} must be a list or a mapping, not {extra!r}")
    for number, entry in enumerate(extra):
        if isinstance(entry, Mapping):
            for name, options in entry.items():
                yield f"{path}[{number}][{name!r}]", name, options
        else:
            yield f"{path}[{number}]", entry, {}


def _add(
    pools: dict[str, PoolOptions],
    path: str,
    name: Any,
    defaults: PoolOptions,
    overrides: object = None,
) -> None:
    try:
        check_name("a pool's name", name)
    except (TypeError, ValueError) as error:
        hint = " (False for no default pool)" if path.endswith("['default_pool']") else ""
        raise SettingsError(f"{path}: {error}{hint}") from None
    if name in pools:
        raise SettingsError(f"{path}: there is a pool {name!r} in these settings already")
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise SettingsError(f"{path} must be a mapping of options, not {overrides!r}")
    _refuse_unknown(path, overrides, _CHECKS)
    pools[name] = _apply(path, defaults, overrides)


def _apply(path: str, options: PoolOptions, overrides: Mapping[str, Any]) -> PoolOptions:
    for key, value in overrides.items():
        if value is None and key in _MAY_BE_NONE:
            continue
        try:
            _CHECKS[key](key, value)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{path}[{key!r}]: {error}") from None
    return options._replace(**overrides)


def _refuse_unknown(path: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    names = list(known)
    for key in given:
        if key not in names:
            _unknown(path, key, names)


def _unknown(path: str, key: object, known: list[str]) -> NoReturn:
    from difflib import get_close_matches  # only on the way to an error

    synonyms = {"max_workers": "pool_size"}
    near = [synonyms.get(str(key), "")] if str(key) in synonyms else []
    near = near or get_close_matches(str(key), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    raise SettingsError(f"{path}[{key!r}]: unknown setting; {hint}")
