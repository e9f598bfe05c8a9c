"""Image files of a prediction: named, in folders, and under several names."""

import os

import pytest

from mammo_d2.inference.image_files import find_image_files, find_images


def test_image_files_are_found_once_and_in_order(tmp_path):
    dicom_without_suffix = tmp_path / "in" / "b" / "IM0001"
    named = tmp_path / "scan.xyz"
    for path in (tmp_path / "in" / "b" / "2.DCM", tmp_path / "in" / "a" / "1.png", named):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for path in (dicom_without_suffix, tmp_path / "in" / "DICOMDIR", tmp_path / "in" / ".hidden" / "3.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(128) + b"DICM")
    (tmp_path / "in" / "notes.txt").write_text("x")
    first = tmp_path / "in" / "b" / "2.DCM"
    found = find_image_files([first, tmp_path / "in", named])
    assert found == [str(p) for p in (first, tmp_path / "in" / "a" / "1.png", dicom_without_suffix, named)]


def test_inputs_without_images_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such file or folder"):
        find_image_files([tmp_path / "gone"])
    with pytest.raises(ValueError, match="there is no image file in it"):
        find_image_files([tmp_path])


def test_links_to_a_file_are_named(tmp_path):
    first = tmp_path / "in" / "a.png"
    first.parent.mkdir()
    first.write_bytes(b"x")
    (tmp_path / "in" / "b.png").symlink_to(first)
    os.link(first, tmp_path / "in" / "c.png")
    (tmp_path / "in" / "copy.png").write_bytes(b"x")
    found = find_images([tmp_path / "in", first])
    assert found.files == [str(tmp_path / "in" / name) for name in ("a.png", "copy.png")]
    assert found.links == {str(tmp_path / "in" / name): str(first) for name in ("b.png", "c.png")}
