"""SigningKeys: secrets that show who has written a payload.

Those who can write to a server are not always trusted, and pickle can run anything. A payload is
signed with HMAC-SHA-256, together with what it belongs to, and the signature is verified before
anything is read.

A call belongs to its store, pool and function; a result or step, to its job. Not verified is how
often a call runs: those who can write to a server can have a stored one run again, with the same
arguments. No number in the signature would change that, as what says that a job has ended is on
that server, too: who can store a call once more can as well delete that it has run.
"""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

from oddjob.compat import override

_VERSION: Final = b"oddjob-1"
_ID_BYTES: Final = 8  # what tells keys apart
_MAC_BYTES: Final = 32
_SHORTEST: Final = 16  # bytes of a key


class SigningKeys:
    """The keys of a program; the first one signs, all of them verify.

    So a key is replaced in two steps: add the new one in front, and leave the old one out when the
    payloads that it has signed are gone.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys: Final = {sha256(key).digest()[:_ID_BYTES]: key for key in keys}

    def sign(self, data: bytes, about: Iterable[str]) -> bytes:
        """Return data with a signature of it, and of what it is about."""
        key_id, key = next(iter(self._keys.items()))
        return key_id + _mac(key, key_id, data, about) + data

    def verify(self, signed: bytes, about: Iterable[str]) -> bytes:
        """Return the data that was signed.

        Raises:
            ValueError: the signature is not valid; the message says why.
        """
        key_id, mac = signed[:_ID_BYTES], signed[_ID_BYTES : _ID_BYTES + _MAC_BYTES]
        data = signed[_ID_BYTES + _MAC_BYTES :]
        key = self._keys.get(key_id)
        if key is None:
            raise ValueError("it is not signed with any of the signing keys")
        if not hmac.compare_digest(mac, _mac(key, key_id, data, about)):
            raise ValueError("its signature is not valid: it was changed, or belongs elsewhere")
        return data

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKeys) and list(self._keys) == list(other._keys)

    @override
    def __hash__(self) -> int:
        return hash(tuple(self._keys))

    @override
    def __repr__(self) -> str:
        return f"<{len(self._keys)} signing keys>"


def _mac(key: bytes, key_id: bytes, data: bytes, about: Iterable[str]) -> bytes:
    mac = hmac.new(key, digestmod=sha256)
    for part in (_VERSION, key_id, *(each.encode() for each in about), data):
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.digest()


def unverified(signed: bytes) -> bytes:
    """Return data without its signature: anybody may have written it, so it is only looked at."""
    return signed[_ID_BYTES + _MAC_BYTES :]


def as_signing_keys(name: str, value: Any) -> SigningKeys:
    """Return the keys that an option is given as texts or bytes; the secrets are in no error."""
    if isinstance(value, SigningKeys):
        return value
    given = [*value] if isinstance(value, list | tuple) else [value]
    if not all(isinstance(key, str | bytes) for key in given):
        raise TypeError(f"{name} must be a key, or a list of keys: texts or bytes")
    keys = [key.encode() if isinstance(key, str) else key for key in given]
    if not keys or any(len(key) < _SHORTEST for key in keys):
        raise ValueError(f"{name} must be keys of {_SHORTEST} bytes or more")
    return SigningKeys(keys)
