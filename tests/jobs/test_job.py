"""The registry of jobs, and a job that the rest of the package has never heard of."""

import json
import math
from pathlib import Path

import pytest
import torch

from mammo_d2.cli.training import train
from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_files.run_folder import inference_folder
from mammo_d2.experiments import cells, shared_work
from mammo_d2.experiments.cross_validation import FoldPlan, cross_validate
from mammo_d2.experiments.search import search_outcome
from mammo_d2.experiments.search.search_loop import search
from mammo_d2.experiments.search.search_outcome import evaluate_top
from mammo_d2.experiments.search.search_plan import SearchPlan
from mammo_d2.experiments.search.search_ranges import Range
from mammo_d2.experiments.variant_runs import Variant, run_ablation
from mammo_d2.jobs import JOB_REGISTRY, Job, LesionContextJob, SingleStageJob, build_job
from mammo_d2.jobs.job import SharedRun, Stage
from mammo_d2.report.run_report import write_run_report
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset


class RelayJob(Job):
    """Two trainings, the second from the first one's weights, which runs of a seed share. Nothing is computed."""

    can_share = True

    def stages(self):
        legs = [Stage(f"{name} leg", name, self.cfg) for name in ("first", "second")]
        return legs[1:] if self.cfg.MODEL.WEIGHTS else legs

    def train(self, options):
        folder = Path(self.cfg.OUTPUT_DIR)
        for stage in self.stages()[: 1 if options.shared_only else 2]:
            (folder / stage.folder).mkdir(parents=True, exist_ok=True)
            lines = [{"iteration": n, "total_loss": 1.0, "patient/auc": self.auc * n / 9} for n in (4, 9)]
            (folder / stage.folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
            for name in ("model_best.pth", "model_final.pth"):
                torch.save({"auc": self.auc}, folder / stage.folder / name)
        return None if options.shared_only else self._evaluate(self.evaluation_folder(folder), self.auc)

    def evaluate(self, options):
        return self._evaluate(Path(self.cfg.OUTPUT_DIR), torch.load(self.cfg.MODEL.WEIGHTS)["auc"])

    def _evaluate(self, folder, auc):
        path = inference_folder(folder, self.cfg.DATASETS.TEST[0]) / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"auc": auc, "accuracy": 0.5, "sensitivity": 0.5, "specificity": 0.5}
        path.write_text(json.dumps({"patient": numbers}))
        return {"patient": numbers}

    @property
    def auc(self):
        """1 at a learning rate of 1e-3, and 0.1 less for every factor of ten."""
        return round(1 - abs(math.log10(self.cfg.SOLVER.BASE_LR) + 3) / 10, 6)

    @classmethod
    def shared_runs(cls, configs, output):
        seeds = [cfg.SEED for cfg in configs]
        return [
            SharedRun(output / f"first{seed}", "the first leg", tuple(n for n, own in enumerate(seeds) if own == seed))
            for seed in dict.fromkeys(seeds)
        ]

    def overrides_of_shared(self, folder):
        return ["MODEL.WEIGHTS", str(folder / "first" / "model_best.pth")]


@pytest.fixture
def relay(monkeypatch, tmp_path):
    """The job registered, its runs in this process: overrides of them all, and the folders that were run."""
    JOB_REGISTRY.register(RelayJob)
    ran = []

    def in_process(folder, name, config_file, overrides, jobs, *flags):
        ran.append((folder.name, flags))
        train.run([*flags, "--config-file", config_file, *overrides, "OUTPUT_DIR", str(folder)])

    for module in (cells, search_outcome, shared_work):
        monkeypatch.setattr(module, "run_job", in_process)
    for split in ("train", "val", "held"):
        write_dataset(tmp_path / "data", positives=3, negatives=3, split=split)
    overrides = ["JOB", "RelayJob", "DATASETS.ROOT", str(tmp_path / "data"), "DATASETS.ALLOW_SHARED_PATIENTS", "True"]
    overrides += ["DATASETS.TRAIN", "('toy_train',)", "DATASETS.TEST", "('toy_val',)", "TEST.EVALUATORS", "['patient']"]
    overrides += ["TEST.EVAL_PERIOD", "5", "TEST.BEST_METRIC", "patient/auc", "SOLVER.MAX_ITER", "10", "SEED", "1"]
    yield overrides, ran
    del JOB_REGISTRY._obj_map["RelayJob"]


def test_the_training_command_runs_it(relay, tmp_path):
    overrides, _ = relay
    folder = tmp_path / "out"
    assert train.run([*overrides, "OUTPUT_DIR", str(folder)]) == 0
    job = build_job(load_config(str(folder / "config.yaml")))
    assert type(job) is RelayJob
    assert job.is_finished(folder)
    assert job.weights(folder) == folder / "second" / "model_best.pth"
    assert job.metrics_file(folder) == folder / "second" / "inference" / "toy_val" / "metrics.json"
    (folder / "second" / "model_final.pth").unlink()
    assert job.metrics_file(folder) is None
    with pytest.raises(FileNotFoundError, match=r"second/model_final\.pth"):
        job.weights(folder)


def test_an_ablation_makes_what_its_runs_share_once(relay, tmp_path):
    overrides, ran = relay
    variants = [Variant("slow", ["SOLVER.BASE_LR", "0.0001"]), Variant("right", ["SOLVER.BASE_LR", "0.001"])]
    rows = run_ablation("", variants, [1, 2], tmp_path / "table", overrides)
    assert [row["AUC"] for row in rows] == [0.9, 0.9, 1.0, 1.0]
    assert ran == [
        ("first1", ("--resume", "--shared-only")),
        ("first2", ("--resume", "--shared-only")),
        *((f"{name}_seed{seed}", ("--resume",)) for name in ("slow", "right") for seed in (1, 2)),
    ]
    assert not list((tmp_path / "table").glob("*_seed*/first"))
    assert load_config(str(tmp_path / "table/right_seed2/config.yaml")).MODEL.WEIGHTS == str(
        tmp_path / "table/first2/first/model_best.pth"
    )


def test_cross_validation(relay, tmp_path):
    overrides, ran = relay
    rows = cross_validate("", FoldPlan(tmp_path / "data" / "toy", 3), tmp_path / "folds", overrides)
    assert [row["patient/auc"] for row in rows] == [1.0, 1.0, 1.0]
    assert ran[:2] == [("train", ("--resume",)), ("test", ("--eval-only",))]
    weights = load_config(str(tmp_path / "folds/fold0/test/config.yaml")).MODEL.WEIGHTS
    assert weights == str(tmp_path / "folds/fold0/train/second/model_best.pth")


def test_a_search_goes_by_the_last_stage(relay, tmp_path):
    overrides, ran = relay

    class InProcess:
        def __init__(self, folder, config_file, settings, jobs):
            train.run(["--resume", "--config-file", config_file, *settings, "OUTPUT_DIR", str(folder)])

        def poll(self):
            return 0

        def stop(self):
            pass

    ranges = [Range("SOLVER.BASE_LR", "float", (1e-5, 1e-1), True)]
    plan = SearchPlan("", ranges, tmp_path / "search", overrides, sampler="random").complete()
    rows = search(plan, 3, top=2, start=InProcess, interval=0.0)
    assert [row["state"] for row in rows] == ["complete"] * 3
    for row in rows:
        assert row["value"] == pytest.approx(1 - abs(math.log10(row["SOLVER.BASE_LR"]) + 3) / 10, abs=1e-6)
        assert row["iteration"] == 10
    entries = evaluate_top(plan, "toy_held")
    assert [entry["weights"] for entry in entries] == [f"{row['folder']}/second/model_best.pth" for row in rows[:2]]
    assert [name for name, flags in ran if flags == ("--eval-only",)] == ["best_toy_held"] * 2
    for entry in entries:
        path = inference_folder(tmp_path / "search" / entry["folder"], "toy_held") / "metrics.json"
        assert json.loads(path.read_text())["patient"]["auc"] == pytest.approx(entry["value"])


def test_the_report_shows_its_trainings_and_the_evaluation(relay, tmp_path):
    overrides, _ = relay
    folder = tmp_path / "out"
    train.run([*overrides, "OUTPUT_DIR", str(folder)])
    html = write_run_report(load_config(str(folder / "config.yaml")), folder).read_text(encoding="utf-8")
    for text in (
        "<h2>Training of the first leg</h2>",
        "<h2>Training of the second leg</h2>",
        "Best patient/auc: 1.000 after 10 iterations, kept as model_best.pth.",
        "<h2>Results on toy_val</h2>",
    ):
        assert text in html


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("top_likelihood", SingleStageJob),
        ("deep_mil", SingleStageJob),
        ("dual_branch", SingleStageJob),
        ("gmic", SingleStageJob),
        ("lesion_context", LesionContextJob),
    ],
)
def test_the_quickstarts_have_their_job(config, kind):
    job = build_job(load_config(str(ROOT / "configs" / "quickstart" / f"phantom_{config}.yaml")))
    assert type(job) is kind
    assert [stage.folder for stage in job.stages()] == (
        [""] if kind is SingleStageJob else ["patch", "context_embedding_saliency"]
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["JOB", "Relay"],
            "JOB is 'Relay'; the registered jobs are BackboneJob, LesionContextJob, LesionPatchJob, Single",
        ),
        (
            ["MODEL.META_ARCHITECTURE", "LesionPatchClassifier"],
            "JOB is SingleStageJob, but LesionPatchClassifier .* is trained by LesionPatchJob: set JOB",
        ),
        (["JOB", "LesionContextJob"], "META_ARCHITECTURE is GeneralizedRCNN: leave out JOB"),
    ],
)
def test_a_config_for_no_job(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_job(load_config("", overrides))
