import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml

from mammo_d2.cli.results import predict, report
from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import ConfigError
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.data.prepare.recipe import ImageOptions, Preparation
from mammo_d2.engine.run_files.run_results import read_scalars
from mammo_d2.engine.step import NonFiniteLossError
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import DatasetCatalog, EventStorage, MetadataCatalog, SafeCheckpointer, register_coco_instances
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import SETTINGS, final_weights, run

CROPPED = Preparation(image=ImageOptions(crop=True))
EMA = ("SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.5")


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path, positives=3, negatives=4)
    return tmp_path


def assert_same_weights(a: dict, b: dict):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def run_alone(command: list[str]) -> subprocess.CompletedProcess:
    """In a process group of its own, which the signal goes to."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, start_new_session=True)


@pytest.mark.parametrize(
    ("number", "status", "workers"), [("SIGINT", 130, "1"), ("SIGTERM", 143, "0"), ("SIGTERM", 143, "1")]
)
def test_ctrl_c_and_sigterm_save_a_checkpoint(folder, number, status, workers):
    rare = [*EMA, "SOLVER.CHECKPOINT_PERIOD", "100", "DATALOADER.NUM_WORKERS", workers]
    stopped = run_alone([sys.executable, "-m", "tests.engine.toy_training", str(folder), f"2:{number}", *rare])
    errors = stopped.stderr.decode()
    assert stopped.returncode == status, errors[-2000:]
    assert "Traceback" not in errors
    assert (folder / "out" / "last_checkpoint").read_text() == "model_0000002.pth"
    assert f"{number}: stopping after this iteration" in (folder / "out" / "log.txt").read_text()

    run(folder, *rare, "OUTPUT_DIR", str(folder / "whole"))
    run(folder, *rare, resume=True)
    assert_same_weights(final_weights(folder / "out"), final_weights(folder / "whole"))
    logged = [[entry["iteration"] for entry in read_scalars(folder / name)] for name in ("out", "whole")]
    assert logged[0] == logged[1]


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [3, 5])
def test_killed_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(folder, kill_at):
    """Checkpoints are written after iterations 1, 3 and 5: one kill loses a step, the other two."""
    run(folder, *EMA, "OUTPUT_DIR", str(folder / "whole"))
    command = [sys.executable, "-m", "tests.engine.toy_training", str(folder), str(kill_at), *EMA]
    killed = run_alone(command)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert not (folder / "out" / "model_final.pth").exists()
    run(folder, *EMA, resume=True)

    assert_same_weights(final_weights(folder / "out"), final_weights(folder / "whole"))
    averages = [torch.load(folder / name / "model_ema.pth", weights_only=True)["model"] for name in ("out", "whole")]
    assert_same_weights(*averages)
    optimizers = [
        torch.load(folder / name / "model_final.pth", weights_only=True)["trainer"]["_trainer"]["optimizer"]
        for name in ("out", "whole")
    ]
    for a, b in zip(optimizers[0]["state"].values(), optimizers[1]["state"].values(), strict=True):
        assert torch.equal(a["exp_avg_sq"], b["exp_avg_sq"])


def test_trainer_made_in_code_draws_a_seed_for_a_negative_one(folder):
    opts = {**SETTINGS, "DATASETS.ROOT": str(folder), "OUTPUT_DIR": str(folder / "out"), "SEED": "-1"}
    cfg = load_config("", [item for pair in opts.items() for item in pair])
    register_datasets(cfg)
    trainer = MammoTrainer(cfg)
    assert trainer.cfg.SEED >= 0
    assert cfg.SEED == -1


def test_another_seed_gives_other_weights(folder):
    """The resume test above could pass vacuously if training did nothing."""
    run(folder, "OUTPUT_DIR", str(folder / "a"), "SOLVER.MAX_ITER", "2")
    run(folder, "OUTPUT_DIR", str(folder / "b"), "SOLVER.MAX_ITER", "2", "SEED", "4")
    a, b = final_weights(folder / "a"), final_weights(folder / "b")
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_evaluation_writes_metrics_predictions_and_curves(folder):
    results = run(folder, "SOLVER.MAX_ITER", "2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")
    inference = folder / "out" / "inference" / "toy_train"
    metrics = json.loads((inference / "metrics.json").read_text())
    assert set(metrics) == {"coco", "froc", "patient"}
    assert metrics["froc"]["malignant/num_lesions"] == 3
    assert metrics["patient"]["num_positive"] == 3
    assert metrics["patient"]["auc"] == pytest.approx(results["patient"]["auc"])
    detections = json.loads((inference / "coco_instances_results.json").read_text())
    assert len(detections) > 0
    assert {"image_id", "category_id", "bbox", "score"} <= set(detections[0])
    assert (inference / "coco_instances_results_source.json").is_file()
    assert (inference / "froc.png").is_file()
    assert (inference / "roc.png").is_file()


def test_eval_only_repeats_the_trainings_last_evaluation(folder):
    trained = run(folder, "SOLVER.MAX_ITER", "2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")
    again = run(
        folder, "MODEL.WEIGHTS", str(folder / "out" / "model_final.pth"), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
        "OUTPUT_DIR", str(folder / "again"), eval_only=True,
    )  # fmt: skip
    assert again["patient"]["auc"] == trained["patient"]["auc"]
    assert again["coco"]["AP50"] == trained["coco"]["AP50"]


def test_evaluating_what_was_not_trained_is_an_error(folder):
    with pytest.raises(ValueError, match="--eval-only without weights would evaluate an untrained model"):
        run(folder, eval_only=True)
    run(folder, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[]")
    weights = ["MODEL.WEIGHTS", str(folder / "out" / "model_final.pth")]
    with pytest.raises(ValueError, match=r"model_final\.pth leaves \d+ weights of the model untrained, e\.g\. "):
        run(folder, *weights, "MODEL.RPN.CONV_DIMS", "[-1, -1]", eval_only=True)
    with pytest.raises(ValueError, match=r"needs a data set to evaluate on; set DATASETS\.TEST"):
        run(folder, *weights, "DATASETS.TEST", "[]", eval_only=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST.EVALUATORS", "['frok']", "TEST.EVALUATORS names frok; known are coco"),
        ("TEST.EVALUATORS", "['froc', 'saliency']", r"names 'saliency'.*GeneralizedRCNN .*write.*\"\['froc'\]\""),
        ("TEST.FROC.HIT", "touch", "touch"),
        ("DATASETS.TEST", "['toys']", "unknown data set 'toys'"),
    ],
)
def test_a_wrong_evaluation_is_found_before_the_training(folder, monkeypatch, key, value, message):
    monkeypatch.setattr(MammoTrainer, "run_step", lambda self: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        run(folder, key, value)


def test_a_failing_evaluation_does_not_cost_the_weights(folder, monkeypatch):
    run(folder, "OUTPUT_DIR", str(folder / "whole"), "SOLVER.MAX_ITER", "3")

    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(MammoTrainer, "test", classmethod(fail))
    with pytest.raises(RuntimeError, match="no memory"):
        run(folder, "SOLVER.MAX_ITER", "3")
    assert not (folder / "out" / "model_final.pth").exists()
    kept = torch.load(folder / "out" / "model_unevaluated.pth", weights_only=True)["model"]
    assert_same_weights(kept, final_weights(folder / "whole"))
    assert "model_unevaluated.pth; evaluate them with --eval-only" in (folder / "out" / "log.txt").read_text()
    # The run itself goes on from its last checkpoint, and ends as if nothing had happened.
    monkeypatch.undo()
    run(folder, "SOLVER.MAX_ITER", "3", resume=True)
    assert_same_weights(final_weights(folder / "out"), final_weights(folder / "whole"))


def test_a_pointless_resume_is_warned_about(folder):
    few, log = ["SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[]"], folder / "out" / "log.txt"
    run(folder, *few, resume=True)
    assert "--resume, but there is no checkpoint in OUTPUT_DIR" in log.read_text()


def test_a_forgotten_resume_is_an_error_and_changes_nothing(folder):
    few, out = ["SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[]"], folder / "out"
    run(folder, *few)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    message = r"OUTPUT_DIR .*/out holds a training already \(.*/out/last_checkpoint\): give --resume to go on with it"
    with pytest.raises(ValueError, match=f"{message}, or name another OUTPUT_DIR$"):
        run(folder, *few, "SEED", "4")
    (out / "last_checkpoint").unlink()
    with pytest.raises(ValueError, match=r"out/model_final\.pth\)"):
        run(folder, *few, "SEED", "4")
    (out / "last_checkpoint").write_bytes(before[out / "last_checkpoint"])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_best_checkpoint_and_early_stop(folder):
    run(
        folder, "TEST.EVAL_PERIOD", "1", "TEST.BEST_METRIC", "patient/num_positive", "TEST.EARLY_STOP_PATIENCE", "2",
    )  # fmt: skip
    # The metric is the same at every evaluation: best at iteration 0, stopped after two more.
    last = torch.load(folder / "out" / "model_final.pth", weights_only=True)
    assert last["iteration"] == 2
    assert (folder / "out" / "model_best.pth").is_file()


def test_a_run_killed_when_it_was_to_stop_trains_no_further(folder, monkeypatch):
    early = ["TEST.EVAL_PERIOD", "1", "TEST.BEST_METRIC", "patient/num_positive", "TEST.EARLY_STOP_PATIENCE", "1"]
    run(folder, *early, "OUTPUT_DIR", str(folder / "whole"))
    save = SafeCheckpointer.save

    def killed(self, name, **more):
        if name == "model_final":
            raise KeyboardInterrupt
        save(self, name, **more)

    monkeypatch.setattr(SafeCheckpointer, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, *early)
    monkeypatch.setattr(SafeCheckpointer, "save", save)
    monkeypatch.setattr(MammoTrainer, "run_step", lambda self: pytest.fail("trained"))
    run(folder, *early, resume=True)
    assert_same_weights(final_weights(folder / "out"), final_weights(folder / "whole"))
    last = [torch.load(folder / name / "model_final.pth", weights_only=True)["iteration"] for name in ("out", "whole")]
    assert last == [1, 1]


def test_every_evaluation_is_logged_and_the_last_can_be_the_best(folder, monkeypatch):
    """After iterations 2, 4 and 6 of 6, which the writers' own period of 20 would leave out."""
    values = iter([0.5, 0.25, 0.75])
    monkeypatch.setattr(MammoTrainer, "test", classmethod(lambda *_: {"patient": {"auc": next(values)}}))
    run(folder, "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "patient/auc")
    logged = {entry["iteration"]: entry.get("patient/auc") for entry in read_scalars(folder / "out")}
    assert logged == {1: 0.5, 3: 0.25, 5: 0.75}
    best = torch.load(folder / "out" / "model_best.pth", weights_only=True)["model"]
    assert_same_weights(best, final_weights(folder / "out"))


def test_a_run_killed_in_its_last_evaluation_is_evaluated_when_resumed(folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MammoTrainer, "test", classmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    run(folder, resume=True)
    assert (folder / "out" / "inference" / "toy_train" / "metrics.json").is_file()


def test_a_run_killed_before_its_average_was_saved_has_it_when_resumed(folder, monkeypatch):
    run(folder, *EMA, "OUTPUT_DIR", str(folder / "whole"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MammoTrainer, "_save_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folder, *EMA)
    assert (folder / "out" / "model_final.pth").is_file()
    run(folder, *EMA, resume=True)
    averages = [torch.load(folder / name / "model_ema.pth", weights_only=True)["model"] for name in ("out", "whole")]
    assert_same_weights(*averages)


def test_log_and_checkpoints_of_a_resumed_run_are_those_of_an_uninterrupted_one(folder):
    """Losses are logged as medians over iterations before the interruption, too."""
    run(folder, "OUTPUT_DIR", str(folder / "whole"))
    assert run_alone([sys.executable, "-m", "tests.engine.toy_training", str(folder), "4"]).returncode == -9
    run(folder, resume=True)
    times = ("time", "data_time", "rank_data_time", "eta_seconds")
    logs = [
        [{key: value for key, value in entry.items() if key not in times} for entry in read_scalars(folder / name)]
        for name in ("out", "whole")
    ]
    assert repr(logs[0]) == repr(logs[1])
    assert {"total_loss", "loss_cls"} <= logs[0][-1].keys()
    for name in ("model_0000005.pth", "model_final.pth"):
        assert (folder / "out" / name).read_bytes() == (folder / "whole" / name).read_bytes()


def test_non_finite_loss_keeps_the_last_good_checkpoint(folder, monkeypatch):
    original = MammoTrainer.run_step

    def poisoned(self):
        if self.iter == 3:
            with torch.no_grad():
                next(self.model.parameters()).fill_(math.nan)
        original(self)

    monkeypatch.setattr(MammoTrainer, "run_step", poisoned)
    with pytest.raises(NonFiniteLossError, match=r"iteration 3.*toy/images/train_"):
        run(folder)
    assert (folder / "out" / "last_checkpoint").read_text() == "model_last_good.pth"
    assert torch.load(folder / "out" / "model_last_good.pth", weights_only=True)["iteration"] == 2
    assert len(list((folder / "out").glob("nonfinite_iter0000003_rank0.pth"))) == 1


def test_finished_run_is_not_trained_again(folder):
    run(folder, "SOLVER.MAX_ITER", "2")
    before = (folder / "out" / "model_final.pth").stat().st_mtime_ns
    assert run(folder, "SOLVER.MAX_ITER", "2", resume=True) is None
    assert (folder / "out" / "model_final.pth").stat().st_mtime_ns == before


def test_validation_loss_is_logged_and_changes_nothing(folder):
    run(
        folder,
        "SOLVER.MAX_ITER",
        "4",
        "SOLVER.STEPS",
        "[3]",
        "TEST.LOSS_PERIOD",
        "2",
        "OUTPUT_DIR",
        str(folder / "with"),
    )
    run(folder, "SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "[3]", "OUTPUT_DIR", str(folder / "without"))
    assert_same_weights(final_weights(folder / "with"), final_weights(folder / "without"))
    logged = [json.loads(line) for line in (folder / "with" / "metrics.json").read_text().splitlines()]
    assert logged[-1]["validation/total_loss"] > 0
    assert "validation/loss_rpn_tll" in logged[-1]


def test_length_in_epochs(folder):
    """Three pairs an epoch, in iterations of two batches of two images: two iterations; stored, logged, resumable."""
    counted = [
        "SOLVER.MAX_ITER",
        "0",
        "SOLVER.STEPS",
        "()",
        "SOLVER.CHECKPOINT_PERIOD",
        "0",
        "SOLVER.WARMUP_ITERS",
        "0",
    ]
    counted += ["SOLVER.EPOCHS", "3", "SOLVER.ACCUMULATE", "2", "SOLVER.STEP_EPOCHS", "[2]", "SOLVER.GAMMA", "0.5"]
    counted += ["SOLVER.CHECKPOINT_EPOCHS", "1", "TEST.EVAL_EPOCHS", "2"]
    run(folder, *counted)
    stored = load_config(str(folder / "out" / "config.yaml"))
    assert (stored.SOLVER.EPOCHS, stored.SOLVER.MAX_ITER, list(stored.SOLVER.STEPS)) == (3, 6, [4])
    assert (stored.SOLVER.CHECKPOINT_PERIOD, stored.TEST.EVAL_PERIOD) == (2, 4)
    said = "SOLVER.EPOCHS 3: an epoch has 6 images, 2 iterations of 4 images; SOLVER.MAX_ITER 6, SOLVER.STEPS"
    assert said in (folder / "out" / "log.txt").read_text()
    logged = {entry["iteration"]: entry for entry in read_scalars(folder / "out")}
    assert [iteration for iteration, entry in logged.items() if "patient/num_positive" in entry] == [3, 5]
    assert (logged[3]["lr"], logged[5]["lr"]) == (pytest.approx(0.001), pytest.approx(0.0005))
    (folder / "out" / "last_checkpoint").write_text("model_0000003.pth")
    whole = final_weights(folder / "out")
    run(folder, *counted, resume=True)
    assert_same_weights(final_weights(folder / "out"), whole)
    with pytest.raises(ConfigError, match=r"SOLVER.MAX_ITER is 7, .* are 6: they contradict each other"):
        run(folder, *counted, "SOLVER.MAX_ITER", "7", resume=True)


def test_training_without_test_set(folder):
    """As in pretraining."""
    assert not run(folder, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "[]")
    assert (folder / "out" / "model_final.pth").is_file()


def config_in_code(folder, **changed):
    """The toy job's config, as own code makes it."""
    opts = {**SETTINGS, "DATASETS.ROOT": str(folder / "nowhere"), "OUTPUT_DIR": str(folder / "out"), **changed}
    return load_config("", [item for pair in opts.items() for item in pair])


@pytest.fixture
def own_dataset(folder):
    """The toy data, registered by own code as the one category that they have."""
    path = folder / "toy" / "annotations" / "train.json"
    content = json.loads(path.read_text())
    (malignant,) = [c for c in content["categories"] if c["name"] == "malignant"]
    content["categories"] = [malignant]
    path.write_text(json.dumps(content))
    register_coco_instances("own_train", {"author": "somebody"}, str(path), str(folder / "toy" / "images"))
    yield "own_train"
    DatasetCatalog.remove("own_train")
    MetadataCatalog.remove("own_train")


def test_register_coco_instances_data_sets_train_and_evaluate(folder, own_dataset):
    cfg = config_in_code(
        folder,
        **{"DATASETS.TRAIN": f"['{own_dataset}']", "DATASETS.TEST": f"['{own_dataset}']", "SOLVER.MAX_ITER": "2"},
        **{"MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0", "TEST.LOSS_PERIOD": "1"},
    )
    trainer = MammoTrainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert set(results) == {"coco", "froc", "patient"}
    assert results["froc"]["malignant/num_lesions"] == 3
    assert results["patient"]["num_positive"] == 3
    detections = json.loads((folder / "out" / "inference" / own_dataset / "coco_instances_results.json").read_text())
    assert {entry["category_id"] for entry in detections} == {content_category_id(folder)}
    assert {entry["image_id"] for entry in detections} <= {1, 2, 3, 4, 5, 6, 7}


def content_category_id(folder) -> int:
    content = json.loads((folder / "toy" / "annotations" / "train.json").read_text())
    return content["categories"][0]["id"]


def test_a_trainer_made_in_code_leaves_what_report_and_predict_need(folder, own_dataset):
    cfg = config_in_code(
        folder,
        **{"DATASETS.TRAIN": f"['{own_dataset}']", "DATASETS.TEST": f"['{own_dataset}']", "SOLVER.MAX_ITER": "1"},
    )
    (folder / "toy" / "manifest.json").write_text(json.dumps({**CROPPED.to_dict(), "dataset": "toy"}))
    trainer = MammoTrainer(cfg)
    trainer.resume_or_load(resume=False)
    assert not (folder / "out" / "config.yaml").exists()
    trainer.train()
    recorded = load_config(str(folder / "out" / "config.yaml"))
    assert yaml.safe_load(recorded.dump()) == yaml.safe_load(cfg.dump())
    assert Preparation.from_file(folder / "out" / "preparation.json") == CROPPED

    assert report.run(["--run", str(folder / "out"), "--output", str(folder / "report.html")]) == 0
    assert "own_train" in (folder / "report.html").read_text()
    weights = str(folder / "out" / "model_final.pth")
    predict_opts = ["--config-file", str(folder / "out" / "config.yaml"), "--weights", weights, "--quiet"]
    image = str(folder / "toy" / "images" / "train_0.png")
    assert predict.run([*predict_opts, "--input", image, "--output", str(folder / "predictions")]) == 0
    assert len(json.loads((folder / "predictions" / "predictions.json").read_text())["images"]) == 1


def test_the_config_that_a_job_was_set_up_with_is_not_written_again(folder, monkeypatch):
    monkeypatch.setattr("mammo_d2.engine.trainer.record_preparation", lambda cfg: pytest.fail("written again"))
    run(folder, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[]")
    assert (folder / "out" / "config.yaml").is_file()


def test_pictures_of_the_training_take_images_of_one_channel(folder, monkeypatch):
    """detectron2 took the channels 2, 1, 0 of them, as INPUT.FORMAT is BGR: an IndexError."""
    settings = {**SETTINGS, "DATASETS.ROOT": str(folder), "VIS_PERIOD": "1"}
    cfg = load_config("", [item for pair in settings.items() for item in pair])
    register_datasets(cfg)
    model = MammoTrainer.build_model(cfg).train()
    batch = next(iter(MammoTrainer.build_train_loader(cfg)))
    with EventStorage(0) as storage:
        monkeypatch.setattr(storage, "put_image", lambda name, picture: shown.append(picture.shape))
        shown: list = []
        model(batch)
    height, width = batch[0]["image"].shape[1:]
    assert shown == [(3, height, 2 * width)]
    assert cfg.INPUT.FORMAT == "BGR"
