from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.ablation import COMPLETE, VARIANTS
from benchmarks.few_cells_rows import Row
from torch import nn

from benchmarks import ablation
from napari_unet.core import optimization
from napari_unet.core.settings import TrainSettings

ROW = Row("SEM", 0, 20, 60.0, f"fine-tuned: {COMPLETE}", "", "nuclei@1", "cpu", 2, 20, "a", 1)


def test_every_variant_takes_exactly_one_thing_away() -> None:
    complete = TrainSettings()
    changed = [variant.change(complete) for variant in VARIANTS[1:]]
    for variant, settings in zip(VARIANTS[1:], changed, strict=True):
        elsewhere = not variant.matched or variant.plain_norm
        assert (settings == complete) == elsewhere
    assert VARIANTS[0].change(complete) == complete


def test_plain_batch_norm_is_put_back() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2)).train()
    before = optimization.NORM_FREEZE, optimization.freeze_norm
    with ablation.plain_batch_norm():
        optimization.freeze_norm(net)
        assert net[0].training
        assert optimization.NORM_FREEZE > 1
    assert (optimization.NORM_FREEZE, optimization.freeze_norm) == before
    optimization.freeze_norm(net)
    assert not net[0].training


def test_table_compares_on_the_same_cells() -> None:
    rows = []
    for seed, (complete, without) in enumerate([(8, 6), (5, 4)]):
        full = replace(ROW, seed=seed, tp50=complete, fn50=10 - complete)
        less = replace(
            full, method="fine-tuned: no ridge", tp50=without, fn50=10 - without, merges=2
        )
        rows += [full, less]
    report = ablation.text(rows, "measured today")
    assert "| complete | 2 | 0.650 |" in report
    line = next(line for line in report.splitlines() if line.startswith("| no ridge"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == "0.500"
    assert cells[4] == "-0.150 ± 0.071"
    assert cells[5] == "20.0"
    assert cells[7] == "-0.150"


def test_jobs_cover_what_a_start_knows() -> None:
    jobs = [*VARIANTS]
    tuned = {v.name for v in jobs if "fine-tuned" in v.starts}
    scratch = {v.name for v in jobs if "from scratch" in v.starts}
    assert tuned - scratch == {"sizes not matched", "no anchor to the base"}
    assert scratch - tuned == {"valid in place of same"}


def test_report_without_runs(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    ablation.main(["--report", "--csv", str(tmp_path / "none.csv")])
    assert capsys.readouterr().out == ""
