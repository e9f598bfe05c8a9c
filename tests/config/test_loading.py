"""Loading a config: mistakes are named with their place and their remedy."""

import pytest

from mammo_d2.config.loading import ConfigError, load_config


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.BASE_LR", "1"], r"SOLVER\.BASE_LR is 1 \(int\), but must be of type float; write 1\.0"),
        (
            ["DATASETS.TRAIN", "toy_train"],
            r"DATASETS\.TRAIN is toy_train \(str\), .* type tuple; write \"\['toy_train'\]\"",
        ),
        (["SOLVER.AMP.ENABLED", "yes"], r"SOLVER\.AMP\.ENABLED is yes \(str\), .* type bool; write True or False"),
        (["SOLVER.MAX_ITER", "many"], r"SOLVER\.MAX_ITER is many \(str\), .* type int; write a value such as 40000"),
        (["SOLVER.MAX_ITER", "2", "--resume"], "--resume is not a config key; options go before"),
        (["SOLVER.MAX_ITER", "2", "--num-gpus", "2"], "--num-gpus is not a config key"),
        (["SOLVER.MAX_ITER=2"], r"'SOLVER\.MAX_ITER=2' is not KEY VALUE; write SOLVER\.MAX_ITER 2"),
        (["SOLVER.MAX_ITER", "2", "SEED"], "SEED has no value; overrides are KEY VALUE pairs"),
    ],
)
def test_overrides_that_do_not_fit(overrides, message):
    with pytest.raises(ConfigError, match="the command line: " + message):
        load_config("", overrides)


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


def test_a_file_for_other_keys(tmp_path):
    (tmp_path / "old.yaml").write_text("VERSION: 1\n")
    with pytest.raises(ConfigError, match=r"old\.yaml: VERSION is 1, but the keys are those of VERSION 2"):
        load_config(str(tmp_path / "old.yaml"))


@pytest.mark.parametrize("content", ["", "- SOLVER", "SOLVER"])
def test_a_file_without_keys(tmp_path, content):
    (tmp_path / "empty.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"empty\.yaml: this file, or .*, does not hold configuration keys"):
        load_config(str(tmp_path / "empty.yaml"))


def test_a_file_that_is_not_yaml(tmp_path):
    (tmp_path / "bad.yaml").write_text("SOLVER: [1\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not plain YAML"):
        load_config(str(tmp_path / "bad.yaml"))
    (tmp_path / "bad.yaml").write_text("SOLVER: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not plain YAML"):
        load_config(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize("key", ["DATASETS.CATEGORIES", "SOLVER.MAX_ITER", "INPUT.SIZE", "SOLVER.AMP.ENABLED"])
def test_an_empty_value_is_an_error(tmp_path, key):
    first, *rest = key.split(".")
    text = "null"
    for part in reversed(rest):
        text = f"{{{part}: {text}}}"
    (tmp_path / "a.yaml").write_text(f"{first}: {text}\n")
    with pytest.raises(ConfigError, match=rf"a\.yaml: {key} is empty .null.; write a value such as"):
        load_config(str(tmp_path / "a.yaml"))
