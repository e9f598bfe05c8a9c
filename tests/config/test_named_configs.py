"""Configs by name, in a command, in the code and in ``_BASE_``."""

from pathlib import Path

import pytest
import yaml

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import (
    ConfigError,
    config_names,
    configs_folder,
    find_config,
    read_config,
    relative_config,
)
from mammo_d2.experiments.search.search_ranges import load_ranges
from mammo_d2.experiments.variant_runs import load_variants
from tests.conftest import ROOT

NAME = "mammo_d2://quickstart/phantom_top_likelihood.yaml"
PATH = str(ROOT / "configs" / "quickstart" / "phantom_top_likelihood.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Not in the checkout, where a relative path would do."""
    monkeypatch.chdir(tmp_path)


def test_every_config_has_a_name():
    assert configs_folder() == ROOT / "configs"
    names = config_names()
    assert len(names) == len(list((ROOT / "configs").rglob("*.yaml")))
    assert names[0] == "mammo_d2://Base-Mammo.yaml"
    assert all(Path(find_config(name)).is_file() for name in names)


def test_a_name_is_the_file():
    assert find_config(NAME) == PATH
    assert load_config(NAME) == load_config(PATH)
    assert find_config(PATH) == PATH


def test_in_base(tmp_path):
    """With the bases of the named file, which are relative to it; from a folder that has its own in between."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "middle.yaml").write_text(f'_BASE_: "{NAME}"\nSOLVER:\n  MAX_ITER: 3\n')
    (tmp_path / "mine.yaml").write_text("_BASE_: sub/middle.yaml\nSOLVER:\n  BASE_LR: 0.5\n")
    expected = load_config(PATH, ["SOLVER.MAX_ITER", "3", "SOLVER.BASE_LR", "0.5"])
    assert load_config("mine.yaml") == expected
    (tmp_path / "list.yaml").write_text(f'_BASE_: ["{NAME}", "sub/middle.yaml"]\n')
    assert read_config("list.yaml") == read_config("sub/middle.yaml")


def test_other_files_that_commands_take():
    assert load_variants("mammo_d2://quickstart/ablation_gmic.yaml")
    assert load_ranges("mammo_d2://search/top_likelihood.yaml", NAME)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mammo_d2://quickstart/phantom_top_likelyhood.yaml", f"did you mean {NAME}"),
        ("mammo_d2://phantom_top_likelihood.yaml", f"did you mean {NAME}"),
        ("configs/quickstart/phantom_top_likelihood.yaml", f"did you mean {NAME}"),
        ("my_own.yaml", f"the configs of the package are in {ROOT / 'configs'}"),
    ],
)
def test_a_name_that_does_not_exist(name, hint):
    with pytest.raises(FileNotFoundError) as error:
        load_config(name)
    assert str(error.value).startswith(f"config file {name} does not exist; {hint}")


def test_a_base_that_does_not_exist(tmp_path):
    (tmp_path / "mine.yaml").write_text("_BASE_: mammo_d2://gmic/GMIK.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"config file mammo_d2://gmic/GMIK\.yaml .*mammo_d2://gmic/GMIC\.yaml"):
        load_config("mine.yaml")


def test_base_of_a_written_config(tmp_path):
    """What a search writes into best.yaml."""
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {NAME}\n")
    for name in (NAME, "mine.yaml"):
        written = tmp_path / "out" / "best.yaml"
        written.write_text(yaml.safe_dump({"_BASE_": relative_config(name, tmp_path / "out")}))
        assert load_config(str(written)) == load_config(PATH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SEED: 1 # \xe4\n", "not UTF-8 text"),
        (b"_BASE_: mine.yaml\n", "leads back to a file itself"),
        (b"_BASE_: 3\n", "must be the name of a file"),
        (b"_BASE_:\n", "must be the name of a file"),
        (b"_BASE_: .\n", "must be the name of a file"),
        (b"SOLVER:\n  1: 2\n", "the config key 1 is no text"),
        (b"DATASETS:\n  CATEGORIES: [{a: b}]\n", "must hold the names of detection classes"),
        (b"DATASETS:\n  CATEGORIES: [a, a]\n", "must name each detection class once"),
    ],
)
def test_configs_that_cannot_be_read(content, message, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"mine\.yaml: .*{message}"):
        load_config("mine.yaml")


def test_a_missing_base_names_the_config(tmp_path):
    (tmp_path / "mine.yaml").write_text("_BASE_: missing.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"mine\.yaml: .*missing\.yaml"):
        load_config("mine.yaml")


def test_a_key_twice_is_an_error(tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 1\nSOLVER: {MAX_ITER: 5}\nSEED: 2\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: .*line 3: the key 'SEED' is there twice"):
        read_config(str(tmp_path / "a.yaml"))
