import argparse

import pytest

from mammo_d2.engine.setup import ConfigError, load_config, setup


def test_typo_names_the_key_and_the_nearest_one(tmp_path):
    config = tmp_path / "typo.yaml"
    config.write_text("SOLVER:\n  BASE_LRR: 0.1\n")
    with pytest.raises(
        ConfigError, match=r"typo\.yaml: there is no config key SOLVER\.BASE_LRR; did you mean SOLVER\.BASE_LR"
    ):
        load_config(str(config))


def test_typo_on_the_command_line():
    with pytest.raises(
        ConfigError,
        match=r"the command line: there is no config key MODEL\.RPN\.TOP_LIKELIHOD_T; .*MODEL\.RPN\.TOP_LIKELIHOOD_T",
    ):
        load_config("", ["MODEL.RPN.TOP_LIKELIHOD_T", "5"])


def test_wrong_type_is_explained(tmp_path):
    config = tmp_path / "type.yaml"
    config.write_text("SOLVER:\n  BASE_LR: fast\n")
    with pytest.raises(ConfigError, match=r"type\.yaml:.*SOLVER\.BASE_LR"):
        load_config(str(config))


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        load_config("nowhere.yaml")


def test_broken_base(tmp_path):
    (tmp_path / "child.yaml").write_text('_BASE_: "parent.yaml"\n')
    with pytest.raises((ConfigError, FileNotFoundError), match=r"parent\.yaml"):
        load_config(str(tmp_path / "child.yaml"))


@pytest.mark.parametrize(
    ("overrides", "classes"),
    [
        ([], 1),
        (["DATASETS.CATEGORIES", "['benign', 'malignant']"], 2),
        (["DATASETS.CATEGORIES", "['benign', 'malignant']", "DATASETS.MERGE_CATEGORIES", "lesion"], 1),
    ],
)
def test_number_of_classes_follows_the_categories(overrides, classes):
    assert load_config("", overrides).MODEL.ROI_HEADS.NUM_CLASSES == classes


def arguments(folder, *opts, resume=False, eval_only=False):
    opts = ["OUTPUT_DIR", str(folder), "DATASETS.ROOT", str(folder / "none"), "MODEL.DEVICE", "cpu", *opts]
    return argparse.Namespace(config_file="", opts=opts, resume=resume, eval_only=eval_only, strict_weights=False)


def test_random_seed_is_recorded_and_resumed(tmp_path):
    first = setup(arguments(tmp_path)).SEED
    assert first >= 0
    assert setup(arguments(tmp_path, resume=True)).SEED == first
    assert setup(arguments(tmp_path)).SEED != first


def test_an_evaluation_leaves_the_seed_for_a_later_resume(tmp_path):
    first = setup(arguments(tmp_path)).SEED
    setup(arguments(tmp_path, eval_only=True))
    assert setup(arguments(tmp_path, resume=True)).SEED == first


def test_given_seed_is_kept(tmp_path):
    assert setup(arguments(tmp_path, "SEED", "11", resume=True)).SEED == 11
