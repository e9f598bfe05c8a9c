"""Cells: turns, weights of other rows, what is shared."""

from pathlib import Path

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.experiments import cells
from mammo_d2.experiments.cells import Cell, rows_named, run_cells, turns_of
from mammo_d2.jobs import build_job


def cell(folder, row, seed=1, turn=0, settings=(), **more):
    settings = ["SEED", str(seed), *settings]
    job = build_job(load_config("", settings))
    return Cell(row, seed, None, f"{row} {seed}", folder / f"{row}{seed}", "", settings, job, turn=turn, **more)


@pytest.fixture
def started(monkeypatch):
    """Titles and MODEL.WEIGHTS of the runs, in order; each leaves weights and an evaluation."""
    found = []

    def run(folder, name, config, overrides, jobs, *flags):
        named = dict(zip(overrides[::2], overrides[1::2], strict=True))
        found.append((name, named.get("MODEL.WEIGHTS", "")))
        place = folder / "inference" / "d"
        place.mkdir(parents=True, exist_ok=True)
        (place / "metrics.json").write_text("{}")
        (folder / "model_final.pth").write_bytes(name.encode())

    monkeypatch.setattr(cells, "run_job", run)
    return found


def test_rows_named_in_overrides():
    assert rows_named(["A", "{weights:first row}", "B", "x {weights:b}{weights:c}"]) == ["first row", "b", "c"]


def test_turns():
    rows = {"c": ["K", "{weights:b}", "L", "{weights:a}"], "a": [], "b": ["K", "{weights:a}"]}
    assert turns_of(rows) == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(ValueError, match="in a circle: a, b"):
        turns_of({"a": ["{weights:b}"], "b": ["{weights:a}"], "c": []})


def test_a_row_starts_from_the_weights_of_its_own_seed(tmp_path, started):
    rows = [
        *(cell(tmp_path, "b", seed, 1, ["MODEL.WEIGHTS", "{weights:a}"]) for seed in (1, 2)),
        *(cell(tmp_path, "a", seed) for seed in (1, 2)),
    ]
    run_cells(rows, tmp_path)
    weights = {seed: str(tmp_path / f"a{seed}" / "model_final.pth") for seed in (1, 2)}
    assert started == [("a 1", ""), ("a 2", ""), ("b 1", weights[1]), ("b 2", weights[2])]
    started.clear()
    run_cells(rows, tmp_path)
    assert started == []


def test_a_separate_test_follows_the_training(tmp_path, started):
    one = cell(tmp_path, "a", test_folder=tmp_path / "test", test_settings=["SEED", "1"], dataset="d")
    run_cells([one], tmp_path)
    assert started == [("a 1", ""), ("the test of a 1", str(tmp_path / "a1" / "model_final.pth"))]
    assert one.finished_metrics() == tmp_path / "test" / "inference" / "d" / "metrics.json"
    (tmp_path / "test" / "inference" / "d" / "metrics.json").unlink()
    started.clear()
    run_cells([one], tmp_path)
    assert [name for name, _ in started] == ["the test of a 1"]


def test_an_unfinished_cell_is_named(tmp_path):
    with pytest.raises(ChildProcessError, match=r"a1 has no finished evaluation; see .*a1.stdout\.txt"):
        cell(tmp_path, "a").finished_metrics()
    with pytest.raises(FileNotFoundError, match=r"config\.yaml"):
        cells.recorded_job(Path(tmp_path))
