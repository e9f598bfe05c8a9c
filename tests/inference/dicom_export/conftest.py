"""These tests need highdicom, of the extra dicom-export."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("highdicom") else ["test_*.py"]
