import pytest
import torch

from benchmarks.gmic import full_model
from mammo_d2.cli.arguments.command_line import EXIT_ERROR, EXIT_OK, run_tool
from mammo_d2.cli.training.convert_weights import run
from mammo_d2.config.loading import load_config
from mammo_d2.framework import SafeCheckpointer, build_model
from tests.conftest import ROOT
from tests.modeling.gmic_models import gmic_cfg

TO_RELEASED = [
    ("backbone.conv1.", "ds_net.first_conv."),
    ("backbone.norm.", "ds_net.final_bn."),
    ("backbone.stages.", "ds_net.layer_list."),
    (".shortcut.", ".downsample.0."),
    ("saliency_head.", "left_postprocess_net.gn_conv_last."),
    ("patch_net.", "dn_resnet."),
    ("attention.content.", "mil_attn_V."),
    ("attention.gate.", "mil_attn_U."),
    ("attention.score.", "mil_attn_w."),
    ("local_classifier.", "classifier_linear."),
    ("fusion.", "fusion_dnn."),
]


@pytest.fixture(scope="module")
def weights():
    """Random weights of the released architecture under our names."""
    return full_model().state_dict()


@pytest.fixture
def released(weights, tmp_path):
    """Writes them under the released names, with changes."""

    def write(name: str, scale: float = 1.0, without: str = ""):
        renamed = {"shared_rep_filter.weight": torch.zeros(1)}
        for key, value in weights.items():
            for ours, theirs in TO_RELEASED:
                key = key.replace(ours, theirs)
            renamed[key] = value * scale if value.is_floating_point() else value
        renamed.pop(without, None)
        torch.save(renamed, tmp_path / name, _use_new_zipfile_serialization=False)
        return str(tmp_path / name)

    return write


def convert(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        run_tool(run, list(arguments))
    return int(end.value.code or 0)


def test_one_file(released, weights, tmp_path):
    assert convert("gmic", released("m1.p"), "--output", str(tmp_path / "out.pth")) == EXIT_OK
    found = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_several_files_are_an_ensemble(released, weights, tmp_path):
    files = released("m1.p"), released("m2.p", scale=0.5)
    assert convert("gmic", *files, "--output", str(tmp_path / "out.pth")) == EXIT_OK
    overrides = ["MODEL.GMIC.ENSEMBLE", "[0.02, 0.1]", "MODEL.DEVICE", "cpu"]
    ensemble = build_model(load_config(str(ROOT / "configs/gmic/released_ensemble.yaml"), overrides))
    SafeCheckpointer(ensemble, strict_weights=True).load(str(tmp_path / "out.pth"))
    assert [member.top_fraction for member in ensemble.members] == [0.02, 0.1]
    for member, scale in zip(ensemble.members, (1.0, 0.5), strict=True):
        assert torch.equal(member.fusion.weight, weights["fusion.weight"] * scale)


def test_models_of_ones_own(tmp_path):
    small = ("MODEL.RESNET22.STRIDES", [1, 2], "MODEL.GMIC.PATCH_WEIGHTS", "gone.pth")
    cfg = gmic_cfg(*small)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    files = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        member = build_model(gmic_cfg(*small[:2]))
        files.append(str(tmp_path / f"{seed}.pth"))
        torch.save({"model": member.state_dict()}, files[-1])
    options = ("--config-file", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "out.pth"))
    assert convert("gmic", *files, *options) == EXIT_OK
    ensemble = build_model(
        gmic_cfg(*small[:2], "MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", [0.1, 0.5])
    )
    SafeCheckpointer(ensemble, strict_weights=True).load(str(tmp_path / "out.pth"))
    last = torch.load(files[1], weights_only=True)["model"]
    assert torch.equal(ensemble.members[1].saliency_head.weight, last["saliency_head.weight"])


def test_damaged_file(released, tmp_path, capsys):
    code = convert("gmic", released("m1.p", without="mil_attn_U.weight"), "--output", str(tmp_path / "out.pth"))
    assert code == EXIT_ERROR
    assert "attention.gate" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_resnetv2_is_one_file(tmp_path, capsys):
    convert("resnetv2", "a.safetensors", "b.safetensors", "--output", str(tmp_path / "out.pth"))
    assert "resnetv2 converts one file, not 2" in capsys.readouterr().err
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert convert("resnetv2", str(tmp_path / "a.safetensors"), "--output", str(tmp_path / "out.pth")) == EXIT_ERROR
    assert "a.safetensors: damaged or not a .safetensors file" in capsys.readouterr().err
