"""Registration, records, and the errors of both."""

import json

import pytest

from mammo_d2.core.image_truth import image_truth
from mammo_d2.data.format.catalog import (
    CocoSource,
    category_names,
    load_mammo_coco,
    load_records,
    register_datasets,
)
from mammo_d2.framework import BoxMode, DatasetCatalog, MetadataCatalog
from tests.data.toy_dataset import BOX, HEIGHT, WIDTH, toy_config, write_dataset


@pytest.fixture(autouse=True)
def clean_catalogs(monkeypatch):
    """Leave the catalogs as they were."""
    monkeypatch.delenv("MAMMO_D2_DATASETS", raising=False)
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalog.list()) - names:
            catalog.remove(name)


def edit(path, change):
    """Change an annotation file through its content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_records_follow_the_agreement(tmp_path):
    write_dataset(tmp_path, positives=1, negatives=1)
    assert register_datasets(toy_config(tmp_path)) == ["toy_train"]
    positive, negative = DatasetCatalog.get("toy_train")
    assert positive["file_name"] == str(tmp_path / "toy" / "images" / "train_0.png")
    assert (positive["height"], positive["width"], positive["image_id"]) == (HEIGHT, WIDTH, 1)
    assert (positive["patient_id"], positive["laterality"], positive["view"]) == ("p0", "L", "CC")
    assert "id" not in positive
    (annotation,) = positive["annotations"]
    assert annotation["bbox"] == BOX
    assert annotation["bbox_mode"] == BoxMode.XYWH_ABS
    assert (annotation["category_id"], annotation["iscrowd"]) == (0, 0)
    assert (annotation["pathology"], annotation["lesion_id"]) == ("malignant", "lesion0")
    assert negative["annotations"] == []


def test_part_of_a_data_set(tmp_path):
    path = write_dataset(tmp_path, positives=3, negatives=4)
    edit(path, lambda coco: [image.update(labels={"malignant": int(n < 3)}) for n, image in enumerate(coco["images"])])
    cfg = toy_config(tmp_path)
    cfg.DATASETS.TAKE = [["toy_train", "malignant", 2], ["toy_train", "normal", 1]]
    register_datasets(cfg)
    records = load_records(cfg, "toy_train")
    assert sorted(len(record["annotations"]) for record in records) == [0, 1, 1]
    cfg.DATASETS.TAKE = []
    register_datasets(cfg)
    assert len(load_records(cfg, "toy_train")) == 7


def test_metadata(tmp_path):
    write_dataset(tmp_path)
    cfg = toy_config(tmp_path)
    cfg.DATASETS.CATEGORIES = ["malignant", "benign"]
    register_datasets(cfg)
    DatasetCatalog.get("toy_train")
    metadata = MetadataCatalog.get("toy_train")
    assert metadata.thing_classes == ["malignant", "benign"]
    # The file numbers benign 1 and malignant 2.
    assert metadata.thing_dataset_id_to_contiguous_id == {2: 0, 1: 1}
    assert metadata.thing_contiguous_id_to_dataset_id == {0: 2, 1: 1}
    assert metadata.evaluator_type == "mammo"
    assert metadata.json_file == str(tmp_path / "toy" / "annotations" / "train.json")


def test_other_categories_are_dropped_and_leave_a_negative(tmp_path):
    path = write_dataset(tmp_path, positives=2, negatives=0)
    edit(path, lambda coco: coco["annotations"][0].update(category_id=1))
    records = load_mammo_coco(path, tmp_path / "toy" / "images", categories=["malignant"])
    assert [len(record["annotations"]) for record in records] == [0, 1]


def test_merged_categories(tmp_path):
    path = write_dataset(tmp_path, positives=2, negatives=0)
    edit(path, lambda coco: coco["annotations"][0].update(category_id=1))
    cfg = toy_config(tmp_path)
    cfg.DATASETS.CATEGORIES, cfg.DATASETS.MERGE_CATEGORIES = ["benign", "malignant"], "lesion"
    assert category_names(cfg) == ["lesion"]
    register_datasets(cfg)
    records = DatasetCatalog.get("toy_train")
    assert [record["annotations"][0]["category_id"] for record in records] == [0, 0]
    metadata = MetadataCatalog.get("toy_train")
    assert metadata.thing_classes == ["lesion"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 0}
    assert metadata.thing_contiguous_id_to_dataset_id == {0: 1}


def test_merged_categories_have_a_merged_label(tmp_path):
    path = write_dataset(tmp_path, positives=1, negatives=4)
    labels = [(0, 1), (None, 1), (None, 0), (0, 0)]

    def label(coco):
        for image, (benign, malignant) in zip(coco["images"], labels, strict=False):
            image["labels"] = {"benign": benign, "malignant": malignant}
        coco["images"][4]["labels"] = {}

    edit(path, label)
    records = load_mammo_coco(path, tmp_path / "toy" / "images", None, ["benign", "malignant"], "lesion")
    assert [record["labels"].get("lesion", "absent") for record in records] == [1, 1, None, 0, "absent"]
    # What an evaluator takes from it: the second image is positive though it has no box.
    truth = [image_truth(record, ["lesion"])[0] for record in records]
    assert truth == [1, 1, None, 0, 0]
    apart = load_mammo_coco(path, tmp_path / "toy" / "images", None, ["benign", "malignant"])
    assert list(apart[0]["labels"]) == ["benign", "malignant"]


def test_records_are_ordered_by_image_id(tmp_path):
    path = write_dataset(tmp_path)
    edit(path, lambda coco: coco["images"].reverse())
    records = load_mammo_coco(path, tmp_path / "toy" / "images")
    assert [record["image_id"] for record in records] == [1, 2, 3, 4, 5]


def test_environment_root_wins_and_the_config_adds(tmp_path, monkeypatch):
    write_dataset(tmp_path / "a", name="one")
    write_dataset(tmp_path / "b", name="two", split="val")
    extra = write_dataset(tmp_path / "c", name="three")
    monkeypatch.setenv("MAMMO_D2_DATASETS", str(tmp_path / "b"))
    cfg = toy_config(tmp_path / "a")
    cfg.DATASETS.REGISTER = [["mine", str(extra), str(tmp_path / "c" / "three" / "images")]]
    assert register_datasets(cfg) == ["mine", "two_val"]
    assert len(load_records(cfg, ["mine", "two_val"])) == 10


def test_registering_again_changes_nothing_or_replaces(tmp_path):
    write_dataset(tmp_path)
    cfg = toy_config(tmp_path)
    register_datasets(cfg)
    metadata = MetadataCatalog.get("toy_train")
    register_datasets(cfg)
    assert MetadataCatalog.get("toy_train") is metadata

    cfg.DATASETS.CATEGORIES = ["benign"]
    register_datasets(cfg)
    assert MetadataCatalog.get("toy_train").thing_classes == ["benign"]
    assert not any(record["annotations"] for record in DatasetCatalog.get("toy_train"))
    cfg.DATASETS.CATEGORIES = ["malignant"]
    register_datasets(cfg)
    assert sum(len(record["annotations"]) for record in DatasetCatalog.get("toy_train")) == 2


def test_a_data_set_removed_from_the_catalog_can_be_registered_again(tmp_path):
    write_dataset(tmp_path)
    cfg = toy_config(tmp_path)
    register_datasets(cfg)
    DatasetCatalog.remove("toy_train")
    register_datasets(cfg)
    assert len(DatasetCatalog.get("toy_train")) == 5


def test_a_root_that_does_not_exist_offers_nothing(tmp_path):
    assert register_datasets(toy_config(tmp_path / "absent")) == []


def test_unknown_name_lists_the_known_ones_and_the_place(tmp_path):
    write_dataset(tmp_path)
    write_dataset(tmp_path, split="val")
    cfg = toy_config(tmp_path)
    register_datasets(cfg)
    with pytest.raises(ValueError, match=r"unknown data set 'toy_tarin'; known are .*toy_train, toy_val") as error:
        load_records(cfg, ["toy_tarin", "toy_val"])
    assert f"{tmp_path}/<dataset>/annotations/<split>.json (DATASETS.ROOT" in str(error.value)


def test_no_name_and_no_image(tmp_path):
    path = write_dataset(tmp_path)
    edit(path, lambda coco: coco.update(images=[], annotations=[]))
    cfg = toy_config(tmp_path)
    register_datasets(cfg)
    with pytest.raises(ValueError, match=r"set DATASETS\.TRAIN"):
        load_records(cfg, [])
    with pytest.raises(ValueError, match="toy_train: there is no image"):
        load_records(cfg, "toy_train")


def test_missing_images_are_found_when_loading(tmp_path):
    path = write_dataset(tmp_path)
    (tmp_path / "toy" / "images" / "train_3.png").unlink()
    with pytest.raises(ValueError, match=r"image 4.*train_3\.png"):
        load_mammo_coco(path, tmp_path / "toy" / "images")


def test_a_misspelt_category_is_an_error(tmp_path):
    path = write_dataset(tmp_path)
    with pytest.raises(ValueError, match="names 'mass', but the file's categories are 'benign', 'malignant'"):
        load_mammo_coco(path, tmp_path / "toy" / "images", categories=["malignant", "mass"])


def test_a_file_that_breaks_the_schema_is_named(tmp_path):
    path = write_dataset(tmp_path)
    edit(path, lambda coco: coco["annotations"][0].update(id=0))
    with pytest.raises(ValueError, match=r"train\.json.*annotation 0"):
        load_mammo_coco(path, tmp_path / "toy" / "images")


@pytest.mark.parametrize("categories", [[], ["malignant", "malignant"]])
def test_categories_must_be_there_once(tmp_path, categories):
    cfg = toy_config(tmp_path)
    cfg.DATASETS.CATEGORIES = categories
    with pytest.raises(ValueError, match=r"DATASETS\.CATEGORIES must name each detection class once"):
        register_datasets(cfg)


@pytest.mark.parametrize("entry", [["name", "file.json"], "name", ["name", "file.json", 3]])
def test_malformed_triples(tmp_path, entry):
    cfg = toy_config(tmp_path)
    cfg.DATASETS.REGISTER = [entry]
    with pytest.raises(ValueError, match=r"DATASETS\.REGISTER: .* is not a \[name, COCO JSON, image folder\]"):
        register_datasets(cfg)


@pytest.mark.parametrize("where", ["absolute", "above"])
def test_an_image_outside_the_image_folder_is_not_read(tmp_path, where):
    path = write_dataset(tmp_path)
    image = tmp_path / "toy" / "images" / "train_0.png"
    image.rename(tmp_path / "toy" / "secret.png")
    name = str(tmp_path / "toy" / "secret.png") if where == "absolute" else "../secret.png"
    edit(path, lambda content: content["images"][0].update(file_name=name))
    with pytest.raises(ValueError, match=r"train\.json: image 1\.file_name = .*write the path relative to"):
        load_mammo_coco(path, tmp_path / "toy" / "images")


def test_two_data_sets_of_one_name(tmp_path):
    path = write_dataset(tmp_path)
    cfg = toy_config(tmp_path)
    cfg.DATASETS.REGISTER = [["toy_train", str(path), str(tmp_path)]]
    with pytest.raises(ValueError, match="two data sets are called 'toy_train'"):
        register_datasets(cfg)


def test_a_name_taken_by_other_code(tmp_path):
    write_dataset(tmp_path, name="foreign")
    DatasetCatalog.register("foreign_train", lambda: [])
    with pytest.raises(ValueError, match=r"'foreign_train' .* is taken"):
        register_datasets(toy_config(tmp_path))


def test_a_source_can_be_compared():
    assert CocoSource("a", "a.json", "images", ("x",)) == CocoSource("a", "a.json", "images", ("x",), "")
