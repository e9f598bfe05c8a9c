"""Saliency as a segmentation, written and read back."""

import highdicom as hd
import numpy as np
import pydicom
import pytest

from mammo_d2.inference.dicom_export.coded_findings import write_object
from mammo_d2.inference.dicom_export.saliency_segmentation import saliency_segmentation
from tests.inference.dicom_export.exams import FACTS, SIZE, check_with_dciodvfy, exam


def test_maps_come_back(tmp_path):
    _, source = exam(tmp_path)[0]
    maps = np.random.default_rng(0).random((2, *SIZE)).astype(np.float32)
    maps[1] = 0  # an empty map stays
    made = saliency_segmentation(maps, ("malignant", "calcification"), source, FACTS, 1)
    path = write_object(tmp_path / "seg.dcm", made, FACTS, source.header, "Saliency")
    read = hd.seg.segread(path)
    values = read.get_pixels_by_source_instance(["1.2.3.4.5.1"], rescale_fractional=True)
    np.testing.assert_allclose(np.moveaxis(values[0], -1, 0), maps, atol=0.5 / 255 + 1e-6)
    assert [item.SegmentLabel for item in read.SegmentSequence] == ["malignant", "calcification"]
    assert read.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Calcification Cluster"
    algorithm = read.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Detector", "2.1")
    assert pydicom.dcmread(path, stop_before_pixels=True).SegmentationFractionalType == "PROBABILITY"
    check_with_dciodvfy(path)


def test_maps_of_another_size(tmp_path):
    _, source = exam(tmp_path)[0]
    with pytest.raises(ValueError, match=r"saliency of shape \(1, 5, 5\) for 1 classes on \(300, 200\)"):
        saliency_segmentation(np.zeros((1, 5, 5)), ("malignant",), source, FACTS, 1)
