"""A row of a table with its settings, as a text names it: `NAME` or `NAME:SETTING=VALUE,SETTING=VALUE`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jdarts.errors import InputError, shown

T = TypeVar("T")


def rule_from_text(text: str, table: Mapping[str, Callable[..., T]], option: str, *, nothing: str) -> T:
    """Calls the function that a text names, with the settings that it gives.

    Args:
      text: name of a row, and after a colon its settings; a setting that is left out has its default, which decides its type too.
      table: functions of settings, all of which have defaults: numbers or texts.
      option: the option that the text belongs to, for messages.
      nothing: the text that stands for no row, for messages.

    Raises:
      InputError: there is no such row or setting, or a value is of another type or refused by the function.
    """
    name, colon, given = text.partition(":")
    if name not in table:
        raise InputError(f"{option} is {shown(text)}; give {' or '.join(sorted(table))}, or {nothing}")
    defaults = {each.name: each.default for each in inspect.signature(table[name]).parameters.values()}
    settings: dict[str, Any] = {}
    for part in given.split(",") if colon else []:
        setting, equals, value = part.partition("=")
        if setting not in defaults or not equals or setting in settings:
            raise InputError(f"{option} is {shown(text)}; {_form(name, defaults)}")
        try:
            settings[setting] = type(defaults[setting])(value)
        except ValueError:
            raise InputError(
                f"{option} is {shown(text)}: {setting} is {shown(value)}; give {_KINDS[type(defaults[setting])]}"
            ) from None
    try:
        return table[name](**settings)
    except InputError as error:
        raise InputError(f"{option} is {shown(text)}: {error}") from None


_KINDS = {int: "a whole number", float: "a number", str: "a word"}


def _form(name: str, defaults: Mapping[str, Any]) -> str:
    if not defaults:
        return f"{name} has no settings"
    return (
        f"give {name}:"
        + ",".join(f"{setting}={default}" for setting, default in defaults.items())
        + ", or some of these"
    )
