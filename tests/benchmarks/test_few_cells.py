from __future__ import annotations

import csv
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.few_cells_data import (
    KINDS,
    LOOKS,
    MOST_SCORED,
    case,
    choose_image,
    held_out_images,
    seed_cell,
)
from benchmarks.few_cells_methods import Counts, Job, count
from benchmarks.few_cells_report import comparable, figure, mean_and_spread, text
from benchmarks.few_cells_rows import Results, Row, newest, pooled, select
from training.base_data import AnnotatedImage, read_collection

from benchmarks import few_cells, few_cells_methods


def disks(centres: list[tuple[int, int]], radius: int = 4, shape=(64, 64)) -> np.ndarray:
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx) in enumerate(centres, start=1):
        labels[np.hypot(y - cy, x - cx) <= radius] = number
    return labels


def image_with(cells: int, name: str = "image") -> AnnotatedImage:
    labels = np.zeros((10, 200), np.int32)
    for number in range(cells):
        labels[2:6, 4 * number : 4 * number + 3] = number + 1
    return AnnotatedImage(name, "kind", name, True, 4.0, labels.astype(np.uint8), labels)


class TestCases:
    def test_only_images_that_no_model_was_trained_on(self, shared_data: Path) -> None:
        for kind in ("SEM", "histology_purple"):
            everything = read_collection(shared_data, (kind,))
            trained_on = {i.group for i in everything if not i.held_out}
            held_out = {i.group for i in everything if i.held_out}
            named = {group for look in LOOKS[kind] for group in look}
            assert named <= held_out
            assert not named & trained_on

    def test_groups_exist_and_are_named_once(self, shared_data: Path) -> None:
        groups = set()
        for folder in ("nuclei_dsb2018", "phc_usiigaci", "em_axon_sem"):
            with (shared_data / folder / "index.csv").open(newline="") as file:
                groups |= {row["group"] or row["id"] for row in csv.DictReader(file)}
        named = [group for looks in LOOKS.values() for look in looks for group in look]
        assert set(named) <= groups
        assert len(named) == len(set(named))

    @pytest.mark.parametrize("kind", ["SEM", "histology_purple"])
    def test_the_painted_image_is_not_scored(self, shared_data: Path, kind: str) -> None:
        for seed in range(3):
            task = case(kind, seed, 5, shared_data)
            assert task.painted == 5
            assert 1 <= len(task.scored) <= MOST_SCORED
            assert task.painted_on is not None
            assert task.painted_on.identifier not in {i.identifier for i in task.scored}
            groups = {task.painted_on.group, *(i.group for i in task.scored)}
            assert any(groups <= set(look) for look in LOOKS[kind])

    def test_cells_are_neighbours_and_nested(self, shared_data: Path) -> None:
        tasks = {cells: case("SEM", 1, cells, shared_data) for cells in (1, 3, 10)}
        painted = {cells: set(np.unique(t.labels)) - {0} for cells, t in tasks.items()}
        assert painted[1] < painted[3] < painted[10]
        assert tasks[1].painted_on is tasks[10].painted_on
        truth = tasks[10].painted_on.labels
        centres = {
            number: np.argwhere(truth == number).mean(axis=0)
            for number in np.unique(truth[truth > 0])
        }
        (middle,) = painted[1]
        distance = {n: math.dist(centre, centres[middle]) for n, centre in centres.items()}
        farthest = max(distance[n] for n in painted[10])
        assert all(distance[n] >= farthest for n in centres if n not in painted[10])

    def test_painted_labels_are_those_of_the_truth(self, shared_data: Path) -> None:
        task = case("SEM", 0, 5, shared_data)
        inside = task.labels > 0
        assert np.array_equal(task.labels[inside], task.painted_on.labels[inside])

    def test_same_arguments_same_case(self, shared_data: Path) -> None:
        first = case("histology_purple", 2, 3, shared_data)
        held_out_images.cache_clear()
        second = case("histology_purple", 2, 3, shared_data)
        assert np.array_equal(first.labels, second.labels)
        assert [i.identifier for i in first.scored] == [i.identifier for i in second.scored]

    def test_nothing_painted_scores_everything_held_out(self, shared_data: Path) -> None:
        task = case("SEM", 0, 0, shared_data)
        assert task.painted == 0
        assert task.diameter is None
        assert len(task.scored) == 2

    def test_roomy_images_are_preferred(self) -> None:
        small, roomy, rich = (image_with(n, str(n)) for n in (6, 25, 40))
        looks = [[small, small], [roomy, small], [rich, small]]
        assert choose_image(looks, 5)[1] is roomy
        assert choose_image(looks, 30)[1] is rich
        assert choose_image(looks[:1], 5)[1] is small

    def test_richest_image_when_none_has_enough(self) -> None:
        look = [image_with(3, "a"), image_with(7, "b")]
        assert choose_image([[image_with(9, "alone")], look], 50)[1] is look[1]

    def test_seed_cell_is_whole_and_typical(self) -> None:
        labels = disks([(2, 2), (20, 20), (45, 45)])
        labels[30, 30] = 9
        random = np.random.default_rng(0)
        found = {tuple(np.round(seed_cell(labels, random))) for _ in range(30)}
        assert found == {(20, 20), (45, 45)}

    def test_seed_cell_at_the_edge_when_there_is_no_other(self) -> None:
        labels = np.zeros((8, 8), np.int32)
        labels[:3, :3] = 1
        assert seed_cell(labels, np.random.default_rng(0)) == (1.0, 1.0)


class TestScoring:
    def test_counts(self) -> None:
        truth = disks([(15, 15), (15, 45), (45, 15)])
        found = truth.copy()
        found[found == 2] = 0
        found[truth == 3] = 0
        found[44:47, 14:17] = 3  # a speck of the third
        found[55:60, 55:60] = 7
        assert count(truth, found) == Counts(
            tp50=1, fp50=2, fn50=2, tp75=1, fp75=2, fn75=2, merges=0, splits=0
        )

    def test_merge_is_counted(self) -> None:
        truth = np.zeros((20, 20), np.int32)
        truth[5:15, 2:9], truth[5:15, 10:17] = 1, 2
        found = np.zeros_like(truth)
        found[5:15, 2:17] = 1
        assert count(truth, found).merges == 1

    def test_counts_add_up(self) -> None:
        one, other = Counts(1, 2, 3, 4, 5, 6, 7, 8), Counts(*[10] * 8)
        assert one + other == Counts(11, 12, 13, 14, 15, 16, 17, 18)

    def test_a_method_that_fails_has_missed_everything(
        self, shared_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(job: Job, task: object) -> None:
            raise RuntimeError("no luck")

        monkeypatch.setitem(few_cells_methods._RUNNERS, "otsu", broken)
        (row,) = few_cells_methods.run(Job("SEM", 0, 5, 0.0, "otsu", threads=1))
        (image,) = case("SEM", 0, 5, shared_data).scored
        assert (row.variant, row.note, row.ap50) == ("failed", "no luck", 0.0)
        assert row.fn50 == len(np.unique(image.labels)) - 1

    def test_otsu_run_fills_a_row(self, shared_data: Path) -> None:
        (row,) = few_cells_methods.run(Job("SEM", 0, 5, 0.0, "otsu", threads=1))
        assert row.painted == 5
        assert row.scored == 1
        assert row.segment_seconds > 0
        assert 0 < row.ap50 < 1


ROW = Row(
    "SEM", 0, 20, 60.0, "tuned", "auto", "nuclei@1", "cpu", 2, 20, "a", 4, tp50=6, fp50=2, fn50=2
)


class TestResults:
    def test_rows_survive_the_file(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "new" / "r.csv")
        results.append([ROW])
        results.append([replace(ROW, seed=1, note='a "quoted", note')])
        again = Results(results.path)
        assert again.rows == results.rows
        assert again.rows[1].note == 'a "quoted", note'

    def test_finished_runs_are_known(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "r.csv")
        results.append([ROW])
        described = asdict(ROW)
        assert Results(results.path).is_done(described)
        for name, value in (("seed", 3), ("budget", 15.0), ("base", "nuclei@2"), ("threads", 1)):
            assert not results.is_done(described | {name: value})

    def test_newest_drops_other_bases_devices_and_repetitions(self) -> None:
        old_base = replace(ROW, base="nuclei@0")
        other_device = replace(ROW, device="cuda")
        repeated = replace(ROW, tp50=9)
        otsu = replace(ROW, method="otsu", variant="", base="", budget=0.0)
        rows = [old_base, other_device, ROW, otsu, repeated]
        assert set(newest(rows)) == {otsu, repeated}

    def test_select_keeps_what_needs_no_budget(self) -> None:
        otsu = replace(ROW, method="otsu", budget=0.0)
        late = replace(ROW, budget=180.0)
        assert list(select([ROW, otsu, late], budget=60.0, kind="SEM")) == [ROW, otsu]

    def test_pooled_is_not_the_mean(self) -> None:
        rows = [replace(ROW, tp50=1, fp50=0, fn50=0), replace(ROW, tp50=0, fp50=0, fn50=9)]
        assert pooled(rows) == pytest.approx(0.1)
        assert math.isnan(pooled([]))


def rows_of_a_grid() -> list[Row]:
    rows = []
    for kind in ("SEM", "phase"):
        for seed in range(2):
            for cells in (5, 20):
                base = replace(
                    ROW,
                    kind=kind,
                    seed=seed,
                    cells=cells,
                    method="base",
                    budget=0.0,
                    tp50=5,
                    fn50=3,
                )
                rows += [base, replace(base, method="otsu", variant="", base="", tp50=2, fn50=6)]
                for budget in (15.0, 60.0):
                    tuned = replace(
                        ROW, kind=kind, seed=seed, cells=cells, budget=budget, tp50=6 + seed
                    )
                    rows += [tuned, replace(tuned, variant="painted")]
    return rows


class TestReport:
    def test_numbers_in_the_table(self) -> None:
        report = text(rows_of_a_grid(), "measured today")
        # Seeds: 6 / (6 + 2 + 2) and 7 / (7 + 2 + 2); together 13 / 21.
        assert "| SEM | fine-tuned base | 0.62 | 0.62 ± 0.03 |" in report
        # Change against the base at 5 / 10, per seed +0.1 and +0.136; the worst is +0.1.
        assert "+0.12 (+0.10)" in report
        assert "measured today" in report

    def test_columns_belong_to_the_same_seeds(self) -> None:
        rows = rows_of_a_grid()
        missing = [r for r in rows if not (r.seed == 1 and r.cells == 5 and r.method == "tuned")]
        kept = comparable(missing, "cells", [5, 20])
        assert {row.seed for row in kept} == {0}
        assert {row.method for row in kept} == {"tuned", "base", "otsu"}
        assert comparable(rows, "cells", [5, 20]) == rows
        without_ours = [row for row in rows if row.method == "otsu"]
        assert comparable(without_ours, "cells", [5, 20]) == without_ours

    def test_failed_and_short_runs_are_named(self) -> None:
        rows = rows_of_a_grid()
        rows.append(replace(ROW, kind="phase", cells=50, painted=48))
        rows.append(replace(ROW, method="cellpose", variant="failed", base="", note="out of luck"))
        report = text(rows, "")
        assert "phase: 48 of 50" in report
        assert "cellpose on SEM: out of luck" in report
        assert "| SEM | Cellpose 3 from scratch |" in report

    def test_unpainted_base(self) -> None:
        unpainted = replace(
            ROW, cells=0, painted=0, budget=0.0, method="base", scored=9, note="nuclei"
        )
        other = replace(unpainted, variant="as is, cells", tp50=0, note="cells")
        report = text([*rows_of_a_grid(), unpainted, other], "")
        assert "| SEM | nuclei | estimated | 0.60 | – | 9 | 8 |" in report
        assert "| SEM | cells | not matched | 0.00 | – | 9 | 2 |" in report

    def test_figure(self, tmp_path: Path) -> None:
        path = tmp_path / "docs" / "curves.png"
        figure(rows_of_a_grid(), path)
        assert path.stat().st_size > 10_000

    def test_one_run_is_enough(self, tmp_path: Path) -> None:
        assert "| SEM | fine-tuned base | 0.60 | 0.60 |" in text([ROW], "")
        figure([ROW], tmp_path / "one.png")
        assert (tmp_path / "one.png").exists()

    def test_mean_and_spread(self) -> None:
        assert mean_and_spread([0.2, math.nan, 0.4]) == pytest.approx((0.3, math.sqrt(0.02)))
        assert mean_and_spread([0.5]) == (0.5, 0.0)
        assert all(map(math.isnan, mean_and_spread([])))


class TestGrid:
    def test_full_grid(self) -> None:
        jobs = list(few_cells.jobs(few_cells.parse(["--full", "--base", "none-yet"])))
        assert len(jobs) == len(set(jobs))
        timed = [job for job in jobs if job.method == "tuned"]
        assert len(timed) == len(KINDS) * 6 * 4 * 5
        assert {job.budget for job in jobs if job.method in ("otsu", "forest", "base")} == {0.0}
        first = next(job for job in jobs if job.cells)
        assert (first.cells, timed[0].budget) == (20, 60.0)

    def test_cross_is_a_part(self) -> None:
        full = set(few_cells.jobs(few_cells.parse(["--full"])))
        cross = set(few_cells.jobs(few_cells.parse(["--full", "--cross"])))
        assert cross < full
        assert all(j.cells in (0, 20) or j.budget in (0, 60) for j in cross)

    def test_options_narrow_the_grid(self) -> None:
        options = few_cells.parse(
            [
                "--kinds",
                "SEM",
                "--cells",
                "1",
                "3",
                "--budgets",
                "5",
                "--seeds",
                "2",
                "--methods",
                "tuned",
                "otsu",
            ]
        )
        jobs = list(few_cells.jobs(options))
        assert len(jobs) == 2 * 2 * 2
        assert {job.kind for job in jobs} == {"SEM"}

    def test_every_run_is_written_at_once(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "r.csv")
        pending = [Job("SEM", seed, 5, 0.0, "otsu") for seed in range(3)]

        def stops_at_the_third(job: Job) -> list[Row]:
            if job.seed == 2:
                raise KeyboardInterrupt
            return [replace(ROW, **job.describe(), variant="")]

        with pytest.raises(KeyboardInterrupt):
            few_cells.run_all(pending, results, stops_at_the_third)
        left = [job for job in pending if not Results(results.path).is_done(job.describe())]
        assert [job.seed for job in left] == [2]

    def test_no_run_is_started_after_the_time(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "r.csv")
        few_cells.run_all([Job("SEM", 0, 5, 0.0, "otsu")], results, lambda job: [ROW], minutes=-1.0)
        assert results.rows == []

    def test_report_only(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path, picture = tmp_path / "r.csv", tmp_path / "r.png"
        few_cells.main(["--report", "--csv", str(path), "--figure", str(picture)])
        assert "no runs yet" in capsys.readouterr().out
        Results(path).append(rows_of_a_grid())
        few_cells.main(["--report", "--csv", str(path), "--figure", str(picture)])
        assert picture.exists()
        assert path.with_suffix(".md").read_text().startswith("# A few painted cells")
