"""Settings: from the plain dict that ``oddjob.configure`` takes to checked options of pools.

Guarantees: a settings dict is understood as a whole or refused as a whole, with an error that
names the path of the offending key. Nothing is created here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from oddjob.compat import ReadOnly
from oddjob.errors import SettingsError
from oddjob.options import POOL_CHECKS, PoolOptions, PoolSettings, as_name, suggest

DEFAULT_POOL: Final = "job"

# A pool may be given None for these, to have none of what the settings give to every pool.
_MAY_BE_NONE: Final = frozenset(
    name for name, default in PoolOptions._field_defaults.items() if default is None
)


class Settings(PoolSettings, total=False):
    """What ``oddjob.configure(settings)`` takes."""

    default_pool: ReadOnly[str | Literal[False]]
    extra_pools: ReadOnly[
        Sequence[str | Mapping[str, PoolSettings | None]] | Mapping[str, PoolSettings | None]
    ]


class Plan(NamedTuple):
    """The pools that a settings dict asks for."""

    default_pool: str | None = DEFAULT_POOL
    defaults: PoolOptions = PoolOptions()
    pools: Mapping[str, PoolOptions] = {}


def read_settings(settings: Mapping[str, Any]) -> Plan:
    """Validate a settings dict; see `oddjob.configure`.

    Raises:
        SettingsError: a key or value is not understood; the message names the path of the first.
    """
    if not isinstance(settings, Mapping):
        raise SettingsError(f"settings must be a mapping, not {settings!r}")
    defaults = _with_options(
        "settings", PoolOptions(), settings, ignored=("default_pool", "extra_pools")
    )
    default_pool = settings.get("default_pool", DEFAULT_POOL)
    wanted = [*_extra_pools(settings.get("extra_pools", ()))]
    if default_pool is not False:
        wanted.insert(0, ("settings['default_pool']", default_pool, {}))
    pools: dict[str, PoolOptions] = {}
    for path, name, overrides in wanted:
        try:
            as_name("a pool's name", name)
        except (TypeError, ValueError) as error:
            hint = " (False: no default pool)" if path == "settings['default_pool']" else ""
            raise SettingsError(f"{path}: {error}{hint}") from None
        if name in pools:
            raise SettingsError(f"{path}: these settings name a pool {name!r} twice")
        pools[name] = _with_options(path, defaults, {} if overrides is None else overrides)
    return Plan(default_pool or None, defaults, pools)


def _extra_pools(extra: object) -> Iterator[tuple[str, Any, object]]:
    """Yield path, name and options of each pool, in any of the three forms."""
    path = "settings['extra_pools']"
    if isinstance(extra, Mapping):
        yield from ((f"{path}[{name!r}]", name, options) for name, options in extra.items())
        return
    if isinstance(extra, str | bytes | bytearray) or not isinstance(extra, Iterable):
        raise SettingsError(f"{path} must be a list or a mapping, not {extra!r}")
    for index, entry in enumerate(extra):
        if isinstance(entry, Mapping):
            for name, options in entry.items():
                yield f"{path}[{index}][{name!r}]", name, options
        else:
            yield f"{path}[{index}]", entry, {}


def _with_options(
    path: str, options: PoolOptions, given: Any, ignored: Iterable[str] = ()
) -> PoolOptions:
    """Return a copy of the options with those that are given."""
    if not isinstance(given, Mapping):
        raise SettingsError(f"{path} must be a mapping of options, not {given!r}")
    known = [*ignored, *POOL_CHECKS]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise SettingsError(f"{path}[{key!r}]: unknown setting; {suggest(str(key), known)}")
        if key in ignored:
            continue
        try:
            is_none = value is None and key in _MAY_BE_NONE
            values[key] = None if is_none else POOL_CHECKS[key](key, value)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{path}[{key!r}]: {error}") from None
    return options._replace(**values)
