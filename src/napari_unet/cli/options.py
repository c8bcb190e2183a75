"""Command line options made from the settings: one description serves panels and options."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from napari_unet.core.errors import SettingsError
from napari_unet.core.settings import FieldInfo, Settings, describe

S = TypeVar("S", bound=Settings)


class OptionGroups:
    """Where the options of one command go: everyday ones are listed, expert ones on request."""

    def __init__(self, parser: argparse.ArgumentParser, *, show_experts: bool) -> None:
        self._everyday = parser.add_argument_group("settings")
        self._expert = parser.add_argument_group(
            "expert settings" if show_experts else "expert settings (list them with --help-all)"
        )
        self._show_experts = show_experts

    def add(
        self,
        settings: type[Settings],
        *,
        prefix: str = "",
        skip: Collection[str] = (),
        experts: Collection[str] = (),
        everyday: Collection[str] = (),
        drop_choices: Collection[str] = (),
        texts: Mapping[str, str] | None = None,
        default: str | None = None,
    ) -> None:
        """Add one option per field of ``settings``.

        Parameters
        ----------
        settings
            Class to read the fields from.
        prefix
            Put before each name, for example ``augment-``.
        skip
            Fields that get no option.
        experts
            Fields that count as expert settings here although their panel shows them.
        everyday
            The reverse.
        drop_choices
            Choices that make no sense on a command line.
        texts
            Help that differs from the field's own.
        default
            What is used when an option is left out, when it is not the field's default.
        """
        for info in describe(settings):
            if info.name in skip:
                continue
            expert = (info.expert or info.name in experts) and info.name not in everyday
            group = self._expert if expert else self._everyday
            text = (texts or {}).get(info.name) or _help(info, default)
            if expert and not self._show_experts:
                text = argparse.SUPPRESS
            _add_option(group, info, prefix, text, drop_choices)


def _add_option(
    group: argparse._ArgumentGroup,
    info: FieldInfo,
    prefix: str,
    help_text: str,
    drop_choices: Collection[str],
) -> None:
    flag = f"--{prefix}{info.name}".replace("_", "-")
    choices = None if info.choices is None else [c for c in info.choices if c not in drop_choices]
    common: dict[str, Any] = {
        "dest": _destination(prefix, info.name),
        "default": argparse.SUPPRESS,
        "help": help_text,
    }
    if info.type is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        return
    metavar = "|".join(_spelled(c) for c in choices) if choices else (info.unit or "N").upper()
    if info.optional and choices:
        metavar += "|none"
    group.add_argument(flag, type=_converter(info, choices), metavar=metavar, **common)


def _destination(prefix: str, name: str) -> str:
    return f"{prefix}{name}".replace("-", "_")


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _help(info: FieldInfo, default: str | None) -> str:
    text = info.help.rstrip(".")
    if default is None and info.default is not None:
        default = f"{_spelled(info.default)} {info.unit}".strip()
    if default is not None and "(default" not in text:
        text += f" (default: {default})"
    return f"{text}.".replace("%", "%%")


def _converter(info: FieldInfo, choices: list[Any] | None) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        if info.optional and text.lower() == "none":
            return None
        if choices is not None:
            named = {_spelled(choice): choice for choice in choices}
            if text not in named:
                raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(named)}")
            return named[text]
        try:
            value = info.type(text)
        except ValueError:
            kind = "whole number" if info.type is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {kind}") from None
        try:
            info.check(value)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None
        return value

    return convert


def given(arguments: argparse.Namespace, settings: S, *, prefix: str = "") -> S:
    """Return ``settings`` changed by the options that were given on the command line."""
    changes = {
        info.name: getattr(arguments, _destination(prefix, info.name))
        for info in describe(settings)
        if hasattr(arguments, _destination(prefix, info.name))
    }
    return dataclasses.replace(settings, **changes)
