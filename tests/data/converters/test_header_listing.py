import os
from pathlib import Path

import numpy as np

from mammo_d2.data.converters import header_listing
from mammo_d2.data.converters.header_listing import HeaderListing, header_problem, read_header
from mammo_d2.data.reading.image_meta import ImageMeta, ImageReadError
from tests.data.dicom_files import write_dicom


def crashing(path):
    """Ends the process at the file "2", else says the file's name."""
    if path.name == "2":
        os._exit(1)
    return path.name


def test_few_files_need_no_processes():
    paths = [Path("a"), Path("b")]
    assert list(HeaderListing(workers=4).look(_process, paths)) == [(path, os.getpid()) for path in paths]


def _process(path):
    return os.getpid()


def test_in_processes_results_come_in_order_and_a_crash_costs_one_file(monkeypatch):
    monkeypatch.setattr(header_listing, "LEAST_FILES", 1)
    (one, first), (two, error), (three, last) = HeaderListing(1).look(crashing, [Path("1"), Path("2"), Path("3")])
    assert (one, two, three, first, last) == (Path("1"), Path("2"), Path("3"), "1", "3")
    assert isinstance(error, ImageReadError)
    assert header_problem(error) == "the process that read its header ended without a message"


def test_a_header_or_why_not(tmp_path):
    meta = read_header(write_dicom(tmp_path / "a.dcm", np.ones((8, 8), np.uint16), PatientID="p"))
    assert isinstance(meta, ImageMeta)
    assert meta.patient_id == "p"
    (tmp_path / "b.dcm").write_bytes(b"nothing")
    damaged = read_header(tmp_path / "b.dcm")
    assert isinstance(damaged, ImageReadError)
    assert str(tmp_path) not in header_problem(damaged)
    assert isinstance(read_header(tmp_path / "c.dcm"), FileNotFoundError)
