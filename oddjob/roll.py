"""Roll: a dict that gives back the room of what was taken out."""

from typing import Final, Generic, TypeVar

__all__ = ["Roll"]

K = TypeVar("K")
V = TypeVar("V")

_FEW: Final = 64  # entries for which no room is given back


class Roll(Generic[K, V]):
    """A dict that gives back the room of what was taken out.

    Locking: that of its owner; ``entries`` may be read without. A signal handler or a destructor
    that comes in between finds it whole, and what it does is kept: the dict is replaced only if
    nothing has changed since it was copied, and no call stands between seeing that and doing so.
    """

    __slots__ = ("_changes", "_most", "entries")

    def __init__(self) -> None:
        self.entries: dict[K, V] = {}
        self._changes = 0
        self._most = _FEW  # entries since it was last made small

    def add(self, key: K, value: V) -> None:
        """Put in an entry."""
        self._changes += 1
        self.entries[key] = value
        self._most = max(self._most, len(self.entries))

    def strike(self, key: K) -> None:
        """Take out an entry, if it is there."""
        self._changes += 1
        self.entries.pop(key, None)
        while self._most > _FEW and len(self.entries) < self._most // 4:
            changes = self._changes
            left = dict(self.entries)
            if changes == self._changes:
                self.entries = left
                self._most = max(_FEW, len(left))
