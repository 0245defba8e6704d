"""Reads vectors strictly: each member must be there, be of its type, be used, and be as computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gmpy2 import mpz

from wattveil.paillier.keys import NotACiphertext
from wattveil_meter import wire
from wattveil_meter.fields import Malformed
from wattveil_meter.record import Record


class Wrong(Exception):
    """A vector and this implementation differ; the message says where."""


class Vector:
    """A JSON object whose members must all be asked for, and whose guard, if any, must be right."""

    def __init__(self, item: object, tables: Mapping[bytes, bytes] | None = None) -> None:
        if not isinstance(item, dict):
            raise Wrong("not an object")
        self.tables = tables or {}
        self._item = item
        self._seen = {"name", "what", "success"}
        if "guard" in item:
            rest = {key: value for key, value in item.items() if key not in _UNGUARDED}
            text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
            self.expect("guard", hashlib.sha256(text.encode()).hexdigest()[:16])
        elif item.get("success") is False:
            raise Wrong("a refused operation without a guard")

    def __contains__(self, key: str) -> bool:
        return key in self._item

    def raw(self, key: str) -> Any:
        """A member as JSON gave it."""
        self._seen.add(key)
        if key not in self._item:
            raise Wrong(f'"{key}" is missing')
        return self._item[key]

    def text(self, key: str) -> str:
        """A string."""
        return str(_typed(self.raw(key), str, key))

    def integer(self, key: str) -> int:
        """A JSON integer."""
        return int(_typed(self.raw(key), int, key))

    def integers(self, key: str) -> list[int]:
        """A list of JSON integers."""
        return [_typed(value, int, key) for value in _typed(self.raw(key), list, key)]

    def data(self, key: str) -> bytes:
        """Bytes from lower-case hexadecimal."""
        return _data(self.raw(key), key)

    def datas(self, key: str) -> list[bytes]:
        """A list of byte strings."""
        return [_data(value, key) for value in _typed(self.raw(key), list, key)]

    def number(self, key: str) -> int:
        """A number from its shortest lower-case hexadecimal form."""
        return _number(self.raw(key), key)

    def numbers(self, key: str) -> list[int]:
        """A list of such numbers."""
        return [_number(value, key) for value in _typed(self.raw(key), list, key)]

    def record(self) -> Any:
        """The record, parsed."""
        return Record.parse(self.data("record"))

    def operations(self, key: str = "operations") -> Iterator[Vector]:
        """The operations, each closed when the next is taken."""
        for item in _typed(self.raw(key), list, key):
            operation = Vector(item, self.tables)
            yield operation
            operation.finish()

    def expect(self, key: str, got: object) -> None:
        """The member must be what this implementation computed, in its JSON form."""
        wanted = self.raw(key)
        if isinstance(got, bytes):
            got = got.hex()
        if type(wanted) is not type(got) or wanted != got:
            raise Wrong(f'"{key}" differs')

    def expect_number(self, key: str, got: int | mpz) -> None:
        """The same for numbers in hexadecimal."""
        self.expect(key, f"{int(got):x}")

    def attempt(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result where the operation succeeds; None where it is refused as it must."""
        success = self._item.get("success")
        if not isinstance(success, bool):
            raise Wrong('"success" is missing')
        try:
            result = function(*args)
        except (Malformed, NotACiphertext, wire.Refused, ValueError) as error:
            if success:
                raise Wrong(f"refused: {error}") from None
            self.expect("reason", _reason(error))
            return None
        if not success:
            raise Wrong(f"accepted what must be refused: {self._item.get('what', '')}")
        return result

    def finish(self) -> None:
        """Every member was used."""
        unknown = set(self._item) - self._seen
        if unknown:
            raise Wrong(f"members unknown to this wattveil: {', '.join(sorted(unknown))}")


_UNGUARDED = ("guard", "operations")


def _reason(error: Exception) -> str:
    if isinstance(error, wire.Refused):
        return str(error.reason)
    if isinstance(error, NotACiphertext):
        return "not_a_ciphertext"
    if isinstance(error, Malformed):
        return "malformed"
    return "entropy" if "entropy" in str(error) else "error"


def _typed(value: Any, kind: type, key: str) -> Any:
    if type(value) is not kind:
        raise Wrong(f'"{key}" is not of the right type')
    return value


def _data(value: object, key: str) -> bytes:
    text = _typed(value, str, key)
    if set(text) - set("0123456789abcdef") or len(text) % 2:
        raise Wrong(f'"{key}" is not lower-case hexadecimal')
    return bytes.fromhex(text)


def _number(value: object, key: str) -> int:
    text = _typed(value, str, key)
    if f"{int(text, 16):x}" != text:
        raise Wrong(f'"{key}" is not a number in shortest hexadecimal form')
    return int(text, 16)
