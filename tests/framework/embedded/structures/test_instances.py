"""Instances and image batches."""

import copy
import pickle

import pytest
import torch

from mammo_d2.framework.embedded.structures.boxes import Boxes
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances


@pytest.fixture
def two() -> Instances:
    return Instances(
        (6, 8), boxes=Boxes([[0.0, 0, 1, 1], [0, 0, 2, 2]]), scores=torch.tensor([0.5, 0.25]), names=["a", "b"]
    )


class TestInstances:
    def test_fields(self, two: Instances) -> None:
        assert len(two) == 2
        assert two.image_size == (6, 8)
        assert two.has("scores")
        assert two.get("names") == ["a", "b"]
        two.classes = torch.tensor([3, 4])
        two.remove("names")
        assert sorted(two.get_fields()) == ["boxes", "classes", "scores"]

    def test_unknown_field_is_an_attribute_error(self, two: Instances) -> None:
        with pytest.raises(AttributeError, match=r"'score'.*boxes"):
            _ = two.score
        assert not hasattr(two, "score")

    def test_a_field_of_another_length_is_refused(self, two: Instances) -> None:
        with pytest.raises(ValueError, match="'classes' has the length 3"):
            two.classes = torch.zeros(3)

    def test_selecting(self, two: Instances) -> None:
        last = two[-1]
        assert (len(last), last.names, last.scores.tolist(), last.image_size) == (1, ["b"], [0.25], (6, 8))
        assert two[:1].boxes.tensor.tolist() == [[0, 0, 1, 1]]
        two.remove("names")
        assert two[two.scores > 0.3].scores.tolist() == [0.5]
        with pytest.raises(IndexError, match="no object 2"):
            two[2]

    def test_cat_takes_the_fields_of_the_first(self, two: Instances) -> None:
        other = two[1:]
        other.extra = [1]
        joined = Instances.cat([two, other])
        assert joined.scores.tolist() == [0.5, 0.25, 0.25]
        assert joined.names == ["a", "b", "b"]
        assert joined.boxes.tensor[:, 2].tolist() == [1, 2, 2]
        assert not joined.has("extra")

    def test_cat_of_different_images_is_refused(self, two: Instances) -> None:
        with pytest.raises(ValueError, match="different sizes"):
            Instances.cat([two, Instances((9, 9), scores=torch.zeros(1))])
        with pytest.raises(ValueError, match="no Instances"):
            Instances.cat([])

    def test_without_fields_it_has_no_length(self) -> None:
        with pytest.raises(NotImplementedError, match="no length"):
            len(Instances((1, 1)))

    def test_it_is_not_iterable(self, two: Instances) -> None:
        with pytest.raises(NotImplementedError, match="not iterable"):
            list(two)

    def test_moving_copies_what_can_move(self, two: Instances) -> None:
        moved = two.to("meta")
        assert moved.scores.device.type == moved.boxes.device.type == "meta"
        assert moved.names is two.names
        assert two.scores.device.type == "cpu"

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    def test_survives_copying_and_pickling(self, two: Instances, duplicate) -> None:
        again = duplicate(two)
        assert again.names == ["a", "b"]
        assert again.boxes.tensor.tolist() == two.boxes.tensor.tolist()


class TestImageList:
    def test_padding_is_at_the_bottom_and_on_the_right(self) -> None:
        batch = ImageList.from_tensors([torch.ones(1, 2, 3), torch.full((1, 4, 1), 2.0)], pad_value=9.0)
        assert batch.tensor[0, 0].tolist() == [[1, 1, 1], [1, 1, 1], [9, 9, 9], [9, 9, 9]]
        assert batch.tensor[1, 0].tolist() == [[2, 9, 9]] * 4
        assert (len(batch), batch.image_sizes, batch[1].tolist()) == (2, [(2, 3), (4, 1)], [[[2]] * 4])

    @pytest.mark.parametrize("count", [1, 2])
    def test_sizes_are_rounded_up(self, count: int) -> None:
        images = [torch.zeros(3, 33, 64)] * count
        assert ImageList.from_tensors(images, 32).tensor.shape == (count, 3, 64, 64)
        assert ImageList.from_tensors(images, 0).tensor.shape == (count, 3, 33, 64)
        square = ImageList.from_tensors(images, 32, padding_constraints={"square_size": 100, "size_divisibility": 16})
        assert square.tensor.shape == (count, 3, 112, 112)

    def test_bad_batches_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no images"):
            ImageList.from_tensors([])
        with pytest.raises(ValueError, match="same channels"):
            ImageList.from_tensors([torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)])
