import ast
import csv
import json
import shutil
from pathlib import Path

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.engine.run_files.run_record import RunConflictError
from mammo_d2.experiments import cells, processes
from mammo_d2.experiments.comparison.paired_tables import TableOptions
from mammo_d2.experiments.cross_validation import FoldPlan, cross_validate, deal_out, folds_table, join_splits
from mammo_d2.experiments.fold_comparison import compare_variants
from mammo_d2.experiments.variant_runs import Variant
from tests.conftest import ROOT

CONFIG = str(ROOT / "configs" / "quickstart" / "phantom_deep_mil.yaml")


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Six patients with two images each in two splits; the first of each split's three has a malignant lesion."""
    folder = tmp_path / "toy"
    (folder / "images").mkdir(parents=True)
    for number, split in enumerate(("train", "test")):
        builder = CocoBuilder()
        for patient in range(3):
            for view in ("CC", "MLO"):
                file_name = f"{split}{patient}{view}.png"
                (folder / "images" / file_name).touch()
                image = builder.add_image(
                    file_name, 40, 30, patient_id=f"p{3 * number + patient}", exam_id="1", laterality="L", view=view,
                    labels={"benign": 0, "malignant": int(patient == 0)},
                )  # fmt: skip
                if patient == 0:
                    builder.add_annotation(image, [1, 2, 3, 4], "malignant", pathology="malignant", lesion_id="l")
        builder.write(folder / "annotations" / f"{split}.json")
    return folder


class FakeJobs:
    """In place of trainings: a test gives every image its label as its score and the fold's number / 10 as AUC.

    With the head "max" the scores are the wrong way round.
    """

    def __init__(self):
        self.calls: list[tuple[str, str]] = []
        self.fail_at = ""
        self.without_ap = ""  # head whose metrics lack the average precision

    def __call__(self, folder, name, config_file, overrides, jobs, *flags):
        settings = dict(zip(overrides[::2], overrides[1::2], strict=True))
        self.calls.append((folder.parent.name, folder.name))
        if name == self.fail_at:
            raise RuntimeError(f"{name} failed")
        folder.mkdir(parents=True, exist_ok=True)
        if flags == ("--resume",):
            (folder / "model_final.pth").write_bytes(b"weights")
            (folder / "config.yaml").write_text(load_config(config_file, overrides).dump())
            return
        (tested,) = ast.literal_eval(settings["DATASETS.TEST"])
        files = {entry[0]: entry[1] for entry in ast.literal_eval(settings["DATASETS.REGISTER"])}
        images = json.loads(Path(files[tested]).read_text())["images"]
        inference = folder / "inference" / tested
        inference.mkdir(parents=True)
        wrong = settings.get("MODEL.DEEP_MIL.HEAD") == "max"
        scores = [{"image_id": i["id"], "scores": {"malignant": abs(i["labels"]["malignant"] - wrong)}} for i in images]
        (inference / "image_scores.json").write_text(json.dumps(scores))
        fold = int(folder.parent.name[-1])
        metrics = {"image": {"malignant/auc": fold / 10, "malignant/ap": None if fold == 0 else 0.5}}
        if self.without_ap and settings.get("MODEL.DEEP_MIL.HEAD") == self.without_ap:
            del metrics["image"]["malignant/ap"]
        (inference / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def fake_jobs(monkeypatch) -> FakeJobs:
    fake = FakeJobs()
    monkeypatch.setattr(cells, "run_job", fake)
    return fake


class TestFolds:
    @pytest.mark.parametrize(
        ("plan", "expected"),
        [
            (FoldPlan(Path(), 5), {"train": [0, 1, 2], "test": [3], "val": [4]}),
            (FoldPlan(Path(), 5, validation=False), {"train": [0, 1, 2, 4], "test": [3]}),
        ],
    )
    def test_parts_of_a_fold(self, plan, expected):
        assert plan.parts(3) == expected

    def test_the_last_fold_validates_on_the_first_part(self):
        assert FoldPlan(Path(), 3).parts(2) == {"train": [1], "test": [2], "val": [0]}

    def test_too_few_folds(self):
        with pytest.raises(ValueError, match="need at least 3"):
            FoldPlan(Path(), 2)

    @pytest.mark.parametrize("only", [(3,), (-1,), (0, 0)])
    def test_folds_that_are_not_there(self, only):
        with pytest.raises(ValueError, match=f"--only-folds {only[0]}: the folds are 0 to 2, each named once"):
            FoldPlan(Path(), 3, only=only)

    def test_words(self):
        assert str(FoldPlan(Path("x/toy"), 3)) == "toy, 3 patient-wise folds (seed 0)"
        assert str(FoldPlan(Path("x/toy"), 3, 2, only=(0, 2))) == "toy, fold 0, 2 of 3 patient-wise folds (seed 2)"

    def test_joined_splits_keep_every_image_and_its_annotations(self, dataset):
        coco = join_splits(dataset)
        assert sorted(image["id"] for image in coco["images"]) == list(range(1, 13))
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        assert sorted(names[a["image_id"]] for a in coco["annotations"]) == [
            "test0CC.png", "test0MLO.png", "train0CC.png", "train0MLO.png",
        ]  # fmt: skip
        assert len({a["id"] for a in coco["annotations"]}) == 4

    def test_patients_stay_together(self, dataset):
        coco = join_splits(dataset)
        parts: dict[str, set[int]] = {}
        for image, part in zip(coco["images"], deal_out(coco, 3, seed=1), strict=True):
            parts.setdefault(image["patient_id"], set()).add(part)
        assert all(len(found) == 1 for found in parts.values())
        assert set.union(*parts.values()) == {0, 1, 2}

    def test_no_data_set(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no JSON file"):
            join_splits(tmp_path)


class TestCrossValidate:
    def test_some_folds_now_and_the_others_later(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        rows = cross_validate(CONFIG, FoldPlan(dataset, 3, only=(1,)), output)
        assert [row["fold"] for row in rows] == [1]
        assert fake_jobs.calls == [("fold1", "train"), ("fold1", "test")]
        assert [row["fold"] for row in cross_validate(CONFIG, FoldPlan(dataset, 3), output)] == [0, 1, 2]
        assert [call[0] for call in fake_jobs.calls] == [f"fold{k}" for k in (1, 1, 0, 0, 2, 2)]

    def test_every_image_is_tested_once_by_a_model_that_has_not_seen_its_patient(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        tested = []
        for fold in range(3):
            files = {
                s: json.loads((output / f"fold{fold}" / f"{s}.json").read_text()) for s in ("train", "val", "test")
            }
            patients = {split: {i["patient_id"] for i in coco["images"]} for split, coco in files.items()}
            assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 6
            tested += [image["file_name"] for image in files["test"]["images"]]
            ids = {image["id"] for image in files["train"]["images"]}
            assert {a["image_id"] for a in files["train"]["annotations"]} <= ids
        assert len(tested) == len(set(tested)) == 12

    def test_table_and_pooled_curve(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        rows = cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        table = folds_table(rows)
        assert "| image/malignant/auc |       3 | 0.100 ± 0.100 |" in table
        assert "| image/malignant/ap  |       2 | 0.500 ± 0.000 |" in table  # undefined in the first fold
        pooled = json.loads((output / "pooled.json").read_text())
        assert pooled["malignant, image"]["auc"] == 1.0
        assert (pooled["malignant, image"]["cases"], pooled["malignant, breast"]["cases"]) == (12, 6)
        assert (output / "roc.png").stat().st_size > 0
        text = (output / "cross_validation.md").read_text()
        assert text.startswith(table)
        assert "All folds together, with 95 % interval over the 6 test patients:" in text
        assert "| all folds | 1.000 (1.000 to 1.000) |" in text
        paired = json.loads((output / "paired_malignant.json").read_text())
        assert (paired["patients"], paired["class"]) == (6, "malignant")
        assert paired["rows"]["all folds"]["breast/auc"]["value"] == 1

    def test_an_interrupted_run_goes_on(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        fake_jobs.fail_at = "the test of fold 1"
        with pytest.raises(RuntimeError, match="the test of fold 1 failed"):
            cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        fake_jobs.calls, fake_jobs.fail_at = [], ""
        cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        assert ("fold0", "train") not in fake_jobs.calls
        assert ("fold0", "test") not in fake_jobs.calls
        assert ("fold1", "train") not in fake_jobs.calls
        assert ("fold1", "test") in fake_jobs.calls
        fake_jobs.calls = []
        cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        assert fake_jobs.calls == []

    def test_not_for_the_lesion_classifier(self, dataset, tmp_path, fake_jobs):
        lesion = str(ROOT / "configs/quickstart/phantom_lesion_context.yaml")
        with pytest.raises(ValueError, match=r"use mammo-d2 train for each fold, after a context network"):
            cross_validate(lesion, FoldPlan(dataset, 3), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_another_plan_needs_another_folder(self, dataset, tmp_path, fake_jobs):
        cross_validate(CONFIG, FoldPlan(dataset, 3), tmp_path / "out")
        with pytest.raises(ValueError, match="other folds, seed, images or annotations"):
            cross_validate(CONFIG, FoldPlan(dataset, 3, seed=1), tmp_path / "out")

    def test_other_annotations_need_another_folder_and_leave_the_folds_as_they_are(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        before = {path: path.read_text() for path in output.glob("fold*/*.json")}
        path = dataset / "annotations" / "train.json"
        coco = json.loads(path.read_text())
        coco["annotations"][0]["bbox"] = [1, 2, 3, 5]
        path.write_text(json.dumps(coco))
        with pytest.raises(ValueError, match="images or annotations; finish it with those, or name another --output"):
            cross_validate(CONFIG, FoldPlan(dataset, 3), output)
        assert {path: path.read_text() for path in output.glob("fold*/*.json")} == before

    def test_another_config_needs_another_folder(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        fake_jobs.fail_at = "the test of fold 1"
        with pytest.raises(RuntimeError, match="the test of fold 1 failed"):
            cross_validate(CONFIG, FoldPlan(dataset, 3), output, ["SOLVER.BASE_LR", "0.01"])
        fake_jobs.calls, fake_jobs.fail_at = [], ""
        # Fold 0 is finished, fold 1 has been trained, fold 2 has not been begun.
        shutil.rmtree(output / "fold2")
        message = r"fold0 holds .*: SOLVER.BASE_LR: 0.01 then, 0.02 now\. .*fold0 to run it anew \(2 folders"
        with pytest.raises(RunConflictError, match=message):
            cross_validate(CONFIG, FoldPlan(dataset, 3), output, ["SOLVER.BASE_LR", "0.02"])
        assert fake_jobs.calls == []
        cross_validate(CONFIG, FoldPlan(dataset, 3), output, ["SOLVER.BASE_LR", "0.01", "DATALOADER.NUM_WORKERS", "1"])
        assert fake_jobs.calls == [("fold1", "test"), ("fold2", "train"), ("fold2", "test")]

    def test_without_validation_nothing_is_chosen_on_the_test_set(self, dataset, tmp_path, monkeypatch):
        seen = []

        def record(folder, name, config_file, overrides, jobs, *flags):
            seen.append(dict(zip(overrides[::2], overrides[1::2], strict=True)))
            raise RuntimeError("enough")

        monkeypatch.setattr(cells, "run_job", record)
        with pytest.raises(RuntimeError, match="enough"):
            cross_validate(CONFIG, FoldPlan(dataset, 2, validation=False), tmp_path / "out")
        assert seen[0]["TEST.BEST_METRIC"] == ""
        assert seen[0]["TEST.EVAL_PERIOD"] == seen[0]["TEST.EVAL_EPOCHS"] == "0"


class TestComparison:
    VARIANTS = (Variant("max", ["MODEL.DEEP_MIL.HEAD", "max"]), Variant("sparse"))

    def test_table_of_variants(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        table = compare_variants(CONFIG, self.VARIANTS, FoldPlan(dataset, 3), output)
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        assert lines[0] == ["Class malignant, mean ± standard deviation over the folds:"]
        assert lines[2] == ["variant", "AUC"]
        assert lines[4:6] == [["max", "0.100 ± 0.100"], ["sparse", "0.100 ± 0.100"]]
        assert lines[7] == ["All folds together, with 95 % interval over the 6 test patients:"]
        assert lines[9][:4] == ["row", "image AUC", "breast AUC", "patient AUC"]
        # Perfect scores have no error to estimate.
        assert lines[11][:2] == ["max", "0.000 (0.000 to 0.000)"]
        assert lines[12][:2] == ["sparse", "1.000 (1.000 to 1.000)"]
        assert lines[14] == ["Difference to max, with 95 % interval, paired by patient:"]
        assert lines[18][:2] == ["sparse", "+1.000 (+1.000 to +1.000)"]
        assert "patients needed to tell the difference to max from 0" in lines[20][0]
        assert lines[24][:2] == ["sparse", ""]
        assert (output / "comparison_malignant.md").read_text().strip() == table

    def test_tables_of_finished_folds_by_their_own_configs(self, dataset, tmp_path, fake_jobs):
        output, plan = tmp_path / "out", FoldPlan(dataset, 3)
        table = compare_variants(CONFIG, self.VARIANTS, plan, output)
        fake_jobs.calls = []
        # The config has changed since.
        other = [*self.VARIANTS[:1], Variant("sparse", ["SOLVER.BASE_LR", "0.5"])]
        assert compare_variants("gone.yaml", other, plan, output, options=TableOptions(only_tables=True)) == table
        options = TableOptions(reference="sparse", only_tables=True)
        assert "Difference to sparse" in compare_variants("gone.yaml", other, plan, output, options=options)
        assert fake_jobs.calls == []
        (output / "max/fold1/test/inference/cv1_test/metrics.json").unlink()
        with pytest.raises(ChildProcessError, match=r"max/fold1/test has no finished evaluation"):
            compare_variants("gone.yaml", other, plan, output, options=TableOptions(only_tables=True))

    def test_a_variant_may_lack_a_metric(self, dataset, tmp_path, fake_jobs):
        fake_jobs.without_ap = "max"
        output = tmp_path / "out"
        compare_variants(CONFIG, self.VARIANTS, FoldPlan(dataset, 3), output)
        with open(output / "comparison_malignant.csv", newline="") as file:
            values = [row["image/malignant/ap"] for row in csv.DictReader(file)]
        assert values == ["", "", "", "nan", "0.5", "0.5"]

    def test_a_changed_variant_is_refused_before_the_others_are_trained(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        compare_variants(CONFIG, self.VARIANTS[1:], FoldPlan(dataset, 3), output)
        fake_jobs.calls = []
        changed = [self.VARIANTS[0], Variant("sparse", ["MODEL.DEEP_MIL.SPARSITY", "0.5"])]
        message = r"sparse/fold0 holds .*MODEL.DEEP_MIL.SPARSITY: \S+ then, 0.5 now"
        with pytest.raises(RunConflictError, match=message):
            compare_variants(CONFIG, changed, FoldPlan(dataset, 3), output)
        assert fake_jobs.calls == []

    def test_the_same_folds_for_all(self, dataset, tmp_path, fake_jobs):
        output = tmp_path / "out"
        compare_variants(CONFIG, self.VARIANTS, FoldPlan(dataset, 3), output)
        assert (output / "max" / "folds.json").read_text() == (output / "sparse" / "folds.json").read_text()

    @pytest.mark.parametrize("name", ["mass", "any"])  # one class: there is no "any finding" beside it
    def test_unknown_class(self, dataset, tmp_path, fake_jobs, name):
        with pytest.raises(ValueError, match=f"'{name}': row 'max' knows malignant"):
            compare_variants(
                CONFIG, self.VARIANTS, FoldPlan(dataset, 3), tmp_path / "out", options=TableOptions(class_name=name)
            )
        assert fake_jobs.calls == []


@pytest.mark.slow
def test_a_failed_job_names_its_log(tmp_path):
    with pytest.raises(ChildProcessError, match=r"fold 0 failed \(error: .*nowhere.*\); see .*stdout\.txt"):
        processes.run_job(tmp_path / "job", "fold 0", "", ["DATASETS.TRAIN", "('nowhere',)"], 1)
    assert "nowhere" in (tmp_path / "job" / "stdout.txt").read_text()
