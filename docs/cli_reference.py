"""Write docs/reference/cli.md from the options themselves: ``python docs/cli_reference.py``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from napari_unet.cli.parser import build_parser

PAGE = Path(__file__).parent / "reference" / "cli.md"

_HEAD = """\
# Command line

Exit status: 0 done; 2 bad usage or bad input, with one sentence on standard error and nothing
overwritten; 130 interrupted with Ctrl+C, with what was done kept.

<!-- Written by docs/cli_reference.py: change the help texts in the program, not here. -->
"""


def page() -> str:
    """Return the page: the full help of every command."""
    parser = build_parser(["--help-all"])
    parts = [_HEAD, _section("napari-unet", parser)]
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parts += [_section(f"napari-unet {name}", each) for name, each in commands.choices.items()]
    return "\n".join(parts)


def _section(title: str, parser: argparse.ArgumentParser) -> str:
    return f"## `{title}`\n\n```text\n{parser.format_help()}```\n"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    PAGE.write_text(page(), encoding="utf-8")
