"""The doctor's findings: clashes, missing packages, decoders, threads, folders."""

import os

import pytest
from packaging.requirements import Requirement
from pydicom.pixels.decoders import base

from mammo_d2.cli.installation import doctor
from mammo_d2.engine import installation_check as check
from mammo_d2.framework import ENGINE


def states(findings):
    return [(finding.state, finding.text) for finding in findings]


def test_this_installation_works(capsys):
    assert doctor.run([]) == 0
    out = capsys.readouterr().out
    for words in ("mammo_d2 ", "engine ", "transfer syntaxes", "threads "):
        assert words in out
    assert ("embedded" if ENGINE == "embedded" else "detectron2") in out


def test_versions_that_do_not_fit(monkeypatch):
    versions = {"numpy": "1.26.4", "torch": "2.5.0+cu121", "opencv-python": "4.9", "opencv-python-headless": "4.9"}
    required = [Requirement("numpy>=2.0,<3"), Requirement("torch>=2.4"), Requirement("scipy>=1.11")]
    monkeypatch.setattr(check, "_version", versions.get)
    monkeypatch.setattr(check, "_requirements", lambda name, extras=False: required if name == "mammo_d2" else [])
    assert states(check.check_versions()) == [
        ("error", "numpy 1.26.4, needed: <3,>=2.0; pip install 'numpy<3,>=2.0'"),
        ("error", "scipy is not installed, needed: >=1.11; pip install 'scipy>=1.11'"),
        (
            "warning",
            "opencv-python and opencv-python-headless overwrite each other's files: pip uninstall all of them, and "
            "install one",
        ),
    ]


def test_extras_name_how_to_get_them(monkeypatch):
    optional = [Requirement('optuna>=4; extra == "search"')]
    monkeypatch.setattr(check, "_requirements", lambda name, extras=False: optional if extras else [])
    monkeypatch.setattr(check, "_version", lambda name: None)
    assert states(check.check_extras()) == [("note", "optuna is not installed: pip install 'mammo_d2[search]'")]


def test_transfer_syntaxes(monkeypatch):
    (found,) = check.check_decoders()
    assert found.state == "ok"
    count = len(check._SYNTAXES)
    assert found.text == f"reads {count} of {count} transfer syntaxes"
    assert count == 4 + 12
    monkeypatch.setattr(base.Decoder, "is_available", property(lambda decoder: "JPEG" not in decoder.UID.name))
    findings = list(check.check_decoders())
    assert {finding.state for finding in findings[1:]} == {"warning"}
    assert any("cannot read JPEG 2000 Image Compression: pip install" in finding.text for finding in findings)


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="no load average")
def test_threads_on_a_busy_machine(monkeypatch):
    monkeypatch.setattr(check, "cores_of_this_process", lambda: 4)
    monkeypatch.setattr(check, "usable_cores", lambda: 2)
    monkeypatch.setattr(check, "quota_of_this_process", lambda: 2.0)
    monkeypatch.setattr(check.torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 0, 0))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    first, many, busy = states(check.check_threads())
    assert first == ("ok", "4 on 4 cores, a quota of 2; they wait passive")
    assert many == ("warning", "more threads than cores: export OMP_NUM_THREADS=2, or leave it unset")
    assert busy[0] == "warning"
    assert "the machine is busy (load 9.0 on 4 cores)" in busy[1]
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 0, 0))
    monkeypatch.setattr(check.torch, "get_num_threads", lambda: 2)
    assert len(list(check.check_threads())) == 1


def test_a_folder_of_data_sets_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMMO_D2_DATASETS", str(tmp_path / "gone"))
    assert states(check.check_datasets())[0] == (
        "error",
        f"MAMMO_D2_DATASETS is {tmp_path / 'gone'}, which is no folder",
    )
    monkeypatch.setenv("MAMMO_D2_DATASETS", str(tmp_path))
    (found,) = check.check_datasets()
    assert found.text.startswith(f"{tmp_path}: ")
