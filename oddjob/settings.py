"""Settings: from the plain dict that ``oddjob.configure`` takes to checked options of pools.

Guarantees: a settings dict is understood as a whole or refused as a whole, with an error that
names the path of the offending key. Nothing is created here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from oddjob.compat import ReadOnly
from oddjob.errors import SettingsError
from oddjob.hints import suggest
from oddjob.option_checks import Check, as_name
from oddjob.options import POOL_CHECKS, PoolKeys, PoolOptions, PoolSettings

_BESIDES_OPTIONS: Final = ("default_pool", "extra_pools")


_Pools = Mapping[str, PoolSettings | None]


class _SettingsKeys(PoolKeys, total=False):
    default_pool: ReadOnly[str | Literal[False]]
    extra_pools: ReadOnly[Sequence[str | _Pools] | _Pools]


if TYPE_CHECKING:  # see `oddjob.options`

    class Settings(_SettingsKeys, total=False, closed=True):
        """What ``oddjob.configure(settings)`` takes: options for all pools, and two more."""

else:

    class Settings(_SettingsKeys, total=False):
        """What ``oddjob.configure(settings)`` takes: options of `Pool` for all pools, and two more.

        Attributes:
            default_pool: the name of the default pool, ``"job"`` if not given; False: none.
            extra_pools: names of further pools, and mappings of a name to options of that pool.
        """


class Plan(NamedTuple):
    """The pools that a settings dict asks for."""

    default_pool: str | None = "job"
    defaults: PoolOptions = PoolOptions()
    pools: Mapping[str, PoolOptions] = {}


def read_settings(settings: Mapping[str, Any], keywords: Mapping[str, Any] = {}) -> Plan:
    """Validate a settings dict, and what is given by keywords; see `oddjob.configure`."""
    if not isinstance(settings, Mapping):
        raise SettingsError(f"settings must be a mapping, not {settings!r}")
    settings = {**settings, **keywords}
    defaults = _with_options("settings", PoolOptions(), settings, _BESIDES_OPTIONS)
    pools: dict[str, PoolOptions] = {}
    for path, name, options in _wanted_pools(settings):
        try:
            as_name("a pool's name", name)
        except (TypeError, ValueError) as error:
            hint = " (False: no default pool)" if path == "settings['default_pool']" else ""
            raise SettingsError(f"{path}: {error}{hint}") from None
        if name in pools:
            raise SettingsError(f"{path}: these settings name a pool {name!r} twice")
        given: Any = {} if options is None else options
        pools[name] = _with_options(path, defaults, given)
        try:
            defaults.refuse_useless(given)
        except TypeError as error:
            raise SettingsError(f"{path}: {error}") from None
    return Plan(settings.get("default_pool", "job") or None, defaults, pools)


def _wanted_pools(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any, object]]:
    """Yield path, name and options of each pool."""
    default_pool = settings.get("default_pool", "job")
    if default_pool is not False:
        yield "settings['default_pool']", default_pool, None
    extra, path = settings.get("extra_pools", ()), "settings['extra_pools']"
    if isinstance(extra, str | bytes | bytearray) or not isinstance(extra, Iterable):
        raise SettingsError(f"{path} must be a list or a mapping, not {extra!r}")
    if isinstance(extra, Mapping):
        entries = [(path, extra)]
    else:
        entries = [(f"{path}[{index}]", entry) for index, entry in enumerate(extra)]
    for place, entry in entries:
        if isinstance(entry, Mapping):
            yield from ((f"{place}[{name!r}]", name, options) for name, options in entry.items())
        else:
            yield place, entry, None


def _with_options(
    path: str, options: PoolOptions, given: Any, ignored: tuple[str, ...] = ()
) -> PoolOptions:
    """Return a copy of the options with those that are given."""
    if not isinstance(given, Mapping):
        raise SettingsError(f"{path} must be a mapping of options, not {given!r}")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in ignored:
            continue
        values[key] = check_option(path, key, value, POOL_CHECKS, ignored)
    return options._replace(**values)


def check_option(
    path: str, key: Any, value: object, checks: Mapping[str, Check], others: Iterable[str] = ()
) -> Any:
    """Return the value of an option as `Pool` keeps it.

    Args:
        path: of the settings that have the option, for the message.
        key: its name.
        value: what was given.
        checks: of known options, by name.
        others: names that are known besides.

    Raises:
        SettingsError: the option is unknown, or the value is wrong.
    """
    if key not in checks:
        hint = suggest(str(key), [*others, *checks])
        raise SettingsError(f"{path}[{key!r}]: unknown setting; {hint}")
    # None, where that is the library's default: the pool has none of what others have.
    if value is None and PoolOptions._field_defaults.get(key, ...) is None:
        return None
    try:
        return checks[key](key, value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{path}[{key!r}]: {error}") from None
