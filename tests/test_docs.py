"""The documentation agrees with the program, and its links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = [ROOT / "docs/first-steps.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]


def test_the_command_line_reference_is_what_help_says(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "docs/cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert module.page() == written, "write it again: python docs/cli_reference.py"


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_guides_tell_to_press_is_in_a_panel(page):
    """Names in italics that begin with a capital are those of buttons, fields and choices."""
    from napari_unet.core import settings

    sources = (ROOT / "src/napari_unet/widgets").glob("*.py")
    shown = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    classes = (settings.TrainSettings, settings.TileSettings)
    fields = {info.name.capitalize() for each in classes for info in settings.describe(each)}
    for name in re.findall(r"(?<!\*)\*([A-Z][^*>]+)\*(?!\*)", page.read_text(encoding="utf-8")):
        assert f'"{name}"' in shown or name in fields, name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


def test_readme_has_exactly_two_commands_to_set_up():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("## Set up")[1].split("```")[1]
    commands = [line.split("#")[0].strip() for line in block.splitlines()[1:] if line.strip()]
    assert commands == ["make demo", "make test"]


def test_every_format_of_the_program_is_in_the_export_page():
    from napari_unet.io.registry import formats

    text = (ROOT / "docs/how-to/export.md").read_text(encoding="utf-8")
    for each in formats():
        assert f"`{each.name}`" in text


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            "how-to/stacks-and-large-images.md",
            ("More options", "One number per object through the stack", "what I see"),
        ),
        ("how-to/improve.md", ("Detection threshold", "Outline threshold", "Smallest cell")),
        ("explanation/object-size.md", ("Measure",)),
    ],
)
def test_the_segment_panel_is_described_in_its_own_words(page, words):
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    widgets = ROOT / "src/napari_unet/widgets"
    source = "".join(
        (widgets / name).read_text(encoding="utf-8")
        for name in ("_segment_form.py", "_object_form.py")
    )
    said = set(re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text))
    for word in words:
        assert word in said
        assert f'"{word}"' in source


def test_every_promise_is_tested():
    """Each of the 25 complaints has a test that exists and says which complaint it is about."""
    text = (ROOT / "docs/explanation/promises.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| `([\w/.]+)::(\w+)` \|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 26))
    for number, file, name in rows:
        module = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        test = next(node for node in module.body if getattr(node, "name", "") == name)
        said = f"{ast.get_docstring(module)} {ast.get_docstring(test)}"
        numbers = re.findall(r"[Cc]omplaints? ([\d, and]+)", said)
        assert number in re.findall(r"\d+", " ".join(numbers)), f"{file}::{name}"


def test_python_names_of_the_pages_can_be_imported():
    import napari_unet

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"^::: napari_unet\.[\w.]*\.(\w+)$", text, re.MULTILINE)
        names += re.findall(r"\b(?:nu|napari_unet)\.([a-z_]+)\(", text)
        for name in names:
            assert hasattr(napari_unet, name), f"{page.name}: {name}"


def test_the_line_between_touching_cells_is_as_wide_as_the_pages_say():
    from napari_unet.core.settings import WeightMapSettings

    word = {1: "one pixel", 2: "two pixels", 3: "three pixels"}[WeightMapSettings().ridge]
    assert f"{word} wide" in (ROOT / "docs/how-to/annotate.md").read_text(encoding="utf-8")
    text = (ROOT / "docs/explanation/annotation.md").read_text(encoding="utf-8")
    assert f"between them ({WeightMapSettings().ridge} pixels)" in text
