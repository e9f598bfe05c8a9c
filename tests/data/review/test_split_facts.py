import pytest

from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.review.split_facts import BoxSizes, facts_table, split_facts


def content():
    builder = CocoBuilder()

    def image(name, patient, **facts):
        return builder.add_image(name, 400, 300, patient_id=patient, **facts)

    first = image("a.png", "p1", exam_id="e1", view="CC", laterality="L", density="B", pixel_spacing=[0.1, 0.2],
                  labels={"benign": 0, "malignant": 1}, source={"vendor": "Hologic"}, birads="4a")  # fmt: skip
    image("b.png", "p1", exam_id="e1", view="MLO", density=2, labels={"benign": 0, "malignant": 0})
    third = image("c.png", "p2", view="CC", labels={"benign": None, "malignant": 1})
    image("d.png", None, labels={"benign": 0, "malignant": None})
    builder.add_annotation(first, [10, 10, 40, 60], "malignant")
    builder.add_annotation(first, [10, 10, 30, 10], "malignant")
    builder.add_annotation(third, [10, 10, 100, 20], "benign")
    return builder.to_dict()


def test_counts_of_a_split():
    facts = split_facts("train", content())
    assert (facts.images, facts.patients, facts.exams, facts.without_patient) == (4, 2, 1, 1)
    assert facts.views == {"CC": 2, "MLO": 1, "unknown": 1}
    assert facts.sides == {"L": 1, "unknown": 3}
    # Density 2 of BI-RADS' fourth edition is B of its fifth.
    assert facts.densities == {"B": 2, "unknown": 2}
    assert facts.vendors == {"Hologic": 1, "unknown": 3}
    # c.png shows both: a box of a benign lesion, and a malignant label without a box.
    assert facts.truth == {"benign": 1, "malignant": 2, "none": 1, "unknown": 1}
    assert facts.patients_with == {"benign": 1, "malignant": 2, "none": 0, "unknown": 0}
    assert facts.sizes == {"300 x 400": 4}


def test_box_sizes_in_pixels_and_millimetres():
    sizes = split_facts("train", content()).box_sizes
    # By hand: longer sides 60 and 30 px; 40 * 0.2 = 8 against 60 * 0.1 = 6 mm, and 30 * 0.2 = 6 mm.
    assert sizes["malignant"] == BoxSizes(2, (31.5, 45.0, 58.5), (6.1, 7.0, 7.9), 0)
    assert sizes["benign"] == BoxSizes(1, (100.0, 100.0, 100.0), None, 1)


def test_table_has_a_column_per_split():
    text = facts_table([split_facts("train", content()), split_facts("test", {**content(), "annotations": []})])
    lines = {" ".join(line.split()[:-2]): line.split()[-2:] for line in text.splitlines()}
    assert text.splitlines()[0].split() == ["train", "test"]
    assert lines["patients"] == ["2", "2"]
    assert lines["images: malignant"] == ["2", "2"]
    assert lines["vendor Hologic"] == ["1", "1"]
    assert "45 (32 to 58)" in text or "45 (31 to 58)" in text
    assert "7.0 (6.1 to 7.9)" in text
    assert "longer side: median (5th to 95th percentile)" in text


def test_rare_values_are_summed_up():
    builder = CocoBuilder()
    for number in range(12):
        builder.add_image(f"{number}.png", 10 + number, 10, patient_id="p")
    lines = [line.split() for line in facts_table([split_facts("all", builder.to_dict())], most=8).splitlines()]
    assert ["size", "(4", "others)", "4"] in lines


@pytest.mark.parametrize("categories", [[{"id": 7, "name": "mass"}], []])
def test_other_categories(categories):
    data = {"images": [{"id": 1, "file_name": "a", "height": 5, "width": 5}], "annotations": [],
            "categories": categories}  # fmt: skip
    facts = split_facts("x", data)
    assert facts.truth["none"] == 1
    assert facts.truth.get("mass", 0) == 0
