import json

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_files.run_record import RunConflictError, claim_folders
from mammo_d2.experiments import processes
from mammo_d2.experiments.variant_runs import Variant, load_variants, run_ablation, variants_table


def write_run(folder, auc, *overrides):
    """A finished run of the default config with seed 1, or with these overrides."""
    claim_folders({folder: load_config("", ["SEED", "1", *overrides])})
    inference = folder / "inference" / "d_test"
    inference.mkdir(parents=True)
    metrics = {
        "coco": {"AP50": 0.5},
        "froc": {"malignant/sens@0.25": 0.1, "malignant/sens@1": None},
        "patient": {"auc": auc, "accuracy": 0.6, "sensitivity": 0.7, "specificity": 0.8},
    }
    (inference / "metrics.json").write_text(json.dumps(metrics))
    (folder / "model_final.pth").write_bytes(b"weights")


def test_finished_runs_are_tabulated_without_training(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *a, **k: pytest.fail("trained a finished run"))
    variants = [Variant("a"), Variant("b + c", ["MODEL.RPN.NMS_THRESH", "0.5"])]
    for variant, aucs in zip(variants, [(0.5, 0.7), (0.9, 0.9)], strict=True):
        for seed, auc in zip((1, 2), aucs, strict=True):
            write_run(tmp_path / f"{variant.folder}_seed{seed}", auc, *variant.overrides, "SEED", str(seed))
    rows = run_ablation("", variants, [1, 2], tmp_path)
    assert [row["AUC"] for row in rows] == [0.5, 0.7, 0.9, 0.9]
    assert str(rows[0]["sens@1"]) == "nan"
    table = variants_table(rows, ["a", "b + c"])
    assert "0.600 ± 0.141" in table  # mean and sample standard deviation of 0.5 and 0.7
    assert "0.900 ± 0.000" in table
    assert (tmp_path / "ablation.md").read_text().strip() == table
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 5


@pytest.mark.parametrize(
    ("overrides", "variant", "message"),
    [
        (["SOLVER.BASE_LR", "0.02"], [], r"SOLVER\.BASE_LR: 0\.001 then, 0\.02 now"),
        ([], ["MODEL.RPN.NMS_THRESH", "0.5"], r"MODEL\.RPN\.NMS_THRESH: 0\.7 then, 0\.5 now"),
    ],
)
def test_a_run_of_another_config_is_refused_before_any_training(tmp_path, monkeypatch, overrides, variant, message):
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *a, **k: pytest.fail("trained"))
    write_run(tmp_path / "a_seed1", 0.5)
    remedy = r"Name another --output, or delete .*a_seed1 to run it anew"
    with pytest.raises(RunConflictError, match=rf"a_seed1 holds a run .*: {message}\. {remedy}"):
        run_ablation("", [Variant("new"), Variant("a", variant)], [1], tmp_path, overrides)


def test_where_and_how_fast_may_change(tmp_path):
    write_run(tmp_path / "a_seed1", 0.5)
    overrides = ["DATALOADER.NUM_WORKERS", "0", "SOLVER.CHECKPOINT_PERIOD", "7", "OUTPUT_DIR", "elsewhere"]
    assert run_ablation("", [Variant("a")], [1], tmp_path, overrides)[0]["AUC"] == 0.5


def test_columns_are_those_of_the_evaluators_that_ran(tmp_path):
    write_run(tmp_path / "a_seed1", 0.5)
    path = tmp_path / "a_seed1" / "inference" / "d_test" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["coco"], metrics["patient"]
    metrics["image"] = {"malignant/auc": 0.625, "malignant/breast_auc": 0.75}
    path.write_text(json.dumps(metrics))
    header, _, row = variants_table(run_ablation("", [Variant("a")], [1], tmp_path), ["a"]).splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "variant", "seeds", "sens@0.25", "sens@1", "image AUC", "breast AUC",
    ]  # fmt: skip
    assert [float(cell) for cell in row.split("|")[-3:-1]] == [0.625, 0.75]


def test_ap_is_that_of_the_first_class(tmp_path):
    """A row with a further class must not be compared by a mean over both."""
    write_run(tmp_path / "a_seed1", 0.5)
    path = tmp_path / "a_seed1" / "inference" / "d_test" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["coco"] = {"AP50": 0.3, "malignant/AP50": 0.4, "benign/AP50": 0.2}
    metrics["voc"] = {"AP50": 0.35, "malignant/AP50": 0.45, "benign/AP50": 0.25}
    path.write_text(json.dumps(metrics))
    (row,) = run_ablation("", [Variant("a")], [1], tmp_path)
    assert (row["AP50"], row["VOC AP50"]) == (0.4, 0.45)


def test_a_row_that_starts_from_another_comes_after_it(tmp_path, monkeypatch):
    """Its weights are part of its record, so that it is not continued after the other row was trained anew."""
    started = []

    def train(folder, name, config_file, overrides, jobs, *flags):
        weights = overrides[overrides.index("MODEL.WEIGHTS") + 1]
        started.append((folder.name, weights))
        assert not weights or (tmp_path / "plain_seed3" / "model_final.pth").is_file()
        inference = folder / "inference" / "d_test"
        inference.mkdir(parents=True)
        (inference / "metrics.json").write_text(json.dumps({"coco": {"AP50": 0.5}}))
        (folder / "model_final.pth").write_bytes(b"weights")

    monkeypatch.setattr("mammo_d2.experiments.cells.run_job", train)
    tuned = Variant("tuned", ["MODEL.WEIGHTS", "{weights:plain}"])
    rows = [tuned, Variant("plain", ["MODEL.WEIGHTS", ""])]
    run_ablation("", rows, [3], tmp_path)
    assert started == [("plain_seed3", ""), ("tuned_seed3", str(tmp_path / "plain_seed3" / "model_final.pth"))]
    run_ablation("", rows, [3], tmp_path)  # kept
    assert len(started) == 2
    (tmp_path / "plain_seed3" / "model_final.pth").write_bytes(b"others")
    with pytest.raises(RunConflictError, match=r"tuned_seed3 holds a run .*: MODEL\.WEIGHTS"):
        run_ablation("", rows, [3], tmp_path)
    with pytest.raises(ValueError, match=r"row 'tuned' starts from \{weights:plain\}; the rows are tuned"):
        run_ablation("", [tuned], [3], tmp_path)


@pytest.mark.slow
def test_failed_run_names_its_log(tmp_path):
    with pytest.raises(ChildProcessError, match=r"'a' with seed 1 failed .*nowhere.*; see .*stdout\.txt"):
        run_ablation("", [Variant("a", ["DATASETS.TRAIN", "['nowhere']"])], [1], tmp_path)


@pytest.mark.parametrize("text", ["- a\n", "a: SEED\n", "a: [SEED]\n"])
def test_malformed_variants(tmp_path, text):
    path = tmp_path / "v.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"v\.yaml"):
        load_variants(str(path))


def test_variants_that_would_share_their_results(tmp_path):
    path = tmp_path / "v.yaml"
    path.write_text("a + b: []\na - b: [SEED, 2]\n")
    with pytest.raises(ValueError, match=r"'a \+ b' and 'a - b' would share the folder 'a___b'"):
        load_variants(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [SEED, 1]\nb: []\na: [SEED, 2]\n", "not plain YAML: line 3: the key 'a' is there twice"),
        (b"a: [SEED, 1\n", "not plain YAML"),
        (b"a: [SEED, 1] # \xe4\n", "not UTF-8 text"),
        (b"a: [SEED, null]\n", "variant 'a': .* no value is empty"),
        (b"a: [SEED, {x: 1}]\n", "variant 'a': .* or a mapping"),
        (b"a: [1, SEED]\n", "variant 'a': .* a key is a text"),
    ],
)
def test_files_of_variants_that_would_be_misread(tmp_path, content, message):
    path = tmp_path / "v.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"v\.yaml: {message}"):
        load_variants(str(path))
