"""Shares of the trained weights: what is delivered, and the table about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mixture import SHARES, Mixed, append, delivered_with, read, text

from napari_unet.core import delivery

BASE = Mixed("SEM", 0, 20, 150, 0.0, 0.8, 0.3, 50, 25, 25, 40, 30, 30)


def test_results_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mixture.csv"
    append(path, [BASE])
    append(path, [replace(BASE, share=0.35)])
    assert read(path) == [BASE, replace(BASE, share=0.35)]
    assert read(tmp_path / "none.csv") == []


def all_shares(base: Mixed, **changed: int) -> list[Mixed]:
    """Return one case; loss and quality are best at 0.2."""
    found = [replace(base, share=share, loss=1, quality=0) for share in SHARES]
    found = [replace(one, loss=0.5, quality=1) if one.share == 0.2 else one for one in found]
    return [replace(one, **changed) if one.share == 0.2 else one for one in found]


def test_changes_are_those_of_the_same_case() -> None:
    other = replace(BASE, seed=1, tp50=100, fp50=0, fn50=0)
    report = text(
        [*all_shares(BASE, tp50=60, fn50=15), *all_shares(other, tp50=80, fn50=20)],
    )
    for name in ("0.2", "of least loss", "of best cells"):
        line = next(line for line in report.splitlines() if line.startswith(f"| {name} |"))
        assert line == f"| {name} | -0.050 | -0.200 | 1 | 1 | +0.000 |"
    assert "| 0.7 | +0.000 | +0.000 | 0 | 0 | +0.000 |" in report
    assert "2 cases of 20 painted cells and 150 steps" in report


@pytest.mark.parametrize("share", SHARES)
def test_a_share_is_delivered_whatever_the_guard_says(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def deliver(*arguments: Any) -> Any:
        margins = {
            name: delivery.margin(name, 1.0, held_back=True)
            for name in ("base", "mixture", "tuned")
        }
        asked.update(share=delivery.MIXTURE, first=min(margins, key=margins.__getitem__))
        return arguments[0]

    before = delivery.margin, delivery.MIXTURE
    monkeypatch.setattr(delivery, "deliver", deliver)
    assert delivered_with(share, "model") == "model"
    assert asked["first"] == {0.0: "base", 1.0: "tuned"}.get(share, "mixture")
    assert asked["first"] != "mixture" or asked["share"] == share
    assert (delivery.margin, delivery.MIXTURE) == before
