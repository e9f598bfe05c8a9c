"""GMIC: losses, variants, outputs in pixels of the image file, patch networks from files."""

import math

import pytest
import torch
import torch.nn.functional as F

from mammo_d2.data.breast.window_transform import WindowTransform
from mammo_d2.framework import SafeCheckpointer
from mammo_d2.modeling.functional.losses import multi_label_bce, sparsity_loss
from mammo_d2.modeling.functional.saliency import crop_patches, retrieve_windows, top_fraction_mean
from mammo_d2.modeling.meta_arch.gmic import image_generators
from mammo_d2.modeling.meta_arch.gmic_variants import GMIC_VARIANTS, GMICPrediction
from tests.modeling.gmic_models import gmic_input, gmic_model

BATCH = [gmic_input(0, 1, seed=1), gmic_input(None, 0, seed=2)]
TARGETS = torch.tensor([[0.0, 1.0], [math.nan, 0.0]])


def generators(seed: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + row) for row in range(2)]


def normalized(*inputs: dict) -> torch.Tensor:
    return torch.stack([(record["image"] - 128) / 64 for record in inputs])


class TestTraining:
    @pytest.mark.parametrize("fusion", ["average", "concat"])
    def test_losses_are_those_of_the_paper(self, fusion):
        overrides = (
            "MODEL.GMIC.FUSION",
            fusion,
            "MODEL.GMIC.SPARSITY_WEIGHT",
            0.01,
            "MODEL.GMIC.SPARSITY_EXPONENT",
            1.5,
        )
        model, twin = gmic_model(*overrides), gmic_model(*overrides)
        losses = model(BATCH)
        said = twin.predict(normalized(*BATCH))
        expected = {
            "loss_global": multi_label_bce(top_fraction_mean(said.saliency, 0.2), TARGETS),
            "loss_local": multi_label_bce(said.local_logits, TARGETS, from_logits=True),
            "loss_sparsity": 0.01 * sparsity_loss(said.saliency, 1.5),
        }
        if fusion == "concat":
            expected["loss_fusion"] = multi_label_bce(said.fusion_logits, TARGETS, from_logits=True)
        assert set(losses) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value)

    @pytest.mark.parametrize("variant", GMIC_VARIANTS)
    def test_every_parameter_learns(self, variant):
        model = gmic_model("MODEL.GMIC.VARIANT", variant, "MODEL.GMIC.FUSION", "concat")
        sum(model(BATCH).values()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []

    def test_the_local_loss_does_not_reach_the_global_module(self):
        model = gmic_model()
        model(BATCH)["loss_local"].backward()
        assert model.backbone.conv1.weight.grad is None
        assert model.patch_net.conv1.weight.grad.abs().sum() > 0

    @pytest.mark.parametrize("fusion", ["average", "concat"])
    def test_padding_is_no_part_of_sums_and_choices(self, fusion):
        overrides = ("MODEL.GMIC.FUSION", fusion, "MODEL.GMIC.SPARSITY_WEIGHT", 1.0)
        model, twin = gmic_model(*overrides), gmic_model(*overrides)
        small = gmic_input(1, 0, seed=4, size=(64, 48))  # 4×3 of the 6×4 cells
        losses = model([BATCH[0], small])
        images = torch.stack([F.pad(normalized(one)[0], (0, 64 - one["image"].shape[2], 0, 96 - one["image"].shape[1]))
                              for one in (BATCH[0], small)])  # fmt: skip
        said = twin.predict(images, sizes=[(96, 64), (64, 48)])
        shown = [said.saliency[:1], said.saliency[1:, :, :4, :3]]
        expected = torch.cat([top_fraction_mean(one, 0.2) for one in shown])
        torch.testing.assert_close(said.global_scores, expected)
        torch.testing.assert_close(losses["loss_sparsity"], sum(one.sum() for one in shown) / 2)
        cells = retrieve_windows(shown[1], (2, 2), 3)
        assert said.positions[1].tolist() == torch.minimum(cells[0] * 16, torch.tensor([32, 16])).tolist()
        assert said.positions[1].tolist() != gmic_model().predict(images).positions[1].tolist()

    def test_nothing_known(self):
        losses = gmic_model()([gmic_input(None, None, seed=1), gmic_input(None, None, seed=2)])
        assert losses["loss_global"].item() == losses["loss_local"].item() == 0.0
        sum(losses.values()).backward()

    def test_it_learns_a_bright_spot(self):
        spot, none = gmic_input(0, 1, seed=1), gmic_input(0, 0, seed=2)
        spot["image"] = spot["image"] * 0.3
        none["image"] = none["image"] * 0.3
        spot["image"][:, 32:48, 32:48] = 255
        model = gmic_model("MODEL.GMIC.FUSION", "concat")
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        first = last = None
        for _ in range(12):
            losses = model([spot, none])
            last = losses["loss_global"].item() + losses["loss_local"].item() + losses["loss_fusion"].item()
            first = last if first is None else first
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        assert last < 0.5 * first


class TestVariants:
    def test_predictions(self):
        said = GMICPrediction(
            torch.zeros(1, 2, 1, 1), torch.tensor([[0.2, 0.6]]), local_logits=torch.tensor([[0.0, math.log(3)]])
        )
        expected = {"full": [0.35, 0.675], "mil": [0.5, 0.75], "loc": [0.2, 0.6], "loc_random": [0.35, 0.675]}
        expected |= {"no_attention": [0.5, 0.75], "random": [0.5, 0.75]}
        for variant, scores in expected.items():
            model = gmic_model("MODEL.GMIC.VARIANT", variant)
            assert model.final_scores(said).tolist() == [pytest.approx(scores)]

    def test_concat_is_a_linear_layer_on_both_modules(self):
        model = gmic_model("MODEL.GMIC.FUSION", "concat").eval()
        images = normalized(*BATCH)
        with torch.no_grad():
            said = model.predict(images)
            features = model.backbone(images)["res22"]
            patches = [
                torch.stack([image[:, y : y + 32, x : x + 32] for y, x in places])
                for image, places in zip(images, said.positions.tolist(), strict=True)
            ]
            local = torch.stack([model.patch_net(part.expand(-1, 3, -1, -1)) for part in patches])
            pooled = (said.attention[..., None] * local).sum(dim=1)
            expected = model.fusion(torch.cat([features.amax((2, 3)), pooled], dim=1)).sigmoid()
        torch.testing.assert_close(model.final_scores(said), expected)

    def test_patches_follow_the_map_or_chance(self):
        images = normalized(*BATCH)
        model = gmic_model().eval()
        with torch.no_grad():
            said = model.predict(images)
        # a cell is 16 pixels, so windows have 2 by 2 cells
        expected = torch.minimum(retrieve_windows(said.saliency, (2, 2), 3) * 16, torch.tensor([64, 32]))
        assert said.positions.tolist() == expected.tolist()
        chance = gmic_model("MODEL.GMIC.VARIANT", "random").eval()
        with torch.no_grad():
            draws = [chance.predict(images, generators(s)).positions.tolist() for s in (0, 0, 1)]
        assert draws[0] == draws[1] != draws[2]

    def test_random_patches_are_drawn_by_image_and_repeated_in_evaluation(self):
        """Not the same places in all images; whatever the batch and the state of the global generator."""
        model = gmic_model("MODEL.GMIC.VARIANT", "random").eval()
        records = [gmic_input(seed=seed) for seed in range(12)]
        with torch.no_grad():
            alone = [model([record])[0]["patches"].tolist() for record in records]
            torch.manual_seed(99)
            in_a_batch = [output["patches"].tolist() for output in model(records)]
        assert in_a_batch == alone
        assert len({str(patches) for patches in alone}) == 12
        # 4×3 places of windows of 2×2 cells, the last row and column shifted inside: all but few are drawn
        assert len({tuple(box[:2]) for patches in alone for box in patches}) > 8
        renamed = [record | {"image_id": f"a{record['image_id']}"} for record in records]
        with torch.no_grad():
            assert model(renamed)[0]["patches"].tolist() != alone[0]
            nameless = [{key: value for key, value in record.items() if key != "image_id"} for record in records]
            places = [output["patches"].tolist() for output in model(nameless)]
        assert len({str(patches) for patches in places}) == 12

    def test_random_patches_of_images_of_different_sizes(self):
        model = gmic_model("MODEL.GMIC.VARIANT", "random").eval()
        records = [gmic_input(seed=1), gmic_input(seed=2, size=(64, 48))]
        with torch.no_grad():
            images = torch.zeros(2, 1, 96, 64)
            together = model.predict(images, image_generators(records), [(96, 64), (64, 48)]).positions
            first = model.predict(images[:1], image_generators(records[:1])).positions
        assert together[0].tolist() == first[0].tolist()
        assert together[1].amax(0).tolist() <= [32, 16]

    def test_a_full_checkpoint_loads_as_no_attention(self, tmp_path):
        """And predicts with equal weights what its own patch network and classifier make of the patches."""
        full = gmic_model("MODEL.GMIC.FUSION", "concat").eval()
        torch.save({"model": full.state_dict()}, tmp_path / "full.pth")
        model = gmic_model("MODEL.GMIC.VARIANT", "no_attention").eval()
        SafeCheckpointer(model, strict_weights=True).load(str(tmp_path / "full.pth"))
        images = normalized(*BATCH)
        with torch.no_grad():
            said, own = model.predict(images), full.predict(images)
            patches = crop_patches(images, own.positions, (32, 32))
            equal = full.local_classifier(full._patch_features(patches).mean(dim=1))
        assert torch.equal(said.positions, own.positions)
        torch.testing.assert_close(said.local_logits, equal)
        assert said.attention.tolist() == [pytest.approx([1 / 3] * 3)] * 2

    def test_patch_features_by_a_linear_layer(self):
        model = gmic_model("MODEL.GMIC.PATCH_FEATURES", 8, "MODEL.GMIC.FUSION", "concat").eval()
        assert model.patch_projection.weight.shape == (8, 512)
        assert model.local_classifier.weight.shape == (2, 8)
        assert model.fusion.weight.shape == (2, 64 // 4 + 8)
        images = normalized(*BATCH)
        with torch.no_grad():
            said = model.predict(images)
            patches = crop_patches(images, said.positions, (32, 32)).expand(-1, -1, 3, -1, -1)
            codes = model.patch_projection(model.patch_net(patches.flatten(0, 1))).unflatten(0, (2, 3))
            pooled = (said.attention[..., None] * codes).sum(dim=1)
        torch.testing.assert_close(said.local_logits, model.local_classifier(pooled))
        assert gmic_model().patch_projection is None
        with pytest.raises(ValueError, match="PATCH_FEATURES is 0"):
            gmic_model("MODEL.GMIC.PATCH_FEATURES", 0)

    def test_random_patches_of_training_differ_between_images(self):
        images = normalized(*BATCH)
        with torch.no_grad():
            positions = gmic_model("MODEL.GMIC.VARIANT", "random").predict(images).positions
        assert positions[0].tolist() != positions[1].tolist()


class TestOutputs:
    def test_in_pixels_of_the_image_file(self):
        model = gmic_model().eval()
        with torch.no_grad():
            output = model([BATCH[0]])[0]
            said = model.predict(normalized(BATCH[0]))
        assert output["saliency"].shape == (2, 24, 16)
        assert torch.equal(output["network_saliency"], said.saliency[0])
        # 6×4 cells of stride 16 centred at 2.5 pixels, in cells of 4 pixels; border at 10.5
        assert torch.equal(output["saliency"][:, 1::4, 1::4], said.saliency[0])
        assert torch.equal(output["saliency"][:, 3::4, 3::4][:, :-1, :-1], said.saliency[0, :, 1:, 1:])
        assert output["image_scores"]["malignant"] == pytest.approx(
            (said.global_scores[0, 1].item() + said.local_logits[0, 1].sigmoid().item()) / 2
        )
        y, x = said.positions[0, 0].tolist()
        assert output["patches"][0].tolist() == [3 * x, 2 * y, 3 * (x + 32), 2 * (y + 32)]
        assert output["attention"].sum().item() == pytest.approx(1)
        assert output["instances"].image_size == (192, 192)
        assert len(output["instances"]) > 0
        assert set(output["module_scores"]) == {"global", "local"}

    def test_through_a_window(self):
        transform = WindowTransform((100, 80), (10, 5, 60, 90), True, (0, 3), (96, 64))
        record = gmic_input(seed=1, network_transform=transform, height=100, width=80) | {"height": 100, "width": 80}
        model = gmic_model().eval()
        with torch.no_grad():
            output = model([record])[0]
            said = model.predict(normalized(record))
        y, x = said.positions[0, 0].tolist()
        # mirrored: x of the file = 10 + (60 - x of the window)
        assert output["patches"][0].tolist() == [70 - x - 32, y + 2, 70 - x, y + 34]
        assert output["saliency"].shape == (2, 13, 10)
        boxes = output["instances"].pred_boxes.tensor
        assert (boxes[:, 0] >= 0).all()
        assert (boxes[:, 2] <= 80).all()

    def test_images_of_different_sizes(self):
        model = gmic_model().eval()
        small = gmic_input(seed=4, size=(64, 48))
        with torch.no_grad():
            outputs = model([BATCH[0], small])
            alone = model([small])[0]
        assert outputs[1]["image_scores"] == alone["image_scores"]
        for name in ("saliency", "patches", "attention"):
            assert torch.equal(outputs[1][name], alone[name])
        assert outputs[0]["saliency"].shape == (2, 24, 16)
        assert outputs[1]["saliency"].shape == (2, 16, 12)
        assert outputs[1]["instances"].image_size == (128, 144)

    def test_image_smaller_than_a_patch(self):
        model = gmic_model("MODEL.GMIC.PATCH_SIZE", [200, 200]).eval()
        with torch.no_grad():
            output = model([gmic_input(seed=1)])[0]
        assert math.isfinite(output["image_scores"]["benign"])

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("MODEL.GMIC.VARIANT", "local", "'local'; use one of full, loc"),
            ("MODEL.GMIC.FUSION", "sum", "'sum'; use one of average, concat"),
            ("MODEL.GMIC.NUM_PATCHES", 0, "NUM_PATCHES 0"),
            ("MODEL.RESNET22.STRIDES", [1, 3], r"\[1, 3\]; one stride of 1 or 2"),
        ],
    )
    def test_bad_values(self, key, value, message):
        with pytest.raises(ValueError, match=message):
            gmic_model(key, value)


def test_patch_network_starts_from_a_file(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(5)
    network = resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    model = gmic_model("MODEL.GMIC.PATCH_WEIGHTS", str(tmp_path / "resnet18.pth"))
    assert torch.equal(model.patch_net.layer4[1].conv2.weight, network.layer4[1].conv2.weight)

    torch.nn.init.zeros_(model.saliency_head.weight)  # nothing but the patch network is taken
    torch.save({"model": model.state_dict(), "iteration": 3}, tmp_path / "gmic.pth")
    other = gmic_model("MODEL.GMIC.PATCH_WEIGHTS", str(tmp_path / "gmic.pth"))
    assert torch.equal(other.patch_net.layer4[1].conv2.weight, network.layer4[1].conv2.weight)
    assert other.saliency_head.weight.count_nonzero() > 0


def test_other_files_for_the_patch_network_are_explained(tmp_path):
    path = tmp_path / "file.pth"
    with pytest.raises(FileNotFoundError, match=r"MODEL.GMIC.PATCH_WEIGHTS .*file.pth: no such file"):
        gmic_model("MODEL.GMIC.PATCH_WEIGHTS", str(path))
    torch.save([1.0], path)
    with pytest.raises(ValueError, match=r"MODEL.GMIC.PATCH_WEIGHTS .* holds a list, not weights by name"):
        gmic_model("MODEL.GMIC.PATCH_WEIGHTS", str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"MODEL.GMIC.PATCH_WEIGHTS .* cannot be read as a file of weights"):
        gmic_model("MODEL.GMIC.PATCH_WEIGHTS", str(path))
    torch.save({"model": {"conv1.weight": torch.zeros(64, 3, 7, 7)}}, path)
    with pytest.raises(ValueError, match="are no weights of ResNet-18: Missing key"):
        gmic_model("MODEL.GMIC.PATCH_WEIGHTS", str(path))


@pytest.mark.parametrize("variants", [("full", "mil", "loc"), ("random", "loc_random")])
def test_rows_that_are_readings_of_one_training(variants):
    """The modules exchange no gradient, so the rows of a seed have the same weights as far as they have them."""
    trained = []
    for variant in variants:
        model = gmic_model("MODEL.GMIC.VARIANT", variant, "MODEL.GMIC.SPARSITY_WEIGHT", 0.01)
        model.load_state_dict(gmic_model("MODEL.GMIC.VARIANT", variants[0]).state_dict(), strict=False)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            sum(model(BATCH).values()).backward()
            optimizer.step()
        trained.append(model.state_dict())
    start = gmic_model("MODEL.GMIC.VARIANT", variants[0]).state_dict()
    assert not torch.equal(trained[0]["saliency_head.weight"], start["saliency_head.weight"])
    for other in trained[1:]:
        assert all(torch.equal(trained[0][name], value) for name, value in other.items())
