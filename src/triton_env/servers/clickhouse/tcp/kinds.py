"""How many bytes a column of each type takes in a block, which nothing in the block says.

Walks are generators: they stop with a bare `yield` where the bytes end, and go on when there are more.
Source of the layouts: ClickHouse, src/DataTypes/Serializations. What is written as is described there in versions or
modes that an engine of 26.9 writes by itself, and clients do too; other ones are refused.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Final, Literal, TypeVar

from .. import sql
from ..errors import INCORRECT_DATA, NOT_IMPLEMENTED, ServerError

T = TypeVar("T")
Walk = Generator[None, None, T]

_LONGEST_STRING: Final = 1 << 30  # bytes; ClickHouse, DEFAULT_MAX_STRING_SIZE
_LONGEST_TYPE: Final = 1 << 20
_DEEPEST: Final = 100
_MOST_ITEMS: Final = 1 << 40
_INDEX_WIDTHS: Final = (1, 2, 4, 8)
_ADDITIONAL_KEYS: Final = 1 << 9
_SHARED: Final = "SharedVariant"
_FLATTENED: Final = 3
"""The version of Dynamic and JSON without what is shared; clients since 2025 send it."""
_INDEXES: Final[tuple[tuple[int, Literal["B", "H", "I"]], ...]] = ((1, "B"), (2, "H"), (4, "I"))


class Cursor:
    """A place in bytes that come piece by piece. It may be ahead of them."""

    def __init__(self) -> None:
        self.data = b""
        self.position = 0
        self._copied = 0
        self._copies: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._copy()
        ahead = max(0, self.position - len(self.data))
        self.data = self.data[self.position :] + data if self.position < len(self.data) else data
        self.position, self._copied = ahead, 0

    def rest(self) -> bytes:
        """Take away what comes after the place."""
        self._copy()
        rest, self.data = self.data[self.position :], self.data[: self.position]
        return rest

    def copies(self) -> bytes:
        """What the place has passed since the last call, less what was dropped."""
        self._copy()
        copies, self._copies = self._copies, []
        return copies[0] if len(copies) == 1 else b"".join(copies)

    def _copy(self) -> None:
        end = min(self.position, len(self.data))
        if end > self._copied:
            self._copies.append(self.data[self._copied : end])
            self._copied = end

    def drop(self, count: int) -> Walk[bytes]:
        """Pass so many bytes that are not copied."""
        self._copy()
        yield from self.need(count)
        dropped = self.data[self.position : self.position + count]
        self.position += count
        self._copied = self.position
        return dropped

    def need(self, count: int) -> Walk[None]:
        """Wait until so many bytes are here."""
        while len(self.data) - self.position < count:
            yield

    def take(self, count: int) -> Walk[bytes]:
        """Pass so many bytes, and return them."""
        yield from self.need(count)
        self.position += count
        return self.data[self.position - count : self.position]

    def uint64(self) -> Walk[int]:
        """A number in eight bytes."""
        return int.from_bytes((yield from self.take(8)), "little")

    def varint(self) -> Walk[int]:
        """A number of at least zero, seven bits in each byte."""
        value = 0
        for place in range(10):
            (byte,) = yield from self.take(1)
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise ServerError(INCORRECT_DATA, "A number in a block is too long")

    def text(self, limit: int = _LONGEST_TYPE) -> Walk[str]:
        """A string of at most `limit` bytes."""
        length = yield from self.varint()
        if length > limit:
            raise ServerError(INCORRECT_DATA, f"A name in a block has {length} bytes, of which {limit} are allowed")
        return (yield from self.take(length)).decode("utf-8", "surrogateescape")

    def strings(self, count: int) -> Walk[None]:
        """Pass so many strings."""
        while count:
            data, position = self.data, self.position
            try:
                while count:
                    length = data[position]
                    position += 1
                    if length > 0x7F:
                        self.position = position - 1
                        length = yield from self.varint()
                        if length > _LONGEST_STRING:
                            raise ServerError(INCORRECT_DATA, f"A string in a block has {length} bytes")
                        data, position = self.data, self.position
                    position += length
                    count -= 1
            except IndexError:
                self.position = position
                yield
            else:
                self.position = position


class Kind:
    """How a column is laid out: what comes before the data of all its parts, then the data."""

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass what comes before the data; returns the kind that the data is of."""
        yield from ()
        return self

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass the data of so many rows. One that always has another in its place after `prefix` has none."""
        raise NotImplementedError


class Fixed(Kind):
    """The same number of bytes in each row."""

    def __init__(self, width: int) -> None:
        self.width = width

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        yield from ()
        cursor.position += self.width * rows


class Strings(Kind):
    """Strings, each after its length."""

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        return cursor.strings(rows)


class Together(Kind):
    """Columns after each other, such as those of a tuple."""

    def __init__(self, parts: Sequence[Kind]) -> None:
        self._parts = parts

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass those of the parts."""
        parts = []
        for part in self._parts:
            parts.append((yield from part.prefix(cursor)))
        return Together(parts)

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        for part in self._parts:
            yield from part.data(cursor, rows)


class Arrays(Kind):
    """Where each array ends, then the items of all."""

    def __init__(self, items: Kind) -> None:
        self._items = items

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass that of the items."""
        return Arrays((yield from self._items.prefix(cursor)))

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        if rows:
            cursor.position += 8 * (rows - 1)
            count = yield from cursor.uint64()
            if count > _MOST_ITEMS:
                raise ServerError(INCORRECT_DATA, f"Arrays in a block have {count} items")
            yield from self._items.data(cursor, count)


class Dictionary(Kind):
    """LowCardinality: the values that occur, then the place of each row's value among them."""

    def __init__(self, keys: Kind) -> None:
        self._keys = keys

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass the version."""
        yield from _expect(cursor, "LowCardinality", 1)
        return Dictionary((yield from self._keys.prefix(cursor)))

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        while rows > 0:
            flags = yield from cursor.uint64()
            width = _INDEX_WIDTHS[flags & 3]
            if flags & 0xFF > 3 or not flags & _ADDITIONAL_KEYS:
                raise ServerError(INCORRECT_DATA, "A column of LowCardinality has no dictionary of its own")
            yield from self._keys.data(cursor, (yield from cursor.uint64()))
            count = yield from cursor.uint64()
            if not 0 < count <= rows:
                raise ServerError(INCORRECT_DATA, f"A column of LowCardinality has {count} instead of {rows} rows")
            cursor.position += width * count
            rows -= count


class OneOf(Kind):
    """Variant: which type each row has, then a column for each type with the rows that have it."""

    def __init__(self, parts: Sequence[Kind]) -> None:
        self._parts = parts

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass the mode, and those of the parts."""
        yield from _expect(cursor, "Variant", 0)
        parts = []
        for part in self._parts:
            parts.append((yield from part.prefix(cursor)))
        return OneOf(parts)

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        types = yield from cursor.take(rows)
        for number, part in enumerate(self._parts):
            if count := types.count(number):
                yield from part.data(cursor, count)


class Flat(Kind):
    """Dynamic as clients write it: the number of the type of each row, then a column for each type."""

    def __init__(self, parts: Sequence[Kind]) -> None:
        self._parts = parts

    def data(self, cursor: Cursor, rows: int) -> Walk[None]:
        """Pass it."""
        # The number after the last type stands for NULL.
        width, letter = next((width, letter) for width, letter in _INDEXES if len(self._parts) < 1 << 8 * width)
        numbers = Counter(memoryview((yield from cursor.take(width * rows))).cast(letter))
        for number, part in enumerate(self._parts):
            if count := numbers[number]:
                yield from part.data(cursor, count)


class Changing(Kind):
    """Dynamic: a Variant of types that the block names."""

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass the version and the types."""
        version = yield from _expect(cursor, "Dynamic", 1, 2, _FLATTENED)
        if version == 1:
            yield from cursor.varint()
        count = yield from cursor.varint()
        names = []
        for _ in range(_reasonable(count)):
            names.append((yield from cursor.text()))
        if version == _FLATTENED:
            flat = []
            for name in names:
                flat.append((yield from kind_of(name).prefix(cursor)))
            return Flat(flat)
        parts = [Strings() if name == _SHARED else kind_of(name) for name in sorted([*names, _SHARED])]
        return (yield from OneOf(parts).prefix(cursor))


class Objects(Kind):
    """JSON: a column for each path with a type, one for each other frequent path, and the rest in one."""

    def __init__(self, typed: Sequence[Kind]) -> None:
        self._typed = typed

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Pass the version, the paths, and what comes before the data of each."""
        version = yield from _expect(cursor, "JSON", 0, 1, 2, _FLATTENED)
        if version == 1:
            return Strings()
        if version == 0:
            yield from cursor.varint()
        count = yield from cursor.varint()
        for _ in range(_reasonable(count)):
            yield from cursor.text()
        rest = [] if version == _FLATTENED else [Arrays(Together([Strings(), Strings()]))]
        return (yield from Together([*self._typed, *[Changing()] * count, *rest]).prefix(cursor))


class Refused(Kind):
    """What cannot be followed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def prefix(self, cursor: Cursor) -> Walk[Kind]:
        """Refuse it.

        Raises:
            ServerError: always.
        """
        yield from ()
        raise ServerError(NOT_IMPLEMENTED, f"Columns of the type {self._name} are not sent over the native protocol")


def _expect(cursor: Cursor, what: str, *allowed: int) -> Walk[int]:
    found = yield from cursor.uint64()
    if found not in allowed:
        raise ServerError(NOT_IMPLEMENTED, f"A column of {what} is written in the version or mode {found}")
    return found


def _reasonable(count: int) -> int:
    if count > 1 << 16:
        raise ServerError(INCORRECT_DATA, f"A column in a block has {count} types or paths")
    return count


_WIDTHS: Final = {
    "Nothing": 1, "Bool": 1, "Date": 2, "Date32": 4, "DateTime": 4, "DateTime32": 4, "DateTime64": 8, "Time": 4,
    "Time64": 8, "UUID": 16, "IPv4": 4, "IPv6": 16, "Enum8": 1, "Enum16": 2, "BFloat16": 2, "Float32": 4,
    "Float64": 8, "Decimal32": 4, "Decimal64": 8, "Decimal128": 16, "Decimal256": 32, "Point": 16,
    **{f"{sign}Int{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)},
}  # fmt: skip
_ALIASES: Final = {
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
    "Geometry": "Variant(LineString, MultiLineString, MultiPolygon, Point, Polygon, Ring)",
}
_DECIMALS: Final = ((9, 4), (18, 8), (38, 16), (76, 32))
_BITS: Final = {"BFloat16": 16, "Float32": 32, "Float64": 64}


@functools.lru_cache(512)
def kind_of(name: str) -> Kind:
    """The kind of a type, by its name as a block has it.

    Raises:
        ServerError: the name is not that of a type.
    """
    return _kind_of(name, 0)


def _kind_of(name: str, depth: int) -> Kind:
    if depth > _DEEPEST:
        raise ServerError(INCORRECT_DATA, "A type in a block is nested too deep")
    head, opening, inside = name.strip().partition("(")
    if head in _WIDTHS:
        return Fixed(_WIDTHS[head])
    if head.startswith("Interval"):
        return Fixed(8)
    inside = inside.rstrip().removesuffix(")").strip()
    try:
        # A name that is not UTF-8 raises a ValueError here.
        arguments = sql.split_list(inside) if opening and inside else []
        return _composed(name, head, arguments, depth + 1)
    except (LookupError, ValueError, StopIteration):
        raise ServerError(INCORRECT_DATA, f"Bad type in a block: {name[:200]}") from None


def _composed(name: str, head: str, arguments: list[str], depth: int) -> Kind:
    match head:
        case "String":
            return Strings()
        case "FixedString":
            return Fixed(int(arguments[0]))
        case "Decimal":
            return Fixed(next(width for digits, width in _DECIMALS if int(arguments[0]) <= digits))
        case "QBit":
            return Fixed(_BITS[arguments[0]] * ((int(arguments[1]) + 7) // 8))
        case "Nullable":
            return _together([Fixed(1), _kind_of(arguments[0], depth)])
        case "LowCardinality":
            # The values of a Nullable are written without marks: the first one stands for NULL.
            values = arguments[0]
            nullable = values.startswith("Nullable(")
            return Dictionary(_kind_of(values[len("Nullable(") : -1] if nullable else values, depth))
        case "Array":
            return Arrays(_kind_of(arguments[0], depth))
        case "Map":
            return Arrays(_together([_kind_of(each, depth) for each in arguments]))
        case "Nested":
            return Arrays(_together([_kind_of(_of_element(each), depth) for each in arguments]))
        case "Tuple":
            # A tuple of nothing has a byte in each row.
            return _together([_kind_of(_of_element(each), depth) for each in arguments]) if arguments else Fixed(1)
        case "SimpleAggregateFunction":
            return _kind_of(arguments[1], depth)
        case "Variant":
            return OneOf([_kind_of(each, depth) for each in sorted(arguments)])
        case "Dynamic":
            return Changing()
        case "JSON":
            paths = sorted(filter(None, map(_path, arguments)))
            return Objects([_kind_of(kind, depth) for _, kind in paths])
        case _ if head in _ALIASES:
            return _kind_of(_ALIASES[head], depth)
    return Refused(name)


def _together(parts: Sequence[Kind]) -> Kind:
    widths = [part.width for part in parts if isinstance(part, Fixed)]
    return Fixed(sum(widths)) if len(widths) == len(parts) else Together(parts)


def _of_element(element: str) -> str:
    """The type of an element of a tuple, which may have a name before it."""
    encoded = element.encode("utf-8", "surrogateescape")
    tokens = sql.tokens_of(encoded)
    next(tokens)
    second = next(tokens, None)
    if second is None or second.group() == b"(":
        return element
    return encoded[second.start() :].decode("utf-8", "surrogateescape")


def _path(argument: str) -> tuple[str, str] | None:
    """A path of JSON and its type; None for what says something else about the paths."""
    encoded = argument.encode("utf-8", "surrogateescape")
    path = b""
    for token in sql.tokens_of(encoded):
        if token.group() != b"." and path and not path.endswith(b"."):
            if path == b"SKIP" or token.group() == b"=":
                return None
            return path.decode("utf-8", "surrogateescape"), encoded[token.start() :].decode("utf-8", "surrogateescape")
        path += token.group().strip(b"`")
    raise ValueError(argument)
