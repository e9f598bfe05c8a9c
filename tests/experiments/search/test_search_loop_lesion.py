"""A search over the lesion classifier's job, both of whose stages have ranges."""

import argparse
import json
import shutil

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.experiments.search import search_outcome
from mammo_d2.experiments.search.search_loop import search
from mammo_d2.experiments.search.search_outcome import evaluate_top
from mammo_d2.experiments.search.search_plan import SearchPlan
from mammo_d2.experiments.search.search_ranges import load_ranges
from mammo_d2.jobs.job import main
from tests.jobs.lesion.lesion_jobs import places, write_job

RANGES = """
MODEL.LESION.PATCH_STAGE.SOLVER.BASE_LR: {float: [1e-4, 1e-2], log: true}
MODEL.LESION.CONTEXT_STAGE.SOLVER.BASE_LR: {float: [1e-3, 1e-1], log: true}
"""


class StagesJob:
    """The job, in this process."""

    def __init__(self, folder, config_file, overrides, jobs, *flags):
        opts = [*overrides, "OUTPUT_DIR", str(folder)]
        switches = {"resume": not flags, "eval_only": bool(flags), "num_gpus": 0}
        main(argparse.Namespace(config_file=config_file, opts=opts, **switches))

    def poll(self):
        return 0

    def stop(self):
        pass


@pytest.mark.slow
def test_both_stages_are_searched_and_trials_share_what_does_not_depend_on_them(tmp_path, monkeypatch):
    data = write_job(tmp_path / "data")
    for split in ("val", "held"):
        shutil.copy(data / "lesions/annotations/train.json", data / f"lesions/annotations/{split}.json")
    config = str(data / "job.yaml")
    opts = [*places(data), "DATASETS.ALLOW_SHARED_PATIENTS", "True", "DATASETS.TEST", "('lesions_val',)"]
    (tmp_path / "ranges.yaml").write_text(RANGES)
    ranges = load_ranges(str(tmp_path / "ranges.yaml"), config, opts)
    plan = SearchPlan(config, ranges, tmp_path / "out", opts, sampler="random").complete()
    rows = search(plan, 2, top=1, start=StagesJob, interval=0.0)

    assert [row["state"] for row in rows] == ["complete"] * 2
    logs = [
        [json.loads(line) for line in (tmp_path / "out" / rows[0]["folder"] / stage / "metrics.json").open()]
        for stage in ("patch", "context_embedding_saliency")
    ]
    rates = [log[-1]["lr"] for log in logs]
    assert rates == [rows[0][one.key] for one in ranges]
    assert rows[0]["value"] == max(entry["lesion/auc"] for entry in logs[1] if "lesion/auc" in entry)
    # Four images, whose saliency both trials use.
    assert len(list((tmp_path / "out/shared/cache/saliency").rglob("*.npy"))) == 4
    assert not (tmp_path / "out" / "trial0000" / "cache").exists()

    evaluated = []

    def evaluate(folder, name, config_file, overrides, jobs, *flags):
        evaluated.append(name)
        StagesJob(folder, config_file, overrides, jobs, *flags)

    monkeypatch.setattr(search_outcome, "run_job", evaluate)
    (entry,) = evaluate_top(plan)
    assert evaluated == []  # the job itself has evaluated its best weights
    assert entry["folder"] == f"{rows[0]['folder']}/context_embedding_saliency/best"
    assert entry["weights"] == f"{rows[0]['folder']}/context_embedding_saliency/model_best.pth"
    metrics = json.loads((tmp_path / "out" / entry["folder"] / "inference/lesions_val/metrics.json").read_text())
    assert metrics["lesion"]["auc"] == rows[0]["value"]
    (entry,) = evaluate_top(plan, "lesions_held")
    assert (tmp_path / "out" / entry["folder"] / "inference/lesions_held/metrics.json").is_file()
    best = load_config(str(tmp_path / "out" / "best.yaml")).MODEL.LESION
    assert best.PATCH_STAGE[-1] == rows[0][ranges[0].key]
