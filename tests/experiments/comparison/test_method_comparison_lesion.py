"""A lesion classifier and its context network in one table: each fold's classifier on its fold's context network."""

import cv2
import numpy as np
import pytest

from mammo_d2.cli.training import train
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import read_json
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.experiments import cells, shared_work
from mammo_d2.experiments.comparison.method_comparison import ComparedData, compare_methods
from mammo_d2.experiments.comparison.method_rows import MethodRow
from mammo_d2.experiments.cross_validation import FoldPlan
from tests.jobs.lesion.lesion_jobs import CONTEXT, JOB

HEIGHT, WIDTH = 96, 80


def write_patients(folder):
    """Twelve patients with an image each: malignant, benign and nothing in turn."""
    (folder / "images").mkdir(parents=True)
    builder = CocoBuilder()
    for number in range(12):
        kind = ("malignant", "benign", "")[number % 3]
        pixels = np.random.default_rng(number).integers(4000, 8000, (HEIGHT, WIDTH), dtype=np.uint16)
        pixels[30:46, 20:36] = {"malignant": 60000, "benign": 30000, "": 8000}[kind]
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
        labels = {"malignant": int(kind == "malignant"), "benign": int(kind == "benign")}
        image = builder.add_image(
            f"{number}.png", HEIGHT, WIDTH, patient_id=f"p{number}", laterality="L", view="CC", labels=labels
        )
        if kind:
            builder.add_annotation(image, [20, 30, 16, 16], kind, pathology=kind, lesion_id="1")
    builder.write(folder / "annotations" / "train.json")


@pytest.mark.slow
def test_folds_of_a_lesion_classifier_on_a_context_network(tmp_path, monkeypatch):
    started = []

    def in_process(folder, name, config, overrides, jobs, *flags):
        started.append((folder.relative_to(tmp_path / "out").as_posix(), flags))
        assert train.run([*flags, "--config-file", config, *overrides, "OUTPUT_DIR", str(folder)]) == 0

    monkeypatch.setattr(cells, "run_job", in_process)
    monkeypatch.setattr(shared_work, "run_job", in_process)
    write_patients(tmp_path / "films")
    (tmp_path / "context.yaml").write_text(CONTEXT)
    (tmp_path / "job.yaml").write_text(JOB)
    short = ["MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    lesion = ["MODEL.LESION.CONTEXT_CONFIG", str(tmp_path / "context.yaml")]
    lesion += ["MODEL.LESION.CONTEXT_WEIGHTS", "{weights:context}"]
    rows = [
        MethodRow("lesions", str(tmp_path / "job.yaml"), [*lesion, "MODEL.LESION.MAPS", "['embedding', 'saliency']"]),
        MethodRow("indicator", str(tmp_path / "job.yaml"), [*lesion, "MODEL.LESION.MAPS", "['indicator']"]),
        MethodRow("context", str(tmp_path / "context.yaml"), short),
    ]
    data = ComparedData(FoldPlan(tmp_path / "films", 2, validation=False))
    found = compare_methods(rows, data, [1], tmp_path / "out", ["MODEL.DEVICE", "cpu"])
    lesions = found.compared.metrics["lesions"]
    assert 0 <= lesions["lesion/auc"].value <= 1
    assert "image/auc" not in lesions
    assert {"image/auc", "lesion/auc", "pointing/hit"} <= set(found.compared.metrics["context"])
    # Four malignant and four benign lesions, each classified once.
    assert len(found.predictions["lesions"][0].lesion_cases.truth) == 8
    for fold in range(2):
        folder = tmp_path / "out" / "lesions" / "seed1" / f"fold{fold}" / "train"
        weights = load_config(str(folder / "config.yaml")).MODEL.LESION.CONTEXT_WEIGHTS
        assert weights == str(tmp_path / "out/context/seed1" / f"fold{fold}" / "train" / "model_final.pth")
        results = next(folder.glob("context_*/best/inference/*/metrics.json"))
        assert results.parent.name == f"cv{fold}_test"
        assert "lesion" in read_json(results)
    # Both lesion rows of a fold share one patch network.
    assert sum(flags == ("--resume", "--shared-only") for _, flags in started) == 2
    assert [place for place, _ in started[:4]] == [
        f"context/seed1/fold{fold}/{part}" for fold in range(2) for part in ("train", "test")
    ]
    assert found.costs["lesions"].minutes > 0
