"""Durations and sizes as people write them: `30s`, `1h30m`, `4GiB`.

A bare number is refused where people write, because nobody can tell seconds from minutes by looking at it. In Python a
duration is a float of seconds and a size an int of bytes; in JSON they are written with their unit again.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

# Largest first, which is also the order in which the parts of a duration are written.
DURATION_UNITS_S: dict[str, Decimal] = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
SIZE_UNITS_BYTES: dict[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
# Added to any date of this century, it is still a date.
MAX_DURATION_S = 3650 * 86_400.0

_NUMBER = r"\d{1,18}(\.\d{1,30})?"
DURATION_PATTERN = "^" + f"(?=.)({_NUMBER}d)?({_NUMBER}h)?({_NUMBER}m)?({_NUMBER}s)?({_NUMBER}ms)?" + "$"
SIZE_PATTERN = f"^{_NUMBER}({'|'.join(SIZE_UNITS_BYTES)})$"
_BARE_NUMBER = re.compile(r"^[-+]?\d+(\.\d+)?$")
_LOOSE = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$")

# What people write elsewhere, and how it is written here; looked up in lower case.
_OTHER_SPELLINGS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "bytes": "B", "k": "KiB", "ki": "KiB", "m": "MiB", "mi": "MiB", "g": "GiB", "gi": "GiB", "t": "TiB", "ti": "TiB",
}  # fmt: skip


def parse_duration(text: str) -> float:
    """Seconds of a duration such as '90s', '1.5h', '1h30m' or '500ms'; ValueError says how to write it."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(
            _advice(text, list(DURATION_UNITS_S), "s", "a duration with its unit, such as 30s, 2m or 1h30m")
        )
    parts = re.findall(r"([\d.]+)(ms|[dhms])", text)
    seconds = float(sum((Decimal(number) * DURATION_UNITS_S[unit] for number, unit in parts), Decimal(0)))
    if seconds > MAX_DURATION_S:
        raise ValueError(f"must be at most {format_duration(MAX_DURATION_S)}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest exact spelling of a duration: parse_duration(format_duration(x)) == x."""
    rest = Decimal(repr(float(seconds)))
    if rest % DURATION_UNITS_S["ms"]:
        return f"{rest:f}s"
    text = ""
    for unit, unit_s in DURATION_UNITS_S.items():
        count, rest = divmod(rest, unit_s)
        text += f"{int(count)}{unit}" if count else ""
    return text or "0s"


def parse_size(text: str) -> int:
    """Bytes of a size such as '512MiB' or '10GB'; ValueError says how to write it."""
    match = re.fullmatch(SIZE_PATTERN, text)
    if not match:
        raise ValueError(_advice(text, list(SIZE_UNITS_BYTES), "MiB", "a size with its unit, such as 512MiB or 10GB"))
    unit = match[2]
    return int(Decimal(text.removesuffix(unit)) * SIZE_UNITS_BYTES[unit])


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling of a size: parse_size(format_size(x)) == x."""
    spellings = [
        f"{size_bytes // factor}{unit}" for unit, factor in SIZE_UNITS_BYTES.items() if size_bytes % factor == 0
    ]
    return min(spellings, key=len)


def _advice(text: str, units: list[str], default_unit: str, wanted: str) -> str:
    """Why a text is not a quantity, with the spelling that was probably meant."""
    if _BARE_NUMBER.match(text):
        number = text.removeprefix("+")
        return f"must be {wanted}" if number.startswith("-") else f"the unit is missing: write {number}{default_unit}"
    if match := _LOOSE.match(text):
        number, written = match.groups()
        spelling = {unit.lower(): unit for unit in reversed(units)}.get(written.lower())
        spelling = spelling or _OTHER_SPELLINGS.get(written.lower())
        if spelling in units:
            return f"write {number}{spelling}"
    return f"must be {wanted}"


Number = TypeVar("Number", int, float)


def _reader(
    parse: Callable[[str], Number], number: Callable[[float], Number]
) -> Callable[[Any, ValidationInfo], Number]:
    """A pydantic validator that reads text by `parse` and passes on numbers from Python code."""

    def read(value: Any, info: ValidationInfo) -> Number:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Python code gives seconds and bytes, as the types say; what people write arrives in JSON mode.
        if is_number and info.mode == "python" and 0 <= value < math.inf:
            return number(value)
        try:
            return parse(str(value) if is_number or isinstance(value, str) else "")
        except ValueError as error:
            raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None

    return read


def _more_than_nothing(seconds: float) -> float:
    if seconds == 0:
        raise PydanticCustomError("quantity", "must be more than 0s")
    return seconds


_duration_schema = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["30s", "2m", "1h30m"]}
_size_schema = {"type": "string", "pattern": SIZE_PATTERN, "examples": ["512MiB", "4GiB", "10GB"]}

Duration = Annotated[
    float,
    BeforeValidator(_reader(parse_duration, float)),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(_duration_schema),
]
"""Seconds; written with a unit."""

PositiveDuration = Annotated[Duration, AfterValidator(_more_than_nothing), WithJsonSchema(_duration_schema)]
"""Seconds, more than none; written with a unit."""

Size = Annotated[
    int,
    BeforeValidator(_reader(parse_size, int)),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(_size_schema),
]
"""Bytes; written with a unit."""
