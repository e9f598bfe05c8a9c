"""Converters found by ``mammo-d2 prepare``: this package's and those of others."""

import subprocess
import sys

import pytest

from mammo_d2.data.converters import converter_registry
from mammo_d2.data.converters.converter import Converter
from mammo_d2.data.converters.converter_registry import find_converters, register_converter
from mammo_d2.data.converters.folders.image_folder import ImageFolder
from tests.conftest import ROOT

OWN = [
    "dicom",
    "images",
    "phantom",
    "bcdr",
    "cbis-ddsm",
    "cdd-cesm",
    "cmmd",
    "csaw-cc",
    "ddsm",
    "dmid",
    "embed",
    "inbreast",
    "kau-bcmd",
    "mini-mias",
    "optimam",
    "rsna",
    "vindr-mammo",
]

HOSPITAL = """
from mammo_d2.data.converters.folders.image_folder import ImageFolder


class Hospital(ImageFolder):
    summary = "the archive of a hospital"
    source_help = "folder of the archive"
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What a test registers is forgotten."""
    monkeypatch.setattr(converter_registry, "_converters", dict(find_converters()))


def install(folder, **entries):
    """A package ``hospital`` with entry points, as pip leaves it in ``folder``."""
    (folder / "hospital.py").write_text(HOSPITAL)
    info = folder / "hospital-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hospital\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[mammo_d2.converters]", *lines, ""]))


def test_own_converters_are_found_and_describe_themselves():
    converters = find_converters()
    assert list(converters) == OWN
    for command, converter in converters.items():
        assert converter.command == command
        assert converter.summary
        assert converter.description


def test_of_another_package(tmp_path):
    install(tmp_path, archive="hospital:Hospital")
    command = [sys.executable, str(ROOT / "tools" / "prepare_data.py")]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    done = subprocess.run([*command, "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "the archive of a hospital" in done.stdout
    done = subprocess.run([*command, "archive", "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "folder of the archive" in done.stdout
    assert "--bits" in done.stdout


def test_one_that_cannot_be_used_is_left_out_with_a_warning(tmp_path, monkeypatch):
    install(tmp_path, absent="hospital_without:Hospital", function="hospital:__name__", dicom="hospital:Hospital")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match="cannot be used") as warnings:
        assert list(find_converters()) == OWN
    texts = sorted(str(warning.message) for warning in warnings)
    assert "converter absent of hospital" in texts[0]
    assert "No module named 'hospital_without'" in texts[0]
    assert "the command 'dicom' is mammo_d2.data.converters.folders.dicom_folder.DicomFolder's" in texts[1]
    assert "hospital:__name__ is no subclass of Converter" in texts[2]


def test_registering_needs_a_command_of_ones_own():
    class Nameless(Converter):
        pass

    class Second(ImageFolder):
        pass

    with pytest.raises(ValueError, match="has no command"):
        register_converter(Nameless)
    with pytest.raises(ValueError, match=r"the command 'images' is .*ImageFolder's; choose another one"):
        register_converter(Second)
    assert register_converter(ImageFolder) is ImageFolder  # twice the same one: a module loaded again
