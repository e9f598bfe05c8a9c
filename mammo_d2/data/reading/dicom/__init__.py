"""DICOM files: decoding, grey scale, tags."""
