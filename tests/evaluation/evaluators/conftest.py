import pytest

from mammo_d2.framework import DatasetCatalog, MetadataCatalog
from tests.evaluation.evaluators.toy import NAME, RECORDS


@pytest.fixture
def dataset():
    """Name of the toy data set, registered."""
    DatasetCatalog.register(NAME, lambda: RECORDS)
    MetadataCatalog.get(NAME).set(thing_classes=["malignant"], thing_dataset_id_to_contiguous_id={2: 0})
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
