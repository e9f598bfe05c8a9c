"""The two catalogs."""

import pytest

from mammo_d2.framework.embedded.data.catalog import Metadata, _DatasetCatalog, _MetadataCatalog


def test_data_set_is_loaded_when_asked_for() -> None:
    catalog = _DatasetCatalog()
    calls = []
    catalog.register("a", lambda: calls.append(1) or [{"image_id": 1}])
    assert calls == []
    assert catalog.get("a") == [{"image_id": 1}]
    assert catalog.list() == ["a"]
    catalog.remove("a")
    assert "a" not in catalog


def test_unknown_data_set_lists_the_known_ones() -> None:
    catalog = _DatasetCatalog()
    catalog.register("a_train", list)
    catalog.register("a_val", list)
    with pytest.raises(KeyError, match=r"'a_test' is not registered\. Registered data sets: a_train, a_val"):
        catalog.get("a_test")


def test_name_is_registered_once() -> None:
    catalog = _DatasetCatalog()
    catalog.register("a", list)
    with pytest.raises(AssertionError, match="'a' is already registered"):
        catalog.register("a", list)


def test_records_in_place_of_a_function_are_refused() -> None:
    with pytest.raises(TypeError, match="data set 'a': register a function"):
        _DatasetCatalog().register("a", [{"image_id": 1}])  # type: ignore[arg-type]


def test_metadata_is_one_object_per_name() -> None:
    catalog = _MetadataCatalog()
    catalog.get("a").thing_classes = ["malignant"]
    assert catalog.get("a").thing_classes == ["malignant"]
    assert catalog.get("a").name == "a"
    assert catalog.get("b").get("thing_classes") is None
    assert catalog.get("b").get("thing_classes", []) == []


def test_metadata_cannot_change_its_value() -> None:
    metadata = Metadata(name="a").set(thing_classes=["x"])
    metadata.thing_classes = ["x"]
    with pytest.raises(AssertionError, match=r"'a': 'thing_classes' is \['x'\] and cannot become \['y'\]"):
        metadata.thing_classes = ["y"]


def test_absent_metadata_names_what_there_is() -> None:
    metadata = Metadata(name="a", json_file="a.json")
    with pytest.raises(AttributeError, match="'a' has no 'thing_classes'; it has json_file, name"):
        _ = metadata.thing_classes
