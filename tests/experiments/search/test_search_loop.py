"""The logic of a search on trainings that only write their log, and once on real ones."""

import csv
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_files.run_record import RunConflictError
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.evaluation.files.image_scores import top_runs
from mammo_d2.experiments.search import search_outcome, trial
from mammo_d2.experiments.search.search_loop import search
from mammo_d2.experiments.search.search_outcome import evaluate_top
from mammo_d2.experiments.search.search_plan import SearchPlan
from mammo_d2.experiments.search.search_ranges import Range
from mammo_d2.experiments.search.trial import (
    SearchError,
    TrialJob,
    alone_in,
    end_leftover,
    read_evaluations,
)
from mammo_d2.jobs.job import build_job
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import SETTINGS
from tests.engine.toy_training import run as train_toy

METRIC = "image/malignant/auc"
RANGES = [Range("SOLVER.BASE_LR", "float", (1e-6, 1e-2), True), Range("MODEL.GMIC.NUM_PATCHES", "int", (1, 9))]
SET = {"DATASETS.TEST": "('toy_val',)", "TEST.EVALUATORS": "['image']"}
SET |= {"TEST.EVAL_PERIOD": "10", "SOLVER.MAX_ITER": "40", "SEED": "1"}


def quality(settings: dict[str, str]) -> float:
    """Best at a learning rate of 1e-4 and 5 patches: 1."""
    log_lr, patches = math.log10(float(settings["SOLVER.BASE_LR"])), int(settings["MODEL.GMIC.NUM_PATCHES"])
    return 1 - ((log_lr + 4) / 4) ** 2 - ((patches - 5) / 10) ** 2


class LogJob:
    """In place of a training: four evaluations, one a look, of which the third (0.9 + quality) is the best."""

    started: list[tuple[str, int]]  # folder and number of evaluations found there
    stopped: list[str]
    break_at: tuple[str, int] | None = None  # folder and evaluation after which the search is killed
    fail: dict[str, int]  # exit status by folder

    def __init__(self, folder: Path, config_file, overrides, jobs):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings = folder, dict(zip(overrides[::2], overrides[1::2], strict=True))
        self.log = folder / "metrics.json"
        self.done = len(self.log.read_text().splitlines()) if self.log.is_file() else 0
        self.started.append((folder.name, self.done))

    def poll(self) -> int | None:
        if self.folder.name in self.fail:
            return self.fail[self.folder.name]
        if self.done < 4:
            value = quality(self.settings) + (0.2, 0.5, 0.9, 0.7)[self.done]
            with open(self.log, "a") as file:
                file.write(json.dumps({"iteration": 10 * self.done + 9, METRIC: value, "total_loss": 1.0}) + "\n")
            self.done += 1
            if self.break_at == (self.folder.name, self.done):
                raise KeyboardInterrupt
            return None
        for name in ("model_best.pth", "model_final.pth", "model_0000019.pth"):
            (self.folder / name).touch()
        return 0

    def stop(self) -> None:
        self.stopped.append(self.folder.name)


@pytest.fixture(autouse=True)
def fresh_jobs(monkeypatch):
    monkeypatch.setattr(LogJob, "started", [], raising=False)
    monkeypatch.setattr(LogJob, "stopped", [], raising=False)
    monkeypatch.setattr(LogJob, "break_at", None)
    monkeypatch.setattr(LogJob, "fail", {}, raising=False)


def make_plan(output: Path, **changes) -> SearchPlan:
    settings = {**SET, **changes.pop("settings", {})}
    overrides = [item for pair in settings.items() for item in pair]
    values = {"config_file": "", "ranges": RANGES, "metric": METRIC, "mode": "max", **changes}
    return SearchPlan(output=output, overrides=overrides, **values).complete()


def go(plan: SearchPlan, trials: int, **options) -> list[dict]:
    return search(plan, trials, start=LogJob, interval=0.0, **options)


def lines(rows) -> list[tuple]:
    return sorted(tuple(row[key] for key in row) for row in rows)


def test_a_trial_counts_with_its_best_evaluation_and_the_best_trial_is_first(tmp_path):
    rows = go(make_plan(tmp_path), 6)
    assert len(rows) == 6
    for row in rows:
        drawn = {key: str(row[key]) for key in ("SOLVER.BASE_LR", "MODEL.GMIC.NUM_PATCHES")}
        assert row["value"] == pytest.approx(quality(drawn) + 0.9)
        assert (row["state"], row["iteration"], row["folder"]) == ("complete", 30, f"trial{row['trial']:04d}")
    values = [row["value"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert json.loads((tmp_path / "search.json").read_text()) == rows
    with open(tmp_path / "search.csv") as file:
        assert [row["folder"] for row in csv.DictReader(file)] == [row["folder"] for row in rows]
    assert f"| {METRIC} |" in " ".join((tmp_path / "search.md").read_text().splitlines()[0].split())
    # Of each trial's checkpoints the best and the last one are left.
    assert sorted(path.name for path in (tmp_path / "trial0000").glob("*.pth")) == ["model_best.pth", "model_final.pth"]


def test_tpe_comes_closer_to_the_optimum_than_random_search(tmp_path):
    """After the ten random trials that it starts with."""
    rows = {name: go(make_plan(tmp_path / name, sampler=name), 18) for name in ("random", "tpe")}
    later = {name: [row["value"] for row in found if row["trial"] >= 10] for name, found in rows.items()}
    assert sum(later["tpe"]) > sum(later["random"])
    assert max(later["tpe"]) > 1.85  # 1.9 is the optimum


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_killed_search_gives_the_trials_of_an_uninterrupted_one(tmp_path, sampler):
    whole = go(make_plan(tmp_path / "whole", sampler=sampler, seed=5), 14)
    LogJob.started.clear()
    for LogJob.break_at in (("trial0002", 2), ("trial0012", 4)):
        with pytest.raises(KeyboardInterrupt):
            go(make_plan(tmp_path / "broken", sampler=sampler, seed=5), 14)
    LogJob.break_at = None
    again = go(make_plan(tmp_path / "broken", sampler=sampler, seed=5), 14)
    assert lines(again) == lines(whole)
    expected = [(f"trial{number:04d}", 0) for number in range(14)]
    expected.insert(3, ("trial0002", 2))  # goes on where it was
    expected.insert(14, ("trial0012", 4))
    assert LogJob.started == expected
    assert LogJob.stopped == ["trial0002", "trial0012"]
    # More trials in all are added to a finished search.
    LogJob.started.clear()
    more = go(make_plan(tmp_path / "broken", sampler=sampler, seed=5), 15)
    assert LogJob.started == [("trial0014", 0)]
    assert set(lines(whole)) < set(lines(more))


def test_random_search_draws_the_same_with_any_number_of_jobs_and_other_values_with_another_seed(tmp_path):
    one, three = (go(make_plan(tmp_path / str(n), sampler="random"), 7, jobs=n) for n in (1, 3))
    assert lines(one) == lines(three)
    other = go(make_plan(tmp_path / "other", sampler="random", seed=1), 7)
    assert not {row["SOLVER.BASE_LR"] for row in one} & {row["SOLVER.BASE_LR"] for row in other}


def test_the_median_pruner_ends_trials_worse_than_the_median_of_five(tmp_path):
    rows = go(make_plan(tmp_path, sampler="random", pruner="median", prune_after=2), 12)
    by_trial = {row["trial"]: row for row in rows}
    assert all(by_trial[number]["state"] == "complete" for number in range(5))
    complete = []
    for number in range(12):
        row = by_trial[number]
        drawn = {key: str(row[key]) for key in ("SOLVER.BASE_LR", "MODEL.GMIC.NUM_PATCHES")}
        ordered = sorted(complete)
        middle = len(ordered) // 2
        median = (ordered[middle] + ordered[~middle]) / 2 if ordered else -math.inf
        if len(complete) >= 5 and quality(drawn) < median:
            # At the second evaluation, as its value, after 20 iterations.
            assert (row["state"], row["iteration"]) == ("pruned", 20), number
            assert row["value"] == pytest.approx(quality(drawn) + 0.5)
            assert row["folder"] in LogJob.stopped
        else:
            assert row["state"] == "complete", number
            complete.append(quality(drawn))
    assert 0 < len(complete) < 12
    states = [row["state"] for row in rows]
    assert states == sorted(states)  # the pruned ones after the complete ones, whatever their value
    assert {entry["trial"] for entry in json.loads((tmp_path / "top.json").read_text())} == {
        row["trial"] for row in rows[:5]
    }


def test_successive_halving_lets_the_best_go_on(tmp_path):
    rows = go(make_plan(tmp_path, sampler="random", pruner="halving"), 12)
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert {row["iteration"] for row in pruned} == {10}
    drawn = {row["trial"]: quality({key: str(row[key]) for key in list(row)[4:6]}) for row in rows}
    assert max(drawn, key=drawn.get) == rows[0]["trial"]


def test_a_failed_trial_is_recorded_and_bad_input_is_not_a_trial(tmp_path):
    LogJob.fail = {"trial0001": 70}
    rows = go(make_plan(tmp_path), 3)
    assert (rows[-1]["trial"], rows[-1]["state"], rows[-1]["value"]) == (1, "fail", None)
    assert "exit status 70; see" in rows[-1]["reason"]
    LogJob.fail = {"trial0003": 2}
    with pytest.raises(SearchError, match=r"trial 3 ended early \(exit status 2\); see .*trial0003/stdout.txt"):
        go(make_plan(tmp_path), 5)
    LogJob.fail = {}
    assert [row["state"] for row in go(make_plan(tmp_path), 5)] == ["complete"] * 4 + ["fail"]


def test_a_metric_that_the_trainings_do_not_log(tmp_path):
    with pytest.raises(SearchError, match=rf"'image/benign/auc' is not in .*there are {METRIC}"):
        go(make_plan(tmp_path, metric="image/benign/auc"), 2)


def test_all_trials_failed(tmp_path):
    LogJob.fail = {"trial0000": 70, "trial0001": 1}
    with pytest.raises(SearchError, match="no trial has a value"):
        go(make_plan(tmp_path), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"DATASETS.TEST": "('toy_test',)"}}, "toy_test: values chosen on a test set"),
        ({"settings": {"DATASETS.TEST": "('a_val', 'b_val')"}}, "goes by one set"),
        ({"settings": {"DATASETS.TRAIN": "('toy_val',)"}}, "which is trained on"),
        ({"metric": "froc/malignant/sens@1"}, r"task of TEST.EVALUATORS \(image\)"),
        ({"metric": ""}, "write TASK/KEY as logged"),
        ({"metric": "validation/total_loss"}, "TEST.LOSS_PERIOD"),
        ({"mode": "best"}, "use max or min"),
        ({"sampler": "grid"}, "random, tpe"),
        ({"pruner": "median", "settings": {"TEST.EVAL_PERIOD": "0"}}, "nothing to prune on"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_training(tmp_path, changes, message):
    with pytest.raises(SearchError, match=message):
        make_plan(tmp_path, **changes)


def test_trials_whose_length_is_in_epochs(tmp_path):
    """Their iterations follow from the data set, in the trial; the number of evaluations does not."""
    settings = {"SOLVER.MAX_ITER": "0", "SOLVER.EPOCHS": "9", "TEST.EVAL_PERIOD": "0", "TEST.EVAL_EPOCHS": "2"}
    plan = make_plan(tmp_path, settings=settings, pruner="median")
    [stage] = build_job(load_config("", plan.overrides)).stages()
    assert stage.evaluations == 5
    losses = settings | {"TEST.LOSS_EPOCHS": "2"}
    assert make_plan(tmp_path, settings=losses, metric="validation/total_loss").metric == "validation/total_loss"


def test_a_folder_belongs_to_one_plan_and_to_one_search_at_a_time(tmp_path):
    go(make_plan(tmp_path), 1)
    with pytest.raises(SearchError, match=r"other ranges, seed; finish it with those"):
        go(make_plan(tmp_path, ranges=RANGES[:1], seed=3), 2)
    with alone_in(tmp_path), pytest.raises(SearchError, match="another search is running in"):
        go(make_plan(tmp_path), 2)


def test_a_search_with_another_config_is_refused(tmp_path):
    go(make_plan(tmp_path), 1)
    LogJob.started.clear()
    message = rf"{tmp_path} holds a run .*: SOLVER.MAX_ITER: 40 then, 60 now\. Name another --output"
    with pytest.raises(RunConflictError, match=message):
        go(make_plan(tmp_path, settings={"SOLVER.MAX_ITER": "60"}), 2)
    assert LogJob.started == []
    go(make_plan(tmp_path, settings={"DATALOADER.NUM_WORKERS": "1"}), 2)
    assert LogJob.started == [("trial0001", 0)]


def test_a_negative_seed_becomes_the_searchs(tmp_path):
    plan = make_plan(tmp_path, settings={"SEED": "-1"}, seed=7)
    assert load_config("", plan.overrides).SEED == 7


def write_log(folder, values):
    folder.mkdir(parents=True, exist_ok=True)
    text = [json.dumps({"iteration": i, **({"lesion/auc": v} if v is not None else {})}) for i, v in values]
    (folder / "metrics.json").write_text("\n".join(text) + "\n")


def test_evaluations_of_a_job_of_stages_are_numbered_by_the_moment(tmp_path):
    config = str(ROOT / "configs" / "lesion_context" / "DenseNet161.yaml")
    stages = build_job(load_config(config)).stages()
    # The patch network's training stops early.
    write_log(tmp_path / "patch", [(399, 0.5), (419, None), (799, 0.75)])
    write_log(tmp_path / "context_embedding_saliency", [(99, math.nan), (199, 0.625)])
    found = read_evaluations(tmp_path, stages, "lesion/auc")
    assert [(one.step, one.iteration, one.last_stage) for one in found] == [
        (1, 400, False), (2, 800, False), (101, 100, True), (102, 200, True),
    ]  # fmt: skip
    assert [found[i].value for i in (0, 1, 3)] == [0.5, 0.75, 0.625]
    assert math.isnan(found[2].value)
    assert read_evaluations(tmp_path / "absent", stages, "lesion/auc") == []


#: Starts a process of its own that ignores SIGTERM, says so, and waits.
FAMILY = """
import subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
subprocess.run([sys.executable, "-c", child])
"""


def start_family(folder, config_file, overrides, jobs, *flags, **options):
    assert flags == ("--resume",)
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout.readline() == "ready\n"
    return process


def test_all_processes_of_a_trial_end_with_it_or_before_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "start_job", start_family)
    monkeypatch.setattr(trial, "GRACE", 0.3)
    job = TrialJob(tmp_path / "a", "", [], 1)
    assert job.poll() is None
    job.stop()
    assert job.poll() == -signal.SIGTERM
    assert job.process.stdout.read() == ""  # the end of the pipe: the child is gone too

    left = TrialJob(tmp_path / "b", "", [], 1)  # of a search that was killed
    end_leftover(tmp_path / "b")
    assert left.process.wait() == -signal.SIGTERM
    assert left.process.stdout.read() == ""
    end_leftover(tmp_path / "b")  # nothing is left


class ToyJob:
    """A real training, in this process."""

    def __init__(self, folder, config_file, overrides, jobs):
        train_toy(folder, *overrides, "OUTPUT_DIR", str(folder), resume=True)

    def poll(self):
        return 0

    def stop(self):
        pass


def test_real_trainings_interrupted_and_evaluated(tmp_path, monkeypatch):
    for split in ("train", "val", "held"):
        write_dataset(tmp_path / "data", positives=3, negatives=3, split=split)
    settings = {**SETTINGS, "DATASETS.ROOT": str(tmp_path / "data"), "DATASETS.TEST": "('toy_val',)"}
    settings |= {"DATASETS.ALLOW_SHARED_PATIENTS": "True", "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0"}
    settings |= {"TEST.EVAL_PERIOD": "2", "TEST.BEST_METRIC": "patient/auc", "TEST.EVALUATORS": "['patient']"}
    overrides = [item for pair in settings.items() for item in pair]
    output = tmp_path / "search"
    ranges = [Range("SOLVER.BASE_LR", "float", (1e-4, 1e-1), True)]
    plan = SearchPlan("", ranges, output, overrides, sampler="random").complete()
    step = MammoTrainer.run_step

    def failing_step(self):
        if self.iter == 5 and "trial0001" in self.cfg.OUTPUT_DIR:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(MammoTrainer, "run_step", failing_step)
        with pytest.raises(KeyboardInterrupt):
            search(plan, 2, start=ToyJob, interval=0.0)
    rows = search(plan, 2, top=1, start=ToyJob, interval=0.0)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    stages = build_job(load_config("", plan.overrides)).stages()
    for row in rows:
        evaluations = read_evaluations(output / row["folder"], stages, "patient/auc")
        assert [one.iteration for one in evaluations] == [2, 4, 6]
        assert row["value"] == max(one.value for one in evaluations)

    def evaluate(folder, name, config_file, overrides, jobs, *flags):
        assert flags == ("--eval-only",)
        train_toy(folder, *overrides, "OUTPUT_DIR", str(folder), eval_only=True)

    monkeypatch.setattr(search_outcome, "run_job", evaluate)
    entries = evaluate_top(plan)
    assert top_runs(output, 1) == [output / rows[0]["folder"] / "best_toy_val"]
    # The weights are those that the value is of.
    metrics = json.loads((output / entries[0]["folder"] / "inference" / "toy_val" / "metrics.json").read_text())
    assert metrics["patient"]["auc"] == entries[0]["value"] == rows[0]["value"]
    assert [entry["folder"] for entry in evaluate_top(plan, "toy_held")] == [f"{rows[0]['folder']}/best_toy_held"]

    assert evaluate_top(plan, "toy_held") == json.loads((output / "top.json").read_text())
    path = tmp_path / "data" / "toy" / "annotations" / "held.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(RunConflictError, match=r"best_toy_held/inference/toy_held holds .*annotations of toy_held"):
        evaluate_top(plan, "toy_held")

    best = yaml.safe_load((output / "best.yaml").read_text())
    assert best["SOLVER"]["BASE_LR"] == rows[0]["SOLVER.BASE_LR"]
    cfg = load_config(str(output / "best.yaml"))
    trained = load_config(str(output / rows[0]["folder"] / "config.yaml"))
    trained.OUTPUT_DIR = cfg.OUTPUT_DIR
    assert json.dumps(cfg) == json.dumps(trained)
