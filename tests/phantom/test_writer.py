import hashlib
import json
from pathlib import Path

import pytest

from mammo_d2.phantom import PhantomConfig, write_phantom

CONFIG = PhantomConfig(n_patients=3, seed=2, rows=160, cols=128, share_malignant=0.4)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return folder, write_phantom(CONFIG, folder, workers=1, progress=False)


def test_layout_and_hashes(written):
    folder, truth_path = written
    assert truth_path == folder / "truth.json"
    truth = json.loads(truth_path.read_text())
    files = set(content(folder)) - {"truth.json"}
    assert len(files) == 12
    assert {"dicom/" + image["file_name"] for image in truth["images"]} == files
    assert "dicom/PH00001/PH00001_L_CC.dcm" in files
    for image in truth["images"]:
        data = (folder / "dicom" / image["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == image["source"]["sha256"]


def test_same_bytes_for_any_number_of_workers(written, tmp_path):
    write_phantom(CONFIG, tmp_path, workers=2, progress=False)
    assert content(tmp_path) == content(written[0])


def test_repeating_changes_nothing(written):
    folder, _ = written
    before = content(folder)
    write_phantom(CONFIG, folder, workers=1, progress=False)
    assert content(folder) == before


def test_workers_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="workers is 0; use 1"):
        write_phantom(CONFIG, tmp_path, workers=0)
