"""The command ``benchmark``: which training it takes, what it prints and writes."""

import json

import pytest

from mammo_d2.cli.training import benchmark
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.jobs.lesion.lesion_trainer import LesionTrainer
from mammo_d2.jobs.two_stage import SecondStageTrainer
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import SETTINGS

QUICKSTART = "mammo_d2://quickstart/"


def test_profile_of_a_training(tmp_path, capsys):
    write_dataset(tmp_path, positives=2, negatives=2)
    settings = {**SETTINGS, "DATASETS.ROOT": str(tmp_path), "MODEL.WEIGHTS": "not/there.pth", "SEED": "-1"}
    output = tmp_path / "profile.json"
    config = tmp_path / "toy.yaml"
    config.write_text("OUTPUT_DIR: never/made\n")
    arguments = ["train", "--profile", "--config-file", str(config), "--steps", "1", "--warmup", "0"]
    arguments += ["--operators", "3", "--output", str(output)]
    assert benchmark.run([*arguments, *(item for pair in settings.items() for item in pair)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(output.read_text())
    assert f"GeneralizedRCNN ({config}): {figures['step']['cpu_s']:.3f} CPU s" in printed
    for name, part in figures["parts"].items():
        line = next(line for line in printed.splitlines() if line.startswith(f"{name} "))
        assert line.split()[-3:] == [f"{part['cpu_s']:.4f}", f"{part['wall_s']:.4f}", f"{100 * part['share']:.1f}"]
    assert "\n- reading and decoding" in printed
    assert figures["operators"][0]["name"] in printed
    assert figures["machine"]["threads"] >= 1
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("config", "found", "trainer", "model"),
    [
        ("phantom_top_likelihood.yaml", "", MammoTrainer, "GeneralizedRCNN"),
        ("phantom_lesion_context.yaml", "patch", LesionTrainer, "LesionPatchClassifier"),
    ],
)
def test_the_first_training_of_a_job(config, found, trainer, model):
    stage, trainer_class = benchmark._stage(QUICKSTART + config, [], "")
    assert stage.folder == found
    assert trainer_class is trainer
    assert stage.cfg.MODEL.META_ARCHITECTURE == model


def test_another_training_of_a_job():
    overrides = ["JOB", "TwoStageJob", "FIRST_STAGE.OVERRIDES", "['MODEL.DEEP_MIL.HEAD', 'max']"]
    config = QUICKSTART + "phantom_deep_mil.yaml"
    stage, trainer = benchmark._stage(config, overrides, "first_stage")
    assert (stage.cfg.MODEL.DEEP_MIL.HEAD, trainer) == ("max", MammoTrainer)
    with pytest.raises(ValueError, match=r"--stage 'third': the trainings of .* have the folders 'first_stage', ''"):
        benchmark._stage(config, overrides, "third")
    stage, trainer = benchmark._stage(config, [*overrides, "FIRST_STAGE.WEIGHTS", "given.pth"], "")
    assert (stage.folder, trainer) == ("", SecondStageTrainer)


def test_a_job_without_a_training():
    with pytest.raises(ValueError, match="UntrainedJob trains nothing"):
        benchmark._stage("mammo_d2://baselines/center_prior.yaml", [], "")


def test_the_profile_must_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        benchmark.run(["train", "--config-file", "x.yaml"])
    assert "the following arguments are required: --profile" in capsys.readouterr().err
