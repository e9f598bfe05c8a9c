"""Names of the released checkpoints."""

from unittest import mock

from mammo_d2.modeling.meta_arch.gmic_weights import STRAY, released_name, rename_released
from tests.modeling.gmic_models import gmic_model


def test_names():
    pairs = {
        "ds_net.first_conv.weight": "backbone.conv1.weight",
        "ds_net.layer_list.3.0.downsample.0.weight": "backbone.stages.3.0.shortcut.weight",
        "ds_net.layer_list.4.1.bn2.running_var": "backbone.stages.4.1.bn2.running_var",
        "ds_net.final_bn.num_batches_tracked": "backbone.norm.num_batches_tracked",
        "dn_resnet.layer2.0.downsample.1.bias": "patch_net.layer2.0.downsample.1.bias",
        "mil_attn_U.weight": "attention.gate.weight",
        "fusion_dnn.bias": "fusion.bias",
        "shared_rep_filter.weight": None,
    }
    assert {name: released_name(name) for name in pairs} == pairs


def test_left_out_and_unknown():
    weights = dict.fromkeys(("ds_net.first_conv.weight", "fusion_dnn.bias", "mil_attn_w.weight", *STRAY, "new"), 0)
    with mock.patch("mammo_d2.modeling.meta_arch.gmic_weights.logger") as logger:
        assert set(rename_released(weights)) == {
            "backbone.conv1.weight", "fusion.bias", "attention.score.weight", "new",
        }  # fmt: skip
        assert "shared_rep_filter.weight" in logger.info.call_args.args[2]
    assert set(rename_released(weights, has_fusion=False)) == {
        "backbone.conv1.weight", "attention.score.weight", "new",
    }  # fmt: skip
    assert set(rename_released(weights, has_attention=False)) == {"backbone.conv1.weight", "fusion.bias", "new"}
    assert set(rename_released(weights, has_local=False, has_fusion=False)) == {"backbone.conv1.weight", "new"}


def test_our_own_files_stay_as_they_are():
    weights = gmic_model("MODEL.GMIC.FUSION", "concat").state_dict()
    assert list(rename_released(weights)) == list(weights)
    assert set(rename_released(weights, has_fusion=False)) == set(gmic_model().state_dict())
