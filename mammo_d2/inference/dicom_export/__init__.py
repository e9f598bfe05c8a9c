"""DICOM objects of predictions: structured reports, CAD reports, segmentations, presentation states."""
