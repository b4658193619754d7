"""Amounts as people write and read them: 0.4M, 400k, 80M."""

import decimal

from jdarts.budget.cost import MILLISECOND, Measure
from jdarts.errors import InputError, shown

_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
#: The largest amount of a bound.
LARGEST = 10**15
#: The words for each measure, after a number.
_WORDS = {"weights": "weights", "multiply_adds": "multiply-adds"}


def amount(text: str | int) -> int:
    """The whole number that a text such as `0.4M`, `400k`, `4e5` or `400000` says.

    Raises:
      InputError: it says no whole number from 1 on.
    """
    written = str(text).strip().replace(",", "").replace("_", "")
    factor = _FACTORS.get(written[-1:].lower(), 1)
    try:
        value = decimal.Decimal(written[:-1].strip() if factor > 1 else written)
    except decimal.InvalidOperation:
        value = decimal.Decimal("nan")
    if value.is_finite() and 0 < value <= LARGEST and 1 <= value * factor <= LARGEST:
        whole = int(value * factor)
        if whole == value * factor:
            return whole
    raise InputError(f"{shown(text, 30)} is no amount; give a whole number such as 400000, 400k, 0.4M or 1.5G")


def amount_text(measure: Measure, value: float) -> str:
    """A cost with its unit: `399,834 weights`, `1.25 ms`."""
    if measure == "latency":
        return f"{value / MILLISECOND:.4g} ms"
    return f"{round(value):,} {_WORDS[measure]}"
