"""convert-weights vgg-m: a small stand-in for MatConvNet's file, and the arithmetic of what comes out."""

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F

from mammo_d2.cli.main import main
from mammo_d2.config.loading import load_config
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.inference.convert_vgg_m import convert_vgg_m
from tests.conftest import ROOT

CHANNELS, FC_DIMS = (4, 5, 6, 7, 8), (9, 12)
CONFIG = f"""
_BASE_: "{ROOT}/configs/dual_branch/VGGM128_cls_det_rs.yaml"
MODEL:
  DEVICE: "cpu"
  VGG_M:
    CHANNELS: {list(CHANNELS)}
    FC_DIMS: {list(FC_DIMS)}
"""
MEAN = [122.75, 116.5, 104.25]  # red, green, blue


def layer(name, kind, **fields):
    return {"name": name, "type": kind, **fields}


def network(seed=0, tidy=True):
    """A MatConvNet network: rows x columns x inputs x outputs; layers without weights in between."""
    rng = np.random.default_rng(seed)
    sides = (7, 5, 3, 3, 3, 6, 1, 1)
    widths = (3, *CHANNELS, *FC_DIMS, 10)
    names = [*(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8"]
    layers = []
    for name, side, inputs, outputs in zip(names, sides, widths[:-1], widths[1:], strict=True):
        kernel = rng.normal(0, (side * side * inputs) ** -0.5, (side, side, inputs, outputs)).astype(np.float32)
        bias = rng.normal(0, 0.1, (1, outputs)).astype(np.float32)
        pair = np.empty((1, 2), object)
        pair[0, 0], pair[0, 1] = kernel, bias
        fields = {"weights": pair} if tidy else {"filters": kernel, "biases": bias}
        layers += [layer(name, "conv", stride=1.0, **fields), layer(f"relu{name[-1]}", "relu")]
    cells = np.empty((1, len(layers)), object)
    cells[0, :] = layers
    normalization = {"averageImage": np.tile(np.float32(MEAN), (5, 5, 1)), "interpolation": "bilinear"}
    return {
        "layers": cells,
        **({"meta": {"normalization": normalization}} if tidy else {"normalization": normalization}),
    }


@pytest.fixture
def config(tmp_path):
    (tmp_path / "small.yaml").write_text(CONFIG)
    return str(tmp_path / "small.yaml")


@pytest.mark.parametrize("tidy", [True, False])
def test_the_codes_are_those_of_the_published_network(tmp_path, config, tidy):
    """An RGB window through the file's own arrays by hand, and through the model with the converted weights."""
    content = network(tidy=tidy)
    scipy.io.savemat(tmp_path / "net.mat", content, do_compression=True)
    converted = convert_vgg_m(tmp_path / "net.mat", tmp_path / "net.pth", config)
    assert converted == (14, MEAN)

    window = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 255
    x = window - torch.tensor(MEAN).view(1, 3, 1, 1)
    for cell in content["layers"][0, :-2:2]:
        kernel, bias = cell["weights"][0] if tidy else (cell["filters"], cell["biases"])
        number = cell["name"][-1]
        kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1)
        stride, padding = {"conv1": (2, 0), "conv2": (2, 1), "fc6": (1, 0), "fc7": (1, 0)}.get(cell["name"], (1, 1))
        x = F.relu(F.conv2d(x, kernel, torch.from_numpy(bias[0]), stride=stride, padding=padding))
        if number in "12":
            x = F.local_response_norm(x, size=5, alpha=5e-4, beta=0.75, k=2.0)
        if number in "125":
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    expected = x.flatten()
    assert expected.shape == (12,)
    assert expected.max() > 0

    cfg = load_config(config, ["MODEL.PIXEL_MEAN", str(converted.mean)])
    model = build_model(cfg).eval()
    SafeCheckpointer(model).load(str(tmp_path / "net.pth"))
    record = {"image": window[0], "height": 224, "width": 224, "image_id": 1, "file_name": "x"}
    (codes,), _, _ = model._regions([record])
    torch.testing.assert_close(codes[0], expected, rtol=1e-4, atol=1e-5)


def test_command(tmp_path, config, capsys):
    scipy.io.savemat(tmp_path / "net.mat", network())
    arguments = ["convert-weights", "vgg-m", str(tmp_path / "net.mat"), "--output", str(tmp_path / "net.pth")]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--config-file", config])
    assert not end.value.code
    assert "14 tensors" in (text := capsys.readouterr().out)
    assert "MODEL.PIXEL_MEAN [122.75, 116.5, 104.25]" in text


def test_other_files_are_explained(tmp_path, config):
    path = tmp_path / "net.mat"
    with pytest.raises(FileNotFoundError, match=r"net\.mat: no such file"):
        convert_vgg_m(path, tmp_path / "out.pth", config)
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/no'\ntR.")
    with pytest.raises(ValueError, match=r"not a \.mat file of version 5 to 7"):
        convert_vgg_m(path, tmp_path / "out.pth", config)
    scipy.io.savemat(path, {"a": 1.0})
    with pytest.raises(ValueError, match="not a MatConvNet network"):
        convert_vgg_m(path, tmp_path / "out.pth", config)
    scipy.io.savemat(path, {"layers": np.zeros((1, 3))})
    with pytest.raises(ValueError, match=r"layers are not those|no layer conv1"):
        convert_vgg_m(path, tmp_path / "out.pth", config)
    scipy.io.savemat(path, network())
    with pytest.raises(ValueError, match=r"conv1 gives backbone\.conv1\.weight the shape \(4, 3, 7, 7\), not \(96,"):
        convert_vgg_m(path, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
