"""MODULES: a user's own components and keys, in this process and in the commands' processes."""

import os
import subprocess
import sys

import pytest

from mammo_d2.config.loading import ConfigError, load_config
from mammo_d2.framework import META_ARCH_REGISTRY
from tests.conftest import ROOT

OWN = """
from torch import nn
from mammo_d2.framework import META_ARCH_REGISTRY


def add_config(cfg):
    cfg.MODEL.{key} = 3


@META_ARCH_REGISTRY.register()
class {name}(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layer = nn.Linear(cfg.MODEL.{key}, 1)
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Folder on the path, for this process and its children; modules of it are forgotten."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, module, name, key="OWN_SIZE"):
    (folder / f"{module}.py").write_text(OWN.format(name=name, key=key))


def test_components_and_keys_of_a_module(modules, tmp_path):
    write(modules, "own_heads", "OwnNetwork")
    config = tmp_path / "mine.yaml"
    config.write_text('MODULES: ["own_heads"]\nMODEL:\n  META_ARCHITECTURE: OwnNetwork\n  OWN_SIZE: 5\n')
    assert load_config(str(config)).MODEL.OWN_SIZE == 5
    assert load_config(str(config), ["MODEL.OWN_SIZE", "7"]).MODEL.OWN_SIZE == 7
    assert "OwnNetwork" in META_ARCH_REGISTRY
    # What a run writes into its folder is enough for the commands that read it.
    (tmp_path / "config.yaml").write_text(load_config(str(config)).dump())
    assert load_config(str(tmp_path / "config.yaml")).MODEL.OWN_SIZE == 5


def test_from_the_command_line(modules, tmp_path):
    """The last value counts: the file's module is not there any more."""
    write(modules, "second_heads", "SecondNetwork")
    (tmp_path / "mine.yaml").write_text('MODULES: ["gone_heads"]\n')
    cfg = load_config(str(tmp_path / "mine.yaml"), ["MODULES", "['second_heads']", "MODEL.OWN_SIZE", "4"])
    assert cfg.MODEL.OWN_SIZE == 4
    assert "SecondNetwork" in META_ARCH_REGISTRY


def test_a_process_of_its_own(modules, tmp_path):
    write(modules, "third_heads", "ThirdNetwork")
    code = "from mammo_d2.framework import build_model; from mammo_d2.config.loading import load_config; "
    code += "keys = ['MODULES', \"['third_heads']\", 'MODEL.META_ARCHITECTURE', 'ThirdNetwork', 'MODEL.DEVICE', 'cpu'];"
    code += "print(build_model(load_config('', keys)).layer.in_features)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "MODULES: 'bad_heads' cannot be imported .*No module named 'bad_heads'.* PYTHONPATH"),
        ("import nothing_of_the_kind", "MODULES: 'bad_heads' cannot be imported .*nothing_of_the_kind"),
        ("1 / 0", "MODULES: 'bad_heads' cannot be imported .ZeroDivisionError"),
        ("def add_config(cfg): cfg.NO.KEY = 1", "MODULES: add_config of 'bad_heads' failed .AttributeError"),
    ],
)
def test_errors_name_module_and_key(modules, content, message):
    if content is not None:
        (modules / "bad_heads.py").write_text(content)
    with pytest.raises(ConfigError, match="the command line: " + message):
        load_config("", ["MODULES", "['bad_heads']"])


def test_not_a_list():
    with pytest.raises(ConfigError, match=r"MODULES is my_heads \(str\), .* type list; write \"\['my_heads'\]\""):
        load_config("", ["MODULES", "my_heads"])
