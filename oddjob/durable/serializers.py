"""Serializers: how values become bytes in a store, and who is trusted to have written them.

*Pickle* carries nearly everything, and reading it can run anything: it is for files, whose writers
are trusted as the program itself. *Signed pickle* is for servers: nothing is unpickled before its
signature is verified. *JSON* needs no trust: reading it runs no code. It carries texts, numbers,
booleans, None, lists, and dicts with texts as keys; everything else is a `TypeError`, rather than
something that comes back as something else.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from types import BuiltinFunctionType, WrapperDescriptorType
from typing import Any, Final, Protocol

from oddjob.compat import override
from oddjob.durable.plain_options import find_exception, from_plain, to_plain
from oddjob.errors import PayloadError
from oddjob.signing import SigningKeys

_PROTOCOL: Final = 5
_GLOBAL: Final = b"\x93"  # pickle's instruction to look up a class; or any such byte
_PLAIN: Final = (str, int, float, bool, type(None))
_JSON: Final = json.JSONDecoder()


class Serializer(Protocol):
    """Makes bytes of values. `about` says what they belong to."""

    def dump(self, value: Any, about: Sequence[str]) -> bytes:
        """Return the bytes of a value; raises anything if it has none."""
        ...

    def load(self, data: bytes, about: Sequence[str]) -> Any:
        """Return the value; raises anything if it cannot be read."""

    def load_plain(self, data: bytes, about: Sequence[str]) -> Any:
        """Return the value; raises anything if that would import or call something."""

    def dump_error(self, error: BaseException, trace: str, about: Sequence[str]) -> bytes:
        """Return the bytes of an exception and its traceback; raises if it has none."""
        ...

    def load_error(self, data: bytes, about: Sequence[str]) -> tuple[BaseException, str]:
        """Return the exception and its traceback; raises if they cannot be read."""
        ...

    def is_plain(self, data: bytes) -> bool:
        """Return whether bytes that we have written name no class: to read them runs no code."""
        ...

    def pack_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a call as they can be dumped."""
        return options

    def unpack_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options as they were before that."""
        return options


class _Remade:
    """An exception that pickle cannot make again, as its ``__init__`` takes other arguments."""

    def __init__(self, error: BaseException) -> None:
        self._error: Final = error

    @override
    def __reduce__(self) -> Any:
        return _remake, (type(self._error), self._error.args, vars(self._error))


def _remake(kind: type[BaseException], args: Any, attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


class _PlainUnpickler(pickle.Unpickler):
    @override
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not looked up")


class PickleSerializer(Serializer):
    """Pickle, for stores whose writers are trusted."""

    @override
    def dump(self, value: Any, about: Sequence[str]) -> bytes:
        return pickle.dumps(value, _PROTOCOL)

    @override
    def load(self, data: bytes, about: Sequence[str]) -> Any:
        return pickle.loads(data)  # noqa: S301

    @override
    def load_plain(self, data: bytes, about: Sequence[str]) -> Any:
        return _PlainUnpickler(BytesIO(data)).load()

    @override
    def dump_error(self, error: BaseException, trace: str, about: Sequence[str]) -> bytes:
        reason = TypeError("pickle makes something else of it")
        for stored in (error, _Remade(error)):
            try:
                data = pickle.dumps((stored, trace), _PROTOCOL)
                if isinstance(pickle.loads(data)[0], BaseException):  # noqa: S301
                    return data
            except Exception as failure:
                reason = failure  # type: ignore[assignment]
        raise reason

    @override
    def load_error(self, data: bytes, about: Sequence[str]) -> tuple[BaseException, str]:
        error, trace = pickle.loads(data)  # noqa: S301
        return error, trace

    @override
    def is_plain(self, data: bytes) -> bool:
        return _GLOBAL not in data


class SignedSerializer(PickleSerializer):
    """Pickle with signatures, for stores that others can write to.

    Args:
        keys: sign and verify.
        store: what the signatures are valid in.
    """

    def __init__(self, keys: SigningKeys, store: str) -> None:
        self._keys: Final = keys
        self._store: Final = store

    @override
    def dump(self, value: Any, about: Sequence[str]) -> bytes:
        return self._keys.sign(super().dump(value, about), (self._store, *about))

    @override
    def load(self, data: bytes, about: Sequence[str]) -> Any:
        return super().load(self._keys.verify(data, (self._store, *about)), about)

    @override
    def load_plain(self, data: bytes, about: Sequence[str]) -> Any:
        return super().load_plain(self._keys.verify(data, (self._store, *about)), about)

    @override
    def dump_error(self, error: BaseException, trace: str, about: Sequence[str]) -> bytes:
        return self._keys.sign(super().dump_error(error, trace, about), (self._store, *about))

    @override
    def load_error(self, data: bytes, about: Sequence[str]) -> tuple[BaseException, str]:
        return super().load_error(self._keys.verify(data, (self._store, *about)), about)


class JsonSerializer(Serializer):
    """JSON, for stores that others can write to."""

    @override
    def dump(self, value: Any, about: Sequence[str]) -> bytes:
        if about[0] == "call":
            _check(value[0], "args")
            _check(value[1], "kwargs")
        else:
            _check(value, "it")
        return json.dumps(value).encode()

    @override
    def load(self, data: bytes, about: Sequence[str]) -> Any:
        # (`json.loads` takes as long again to find out that this is UTF-8 without blanks around.)
        text = data.decode()
        value, end = _JSON.raw_decode(text)
        if end != len(text):
            raise ValueError(f"extra data after {end} characters")
        return value

    @override
    def load_plain(self, data: bytes, about: Sequence[str]) -> Any:
        return self.load(data, about)

    @override
    def dump_error(self, error: BaseException, trace: str, about: Sequence[str]) -> bytes:
        return json.dumps((_pack(error), trace)).encode()

    @override
    def load_error(self, data: bytes, about: Sequence[str]) -> tuple[BaseException, str]:
        error, trace = json.loads(data)
        return _unpack(error), trace

    @override
    def is_plain(self, data: bytes) -> bool:
        return True

    @override
    def pack_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return to_plain(options)

    @override
    def unpack_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return from_plain(options)


# What exceptions have in them, and JSON has not, is a list that begins with its kind.


def _pack(value: Any) -> Any:
    """Return a part of an exception, or one, in terms of JSON; raise `TypeError` if it has none."""
    if type(value) in (list, tuple):
        return [type(value).__name__, *map(_pack, value)]
    if type(value) is bytes:
        return ["bytes", value.hex()]
    if isinstance(value, BaseException):
        kind, text, reduced = type(value), str(value), value.__reduce__()
        # Those of an OSError lack the name of the file; what makes it anew has all.
        given = reduced[1] if isinstance(reduced, tuple) and reduced[0] is kind else value.args
        args, named = _pack_all(dict(enumerate(given))), _pack_all(vars(value))
        is_whole = len(args) == len(given)
        return ["error", kind.__module__, kind.__qualname__, text,
                [*args.values()] if is_whole else [text], named]  # fmt: skip
    _check(value, "it")
    return value


def _pack_all(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the values that JSON has terms for."""
    packed = {}
    for name, value in values.items():
        with suppress(TypeError):
            packed[name] = _pack(value)
    return packed


def _unpack(value: Any) -> Any:
    if type(value) is not list:
        return value
    kind, *items = value
    if kind == "bytes":
        return bytes.fromhex(items[0])
    if kind == "error":
        return _unpack_error(*items)
    found = map(_unpack, items)
    return tuple(found) if kind == "tuple" else [*found]


def _unpack_error(
    module: str, name: str, text: str, args: list[Any], named: dict[str, Any]
) -> BaseException:
    kind = find_exception(f"{module}:{name}")  # it is not imported: that could run anything
    if kind is None:
        return PayloadError(f"{name}: {text} (its class, of {module}, is not known here)")
    arguments = tuple(map(_unpack, args))
    attributes = {each: _unpack(value) for each, value in named.items()}
    is_builtin = isinstance(kind.__init__, WrapperDescriptorType)
    if is_builtin and isinstance(kind.__new__, BuiltinFunctionType):  # it runs no code of a program
        try:
            error = kind(*arguments)
        except Exception:  # one of the arguments was not stored
            return PayloadError(f"{name}: {text} (its arguments cannot be stored)")
        vars(error).update(attributes)
        return error
    return _remake(kind, arguments, attributes)


def _check(value: Any, where: str) -> None:
    """Check that JSON gives a value back as it is; raise a `TypeError` that says why not."""
    kind = type(value)
    if kind is list:
        for n, item in enumerate(value):
            _check(item, f"{where}[{n}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"a key of {where} is {key!r}, and JSON has only texts as keys")
            _check(item, f"{where}[{key!r}]")
    elif kind not in _PLAIN:
        raise TypeError(
            f"{where} is of type {kind.__qualname__}, which JSON does not have: give the pool "
            "signing_keys= to store it with pickle, or pass something simpler"
        )
