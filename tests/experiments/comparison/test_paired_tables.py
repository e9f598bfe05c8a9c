"""Tables of rows by hand."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.row_comparison import compare_rows
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic
from mammo_d2.experiments.comparison.paired_tables import (
    TableOptions,
    compare_predictions,
    paired_tables,
    write_comparison,
    write_paired,
)
from mammo_d2.experiments.comparison.predictions import join_folds, read_predictions
from tests.experiments.comparison.evaluated import config, evaluate, write_dataset

PLAN = BootstrapPlan(200)


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def compared(*values, reference=""):
    """Rows "a", "b", ... whose metric is the mean of a number per patient."""
    rows = {
        name: [{"t": MeanStatistic(np.array([one], float), ["m"], np.arange(len(one)))}]
        for name, one in zip("abc", values, strict=False)
    }
    return compare_rows(rows, len(values[0]), PLAN, reference=reference)


def test_cells_by_hand(tmp_path):
    found = compared([0.5] * 8, [0.75] * 8, [0, 1, 0, 1, 0, 1, 1, 1])
    values, differences, needed = paired_tables(
        found, {"t/m": "M", "t/other": "other"}, "Mean over 1 seed(s)", PLAN
    ).items()
    assert values[0] == "Mean over 1 seed(s), with 95 % interval over the 8 test patients"
    assert cells(values[1])[0] == ["row", "M"]
    assert cells(values[1])[2:4] == [["a", "0.500 (0.500 to 0.500)"], ["b", "0.750 (0.750 to 0.750)"]]
    assert differences[0] == "Difference to a, with 95 % interval, paired by patient"
    assert cells(differences[1])[2] == ["b", "+0.250 (+0.250 to +0.250)"]
    assert cells(differences[1])[3][1].startswith("+0.125 (-0.")
    assert needed[0] == "Test patients needed to tell the difference to a from 0 (power 80 %, two-sided 5 %)"
    error = found.differences["c"]["t/m"].error
    # The variance of a mean of 8 draws of 5 ones and 3 zeros.
    assert error == pytest.approx(np.sqrt(5 / 8 * 3 / 8 / 8), rel=0.1)
    assert cells(needed[1])[2:] == [["b", ""], ["c", str(int(np.ceil(8 * (2.8 * error / 0.125) ** 2)))]]
    write_paired(found, tmp_path / "paired.json", {"class": "malignant"}, PLAN)
    content = json.loads((tmp_path / "paired.json").read_text())
    assert (content["patients"], content["reference"], content["class"]) == (8, "a", "malignant")
    assert content["rows"]["c"]["t/m"]["value"] == 0.625
    assert content["rows"]["c"]["t/m"]["difference"]["value"] == 0.125
    assert content["rows"]["b"]["t/m"]["difference"]["patients_needed"] is None
    assert "difference" not in content["rows"]["a"]["t/m"]


def test_equal_rows_take_infinitely_many_patients():
    found = compared([0, 1, 1], [1, 1, 0])
    assert cells(list(paired_tables(found, {"t/m": "M"}, "All", PLAN).values())[2])[2] == ["b", "∞"]


def test_a_single_row_has_values_alone():
    assert len(paired_tables(compared([0, 1, 1]), {"t/m": "M"}, "All", PLAN)) == 1


class TestOptions:
    def test_rules_are_the_references_but_for_the_aggregation(self, tmp_path):
        configs = {
            "a": config(tmp_path, "TEST.FROC.HIT", "iom"),
            "b": config(tmp_path, "TEST.IMAGE.AGGREGATE", "max"),
        }
        rules = TableOptions(rates=(1.0,)).rules(configs)
        assert (rules["a"].froc.hit.kind, rules["b"].froc.hit.kind) == ("iom", "iom")
        assert (rules["a"].aggregate, rules["b"].aggregate) == ("mean", "max")
        assert rules["a"].class_name == "malignant"
        assert rules["b"].rates == (1.0,)
        assert TableOptions(reference="b").rules(configs)["a"].froc.hit.kind == "iou"

    def test_errors(self, tmp_path):
        configs = {"a": config(tmp_path), "b": config(tmp_path, "DATASETS.CATEGORIES", "['malignant']")}
        with pytest.raises(ValueError, match="--reference 'x' is none of the rows: a, b"):
            TableOptions(reference="x").rules(configs)
        with pytest.raises(ValueError, match="--class 'benign': row 'b' knows malignant"):
            TableOptions(class_name="benign").rules(configs)


def test_seeds_are_averaged_and_paired(tmp_path):
    annotations = write_dataset(tmp_path, 12)
    cfg = config(tmp_path)
    folders = [tmp_path / f"out{seed}" for seed in range(4)]
    written = [evaluate(cfg, folder, seed) for seed, folder in enumerate(folders)]
    predicted = [read_predictions(folder, annotations, cfg) for folder in folders]
    rows, configs = {"a": predicted[:2], "b": predicted[2:]}, {"a": cfg, "b": cfg}
    tables = write_comparison(rows, configs, TableOptions(rates=(0.5, 1.0)), tmp_path, "Mean over 2 seeds")
    content = json.loads((tmp_path / "paired_malignant.json").read_text())["rows"]
    for name, parts in (("a", written[:2]), ("b", written[2:])):
        for metric, task, key in (
            ("image/auc", "image", "malignant/auc"),
            ("froc/sens@1", "froc", "malignant/sens@1"),
            ("regions/hit@1", "regions", "malignant/hit@1"),
            ("saliency/f1", "saliency", "malignant/f1"),
        ):
            values = [part[task][key] for part in parts]
            assert content[name][metric]["units"] == pytest.approx(values)
            assert content[name][metric]["value"] == pytest.approx(np.mean(values))
    difference = content["b"]["image/auc"]["difference"]
    assert difference["value"] == pytest.approx(content["b"]["image/auc"]["value"] - content["a"]["image/auc"]["value"])
    header = cells(next(iter(tables.values())))[0]
    assert header == [
        "row", "image AUC", "breast AUC", "patient AUC", "pAUCR", "spec@sens0.85", "sens@spec0.9", "AP50", "sens@0.5",
        "sens@1", "hit@1", "saliency F1", "pointing",
    ]  # fmt: skip


def test_rows_without_predictions_have_no_tables(tmp_path):
    cfg = config(tmp_path)
    assert compare_predictions({"a": [], "b": []}, TableOptions().rules({"a": cfg, "b": cfg})) is None
    assert write_comparison({"a": []}, {"a": cfg}, TableOptions(), tmp_path, "All") == {}


def test_means_over_folds(tmp_path):
    """The values are those of the folds' own evaluations; patients are drawn within each fold."""
    parts, written = [], []
    for fold, (patients, start) in enumerate(((12, 0), (9, 12), (12, 21))):
        root = tmp_path / str(fold)
        annotations = write_dataset(root, patients, start)
        cfg = config(root)
        written.append(evaluate(cfg, root / "out", fold))
        parts.append(read_predictions(root / "out", annotations, cfg))
    rules = TableOptions(rates=(1.0,)).rules({"a": cfg})
    rows = {"a": [join_folds(parts)]}
    means = compare_predictions(rows, rules, plan=PLAN, fold_means=True).metrics["a"]
    together = compare_predictions(rows, rules, plan=PLAN).metrics["a"]
    for metric, task, key in (
        ("image/auc", "image", "malignant/auc"),
        ("breast/auc", "image", "malignant/breast_auc"),
        ("froc/sens@1", "froc", "malignant/sens@1"),
        ("ap/AP50", "coco", "malignant/AP50"),
        ("saliency/f1", "saliency", "malignant/f1"),
        ("regions/hit@1", "regions", "malignant/hit@1"),
    ):
        values = [numbers[task][key] for numbers in written]
        assert means[metric].units == pytest.approx(values)
        assert means[metric].value == pytest.approx(np.mean(values))
        assert means[metric].interval.low <= means[metric].value <= means[metric].interval.high
        assert len(together[metric].units) == 1
