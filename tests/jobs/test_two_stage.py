"""The job of two trainings: what the second starts from, resuming, cross-validation, what runs share."""

from pathlib import Path

import pytest
import torch

from mammo_d2.cli.training import train
from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import ConfigError
from mammo_d2.core.files import read_json, write_json
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine.run_files.run_record import RunConflictError
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.experiments import cells, shared_work
from mammo_d2.experiments.cross_validation import FoldPlan, cross_validate
from mammo_d2.experiments.fold_comparison import compare_variants
from mammo_d2.experiments.variant_runs import Variant, run_ablation
from mammo_d2.jobs import JobOptions, TwoStageJob, build_job
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset

TINY = """
MODEL:
  META_ARCHITECTURE: DeepMIL
  DEVICE: cpu
  WEIGHTS: ""
  PIXEL_MEAN: [120.0]
  PIXEL_STD: [60.0]
  BACKBONE: {NAME: ResNet22}
  RESNET22: {STEM_CHANNELS: 2, STRIDES: [1, 2, 2, 1, 1]}
  DEEP_MIL: {HEAD: max}
INPUT: {SIZE: [48, 40], AUG: {KEEP_LESION: False}}
DATASETS: {TRAIN: [toy_train], TEST: [toy_val], ALLOW_SHARED_PATIENTS: True}
DATALOADER: {NUM_WORKERS: 0, SAMPLER_TRAIN: TrainingSampler}
SOLVER: {OPTIMIZER: Adam, BASE_LR: 0.01, MAX_ITER: 3, IMS_PER_BATCH: 2, STEPS: [], WARMUP_ITERS: 0}
TEST: {EVALUATORS: [image], EVAL_PERIOD: 0}
SEED: 4
"""
TWO_STAGES = ["JOB", "TwoStageJob", "MODEL.DEEP_MIL.HEAD", "label_assignment", "MODEL.DEEP_MIL.TOP_K", "1"]
TWO_STAGES += ["FIRST_STAGE.OVERRIDES", "['MODEL.DEEP_MIL.HEAD', 'max']"]


@pytest.fixture
def config(tmp_path) -> tuple[str, list[str]]:
    """A config file of a tiny max-pooling model, and the overrides that name its data."""
    for split in ("train", "val"):
        path = write_dataset(tmp_path / "data", positives=3, negatives=3, split=split)
        coco = read_json(path)
        for number, image in enumerate(coco["images"]):
            image["labels"] = {"malignant": int(number < 3)}
        write_json(path, coco)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return str(tmp_path / "tiny.yaml"), ["DATASETS.ROOT", str(tmp_path / "data")]


def test_epochs_of_the_stages(config):
    """Six images in batches of two: three iterations an epoch; a first stage with other batches has its own."""
    file, data = config
    overrides = [*data, *TWO_STAGES[:-2], "SOLVER.MAX_ITER", "0", "SOLVER.EPOCHS", "2"]
    cfg = load_config(file, [*overrides, "FIRST_STAGE.OVERRIDES", "['SOLVER.EPOCHS', 1, 'SOLVER.IMS_PER_BATCH', 6]"])
    register_datasets(cfg)
    build_job(cfg).resolve_epochs(cfg)
    assert cfg.SOLVER.MAX_ITER == 6
    first = build_job(cfg).stages()[0].cfg.clone()
    MammoTrainer.resolve_epochs(first)
    assert (first.SOLVER.EPOCHS, first.SOLVER.MAX_ITER) == (1, 1)
    cfg.FIRST_STAGE.OVERRIDES = ["MODEL.DEEP_MIL.HEAD", "max"]
    assert build_job(cfg).stages()[0].cfg.SOLVER.MAX_ITER == 6


def test_a_first_stage_of_another_config_has_no_more_boxes(config):
    """Or the second would start from a model that has seen the boxes it must do without."""
    file, data = config
    overrides = [*data, *TWO_STAGES[:-2], "FIRST_STAGE.CONFIG", file, "DATASETS.BOXES_FOR", "0.25"]
    first = build_job(cfg := load_config(file, [*overrides, "DATASETS.BOXES_SEED", "3"])).stages()[0].cfg
    assert (first.DATASETS.BOXES_FOR, first.DATASETS.BOXES_SEED) == (0.25, 3)
    cfg.FIRST_STAGE.OVERRIDES = ["DATASETS.BOXES_FOR", "1.0"]
    with pytest.raises(ValueError, match=r"FIRST_STAGE\.OVERRIDES has DATASETS\.BOXES_FOR, which both trainings share"):
        build_job(cfg).stages()


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """Runs of the experiments happen in this process; the folders' names, in order."""
    folders = []

    def in_process(folder, name, config_file, overrides, jobs, *flags):
        folders.append(folder.name)
        assert train.run([*flags, "--config-file", config_file, *overrides, "OUTPUT_DIR", str(folder)]) == 0

    for module in (cells, shared_work):
        monkeypatch.setattr(module, "run_job", in_process)
    return folders


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def is_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_second_stage_starts_from_the_model_that_the_first_would_be_alone(config, tmp_path):
    file, data = config
    common = ["--config-file", file, *data]
    assert train.run([*common, "OUTPUT_DIR", str(tmp_path / "alone")]) == 0
    # A learning rate of 0 in the second stage leaves what it starts from, but for the statistics of the normalisation.
    two = [*TWO_STAGES, "SOLVER.BASE_LR", "0.0"]
    two[two.index("FIRST_STAGE.OVERRIDES") + 1] = "['MODEL.DEEP_MIL.HEAD', 'max', 'SOLVER.BASE_LR', 0.01]"
    assert train.run([*common, *two, "OUTPUT_DIR", str(tmp_path / "two")]) == 0
    alone, first = weights(tmp_path / "alone/model_final.pth"), weights(tmp_path / "two/first_stage/model_final.pth")
    assert is_equal(alone, first)
    second = weights(tmp_path / "two/model_final.pth")
    learned = [name for name in first if name.endswith((".weight", ".bias"))]
    assert learned
    assert is_equal({name: first[name] for name in learned}, {name: second[name] for name in learned})
    cfg = load_config(str(tmp_path / "two/config.yaml"))
    assert (cfg.JOB, cfg.MODEL.WEIGHTS, cfg.MODEL.DEEP_MIL.HEAD) == ("TwoStageJob", "", "label_assignment")
    first_cfg = load_config(str(tmp_path / "two/first_stage/config.yaml"))
    assert (first_cfg.JOB, first_cfg.MODEL.DEEP_MIL.HEAD) == ("SingleStageJob", "max")
    job = build_job(cfg)
    assert job.weights(tmp_path / "two") == tmp_path / "two/model_final.pth"
    assert job.metrics_file(tmp_path / "two") == tmp_path / "two/inference/toy_val/metrics.json"
    assert [stage.folder for stage in job.stages()] == ["first_stage", ""]


def test_the_first_stage_that_has_finished_is_kept_and_another_one_refused(config, tmp_path):
    file, data = config
    command = ["--config-file", file, *data, *TWO_STAGES, "OUTPUT_DIR", str(tmp_path / "out")]
    assert train.run(command) == 0
    result, first = tmp_path / "out/model_final.pth", tmp_path / "out/first_stage/model_final.pth"
    complete, written = weights(result), first.stat().st_mtime_ns
    result.unlink()
    (tmp_path / "out/last_checkpoint").unlink()
    assert train.run(["--resume", *command]) == 0
    assert first.stat().st_mtime_ns == written
    assert is_equal(weights(result), complete)
    job = build_job(
        load_config(file, [*data, *TWO_STAGES, "SOLVER.BASE_LR", "0.1", "OUTPUT_DIR", str(tmp_path / "out")])
    )
    with pytest.raises(RunConflictError, match=r"SOLVER.BASE_LR: 0\.01 then, 0\.1 now"):
        job.train(JobOptions(resume=True))


def test_each_fold_has_its_own_first_stage(config, ran, tmp_path):
    file, data = config
    cross_validate(file, FoldPlan(tmp_path / "data" / "toy", 3), tmp_path / "folds", [*data, *TWO_STAGES])
    assert ran == ["train", "test"] * 3
    folders = [tmp_path / f"folds/fold{fold}/train/first_stage" for fold in range(3)]
    assert [load_config(str(folder / "config.yaml")).DATASETS.TRAIN for folder in folders] == [
        (f"cv{fold}_train",) for fold in range(3)
    ]
    models = [weights(folder / "model_final.pth") for folder in folders]
    assert not is_equal(models[0], models[1])
    assert not is_equal(models[1], models[2])


def test_a_fold_can_start_from_the_row_of_another_scheme(config, ran, tmp_path):
    """Without a training of its own it ends with the model that the two stages make."""
    file, data = config
    given = [*TWO_STAGES[:-2], "FIRST_STAGE.WEIGHTS", "{weights:max pooling}"]
    variants = [Variant("from max", given), Variant("max pooling", []), Variant("two stages", TWO_STAGES)]
    plan = FoldPlan(tmp_path / "data" / "toy", 3)
    compare_variants(file, variants, plan, tmp_path / "table", data)
    assert len(ran) == 18
    for fold in range(3):
        folder = tmp_path / "table/from_max" / f"fold{fold}" / "train"
        first = tmp_path / "table/max_pooling" / f"fold{fold}" / "train/model_final.pth"
        assert load_config(str(folder / "config.yaml")).FIRST_STAGE.WEIGHTS == str(first)
        two = tmp_path / "table/two_stages" / f"fold{fold}" / "train"
        assert is_equal(weights(first), weights(two / "first_stage/model_final.pth"))
        assert is_equal(weights(folder / "model_final.pth"), weights(two / "model_final.pth"))
    ran.clear()
    compare_variants(file, variants, plan, tmp_path / "table", data)
    assert ran == []


@pytest.mark.parametrize(
    ("start", "message"),
    [("maximum", "the rows are first, second"), ("second", "in a circle: first, second")],
)
def test_a_row_to_start_from_must_be_there(tmp_path, start, message):
    variants = [
        Variant("first", ["FIRST_STAGE.WEIGHTS", f"{{weights:{start}}}"]),
        Variant("second", ["FIRST_STAGE.WEIGHTS", "{weights:first}"]),
    ]
    with pytest.raises(ValueError, match=message):
        compare_variants("", variants, FoldPlan(tmp_path, 3), tmp_path / "table")


def test_an_ablation_trains_a_common_first_stage_once(config, ran, tmp_path):
    file, data = config
    variants = [Variant(f"k {k}", [*TWO_STAGES, "MODEL.DEEP_MIL.TOP_K", str(k)]) for k in (1, 2)]
    for variant in variants:  # in the first stage k decides nothing, and must be the same
        position = variant.overrides.index("FIRST_STAGE.OVERRIDES") + 1
        variant.overrides[position] = "['MODEL.DEEP_MIL.HEAD', 'max', 'MODEL.DEEP_MIL.TOP_K', 1]"
    run_ablation(file, [*variants, Variant("max", [])], [4], tmp_path / "table", data)
    assert len(ran) == 4
    assert ran[0].startswith("first_")
    assert ran[1:] == ["k_1_seed4", "k_2_seed4", "max_seed4"]
    shared = tmp_path / "table" / ran[0] / "first_stage/model_final.pth"
    for folder in ran[1:3]:
        assert load_config(str(tmp_path / "table" / folder / "config.yaml")).FIRST_STAGE.WEIGHTS == str(shared)
    assert is_equal(weights(shared), weights(tmp_path / "table/max_seed4/model_final.pth"))
    assert not is_equal(weights(shared), weights(tmp_path / "table/k_1_seed4/model_final.pth"))


def test_given_weights_replace_the_first_stage(config, tmp_path):
    file, data = config
    job = build_job(load_config(file, [*data, *TWO_STAGES, "FIRST_STAGE.WEIGHTS", str(tmp_path / "none.pth")]))
    assert [stage.folder for stage in job.stages()] == [""]
    with pytest.raises(FileNotFoundError, match=r"FIRST_STAGE\.WEIGHTS .*none\.pth does not exist"):
        job.train(JobOptions())


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ("[]", ValueError, "FIRST_STAGE.OVERRIDES is empty"),
        ("['DATASETS.TRAIN', \"('other',)\"]", ValueError, "has DATASETS.TRAIN, which both trainings share"),
        ("['OUTPUT_DIR', 'elsewhere']", ValueError, "has OUTPUT_DIR, which both trainings share"),
        ("['MODEL.DEEP_MIL.HAED', 'max']", ConfigError, r"did you mean MODEL\.DEEP_MIL\.HEAD"),
        ("['SOLVER.MAX_ITER']", ConfigError, "SOLVER.MAX_ITER has no value"),
    ],
)
def test_wrong_overrides_are_told_before_any_training(overrides, error, message):
    with pytest.raises(error, match=message):
        build_job(load_config("", ["JOB", "TwoStageJob", "FIRST_STAGE.OVERRIDES", overrides]))


def test_label_assignment_is_trained_as_by_its_authors():
    cfg = load_config(str(ROOT / "configs/deep_mil/AlexNet_label_assignment.yaml"))
    job = build_job(cfg)
    assert type(job) is TwoStageJob
    assert [stage.cfg.MODEL.DEEP_MIL.HEAD for stage in job.stages()] == ["max", "label_assignment"]
