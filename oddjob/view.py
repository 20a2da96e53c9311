"""PoolView: a pool with options on every job, which ``pool.options(…)`` returns."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import ref

from oddjob.compat import override
from oddjob.keys import constant_key
from oddjob.quantities import Seconds
from oddjob.submitter import Submitter


class _UserConnection:
    """A user's connection, in whose transaction the jobs of a view are stored.

    The view refers to it, and its jobs only do so weakly. Otherwise a job would keep open a
    transaction that its user has abandoned, as when a request fails before the commit. (Python
    rolls a transaction back when it collects the connection.)
    """

    def __init__(self, connection: Any) -> None:
        self.connection: Final = connection


class PoolView(Submitter):
    """A pool with options on every job.

    Args:
        source: the pool, or the view of it, whose options are changed. The view refers to it, so an
            anonymous pool lives as long as its views.
        options: what `Pool.options` takes.
        connection: what `Pool.using` takes.
    """

    def __init__(
        self, source: Submitter, options: Mapping[str, Any], connection: Any = None
    ) -> None:
        self._source = source
        self._options = options
        self._core, self._policy, self._key = source._core, source._policy, source._key
        given = options.get("key")
        if given is not None:
            self._key = constant_key(given)
        if self._key is not None and given is not None:
            if self._core.dispatcher.limited is None and not self._policy.is_durable:
                self._core.use_limits()
            if len(options) == 1:
                return  # quick: often there is a view for each job
            options = {**options, "key": None}
        settings = self._policy.settings.replace(**options)
        if connection is not None:
            self._connection = _UserConnection(connection)
            settings = settings._replace(connection=ref(self._connection))
        self._use(self._core, settings)

    @override
    def __repr__(self) -> str:
        changes = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"<{self._source!r} with {changes or 'a connection of its own'}>"

    @override
    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: Seconds | None = None
    ) -> None:
        """Shut down the pool itself; see `Pool.shutdown`."""
        shutdown: Callable[..., None] = self._source.shutdown
        shutdown(wait, cancel_futures=cancel_futures, timeout=timeout)


PoolView._view_class = PoolView
