"""PoolView: a pool with options on every job, which ``pool.options(…)`` returns."""

from collections.abc import Callable, Mapping
from typing import Any

from oddjob.compat import override
from oddjob.keys import constant_key
from oddjob.options import UserConnection
from oddjob.quantities import Seconds
from oddjob.submitter import Submitter


class PoolView(Submitter):
    """A pool with options on every job, as ``pool.options(…)`` returns it."""

    _connection: UserConnection  # that the jobs of this view, and of views of it, refer to weakly

    def __init__(self, source: Submitter, options: Mapping[str, Any]) -> None:
        self._source = source  # refers to the pool: an anonymous one lives as long as its views
        self._options = options
        self._core, self._policy = source._core, source._policy
        given = options.get("key")
        key = constant_key(given)
        self._key = source._key if given is None else key
        if key is not None:
            if self._core.dispatcher.limited is None and not self._policy.is_durable:
                self._core.use_limits()
            if len(options) == 1:
                return  # quick: often there is a view for each job
            options = {**options, "key": None}
        self._use(self._core, self._policy.settings.replace(**options))

    @override
    def __repr__(self) -> str:
        changes = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"<{self._source!r} with {changes}>"

    @override
    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: Seconds | None = None
    ) -> None:
        """Shut down the pool itself; see `Pool.shutdown`."""
        shutdown: Callable[..., None] = self._source.shutdown
        shutdown(wait, cancel_futures=cancel_futures, timeout=timeout)


PoolView._view_class = PoolView
