"""The wheel: what is in it, what it says about itself, and that it works without the checkout."""

import email
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import mammo_d2
from mammo_d2.cli.arguments.command_line import EXTRAS
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is written into the checkout."""
    if Version(importlib.metadata.version("setuptools")) < Version("77"):
        pytest.skip("building needs setuptools 77")
    source = tmp_path_factory.mktemp("source")
    for name in ("mammo_d2", "configs", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(source / "out"), str(source)], check=True, cwd=source)
    (found,) = (source / "out").iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's content, as pip leaves it."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_content(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {f for f in (ROOT / "mammo_d2").rglob("*") if f.suffix in (".py", ".css", ".js", ".typed")}
    configs = set((ROOT / "configs").rglob("*.yaml"))
    models = {path for path in (ROOT / "models").rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for path in package}
    expected |= {f"mammo_d2/{path.relative_to(ROOT).as_posix()}" for path in configs | models}
    assert names == expected
    assert {"mammo_d2/py.typed", "mammo_d2/report/report.css", "mammo_d2/configs/Base-Mammo.yaml"} <= names


def test_what_it_says_of_itself(installed):
    (info,) = installed.glob("*.dist-info")
    metadata = email.message_from_string((info / "METADATA").read_text())
    assert (metadata["Name"], metadata["Version"]) == ("mammo_d2", mammo_d2.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra")) == {*EXTRAS.values(), "dev"}
    script = "mammo-d2 = mammo_d2.cli.main:main"
    assert (info / "entry_points.txt").read_text().strip().splitlines() == ["[console_scripts]", script]
    # What an error message says of an extra is true.
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    for package, extra in EXTRAS.items():
        (found,) = [r for r in requirements if r.name in (package, f"{package}-skinny")]
        assert str(found.marker) == f'extra == "{extra}"'


@pytest.mark.slow
def test_it_runs_from_another_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "MAMMO_D2_ENGINE": "embedded"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    code = "import mammo_d2; from mammo_d2.config.named_configs import configs_folder; "
    done = run("-c", code + "print(mammo_d2.__file__); print(configs_folder())")
    assert [Path(line).relative_to(installed) for line in done.stdout.split()] == [
        Path("mammo_d2/__init__.py"),
        Path("mammo_d2/configs"),
    ]
    done = run(
        "-m", "mammo_d2", "train", "--config-file", "mammo_d2://quickstart/phantom_gmic.yaml", "MODEL.WEIGHTS", ""
    )
    assert done.returncode == 2
    assert "phantom_train" in done.stderr  # the config was read; its data set is not there
