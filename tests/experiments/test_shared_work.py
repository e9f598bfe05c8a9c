"""What runs of an ablation share: the lesion classifier's patch network, one for all combinations of a seed."""

import json
from ast import literal_eval

import pytest

from mammo_d2.engine.run_files.run_record import RunConflictError
from mammo_d2.experiments import cells, shared_work
from mammo_d2.experiments.variant_runs import load_variants, run_ablation
from mammo_d2.jobs.lesion import lesion_job
from tests.conftest import ROOT
from tests.jobs.lesion.lesion_jobs import places, run, write_job

SEVEN = ROOT / "configs" / "quickstart" / "ablation_lesion_context.yaml"


def test_the_file_has_the_patch_network_alone_and_the_seven_combinations():
    maps = {tuple(literal_eval(variant.overrides[1])) for variant in load_variants(str(SEVEN))}
    assert len(maps) == 8
    assert () in maps
    assert {kind for one in maps for kind in one} == {"indicator", "embedding", "saliency"}


@pytest.mark.slow
def test_combinations_share_the_patch_network_of_their_seed(tmp_path, monkeypatch):
    folder, trained, started = write_job(tmp_path), [], []
    train_stage = lesion_job.train_stage

    def count(cfg, resume, strict_weights=False):
        trained.append((cfg.MODEL.META_ARCHITECTURE, cfg.SEED))
        train_stage(cfg, resume)

    def in_process(target, name, config_file, overrides, jobs, *flags):
        started.append(target.name)
        switches = {flag.strip("-").replace("-", "_"): True for flag in flags}
        run(folder, *overrides, out=str(target), **switches)

    monkeypatch.setattr(lesion_job, "train_stage", count)
    monkeypatch.setattr(cells, "run_job", in_process)
    monkeypatch.setattr(shared_work, "run_job", in_process)
    output = folder / "table"
    variants = [variant for variant in load_variants(str(SEVEN)) if "indicator" in variant.name][:2]
    rows = run_ablation(str(folder / "job.yaml"), variants, [1, 2], output, places(folder))
    assert [kind for kind in trained if kind[0] == "LesionPatchClassifier"] == [
        ("LesionPatchClassifier", 1),
        ("LesionPatchClassifier", 2),
    ]
    assert len(trained) == 6
    assert len(list(output.glob("shared_*/patch/model_final.pth"))) == 2
    assert [(row["variant"], row["seed"]) for row in rows] == [(v.name, seed) for v in variants for seed in (1, 2)]
    header = (output / "ablation.md").read_text().splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "variant", "seeds", "lesion AUC", "TNR@FNR0", "TNR@FNR2%", "TNR@FNR5%",
    ]  # fmt: skip
    # The numbers of the tables are those that the evaluations wrote.
    paired = json.loads((output / "paired_malignant.json").read_text())
    for variant in variants:
        entry = paired["rows"][variant.name]["lesion/auc"]
        assert entry["units"] == pytest.approx([row["lesion AUC"] for row in rows if row["variant"] == variant.name])
    # Nothing is done again; a run that is gone is made with the patch network that is there.
    started.clear()
    opts = [*places(folder), "DATALOADER.CACHE_MB", "1"]
    assert run_ablation(str(folder / "job.yaml"), variants, [1, 2], output, opts) == rows
    assert started == []
    metrics = next((output / "indicator_seed2").glob("context_*/best/inference/*/metrics.json"))
    metrics.unlink()
    assert run_ablation(str(folder / "job.yaml"), variants, [1, 2], output, opts) == rows
    assert [name for name in started if not name.startswith("shared_")] == ["indicator_seed2"]
    assert len(list(output.glob("shared_*"))) == 2
    # With other annotations nothing of it is taken.
    path = folder / "lesions/annotations/train.json"
    path.write_text(path.read_text() + "\n")
    started.clear()
    with pytest.raises(RunConflictError, match=r"annotations of lesions_train.*\(4 folders in all"):
        run_ablation(str(folder / "job.yaml"), variants, [1, 2], output, opts)
    assert started == []
