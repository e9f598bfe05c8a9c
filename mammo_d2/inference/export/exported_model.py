"""Export of a trained model to one file, ONNX or TorchScript, and the check that the file gives the model's results.

Both are made with torch's present exporter, ``torch.export``, but for the TorchScript file of a detector, which is
traced. They hold the networks and everything up to the final boxes or scores. Reading, preparing and resizing an image
file stays outside; the file says in its metadata, under ``mammo_d2``, what it expects and what it gives (JSON, see
``describe``).
"""

import contextlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mammo_d2 import __version__
from mammo_d2.core.files import atomic_write
from mammo_d2.framework import CfgNode, GeneralizedRCNN
from mammo_d2.inference.export.detector_graph import DetectorGraph
from mammo_d2.inference.export.image_graphs import DeepMILGraph, GMICGraph, ImageGraph
from mammo_d2.inference.predictor import Predictor
from mammo_d2.modeling.meta_arch.deep_mil import DeepMIL
from mammo_d2.modeling.meta_arch.gmic import GMIC
from mammo_d2.modeling.meta_arch.gmic_ensemble import GMICEnsemble

#: Name of the input, and of the entry of the metadata.
INPUT_NAME = "image"
METADATA_KEY = "mammo_d2"
#: Suffix of an exported file → its format.
FORMATS = {".onnx": "ONNX", ".ts": "TorchScript"}
#: Least and largest side of an input of any size, in pixels.
SIDE_RANGE = (128, 8192)
#: Version of ONNX's operators: the lowest that torch's exporter makes without converting.
OPSET = 18
#: Largest difference between file and model: absolute, and of pixels relative to their number.
TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-6

_OUTPUTS = {
    "boxes": "(n, 4) float32, XYXY in pixels of the input, best first",
    "scores": "(n,) float32 in [0, 1]",
    "classes": "(n,) int64, index into classes",
    "image_scores": "(classes,) float32 in [0, 1]",
    "saliency": "(classes, h, w) float32 in [0, 1], covers the input evenly",
    "patches": "(patches, 4) float32, XYXY in pixels of the input",
    "attention": "(patches,) float32, sums to 1",
}

Graph = DetectorGraph | ImageGraph
#: A loaded file: image (1, 1, H, W) float32 → outputs by name.
Runner = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Agreement:
    """How a file's results compare with the model's on one image.

    Attributes:
        entries: boxes, or scores of a classifier, that were compared.
        difference: largest absolute difference of each output.
    """

    entries: int
    difference: dict[str, float]


def graph_of(model: nn.Module, cfg: CfgNode) -> Graph:
    """The exportable form of a model in evaluation mode; it shares the model's layers.

    Raises:
        ValueError: a model that has none; the message names what cannot be exported.
    """
    if isinstance(model, GeneralizedRCNN):
        return DetectorGraph(model)
    if isinstance(model, (GMIC, GMICEnsemble)):
        return GMICGraph(model)
    if isinstance(model, DeepMIL):
        return DeepMILGraph(model, has_map="saliency" in DeepMIL.gives(cfg))
    raise ValueError(
        f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} cannot be exported; GeneralizedRCNN, "
        "MixedSupervisionRCNN, GMIC, GMICEnsemble and DeepMIL can"
    )


def export_format(path: Path) -> str:
    """Format that the suffix of a file asks for; ValueError for another suffix."""
    if path.suffix not in FORMATS:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in FORMATS.items())
        raise ValueError(f"{path}: the suffix says the format; use {known}")
    return FORMATS[path.suffix]


def check_extra() -> None:
    """Check that the packages of the extra ``export`` are there; ModuleNotFoundError names the first that is not."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        importlib.import_module(name)


def check_size(graph: Graph, size: tuple[int, int], any_size: bool) -> None:
    """Check that a model can be exported for inputs of a size, or with ``any_size`` of others as well.

    Raises:
        ValueError: ``any_size`` of a model that needs a fixed one, or a size out of range.
    """
    if any_size and not graph.takes_any_size:
        raise ValueError("only detectors can be exported for inputs of any size; leave --any-size out")
    if any_size and not all(SIDE_RANGE[0] < side < SIDE_RANGE[1] for side in size):
        raise ValueError(
            f"with --any-size, sides of the input lie between {SIDE_RANGE[0]} and {SIDE_RANGE[1]}, not {size}"
        )


def capture(graph: Graph, size: tuple[int, int], any_size: bool = False) -> torch.export.ExportedProgram:
    """Follow the model once.

    Args:
        graph: see ``graph_of``.
        size: (height, width) of the input.
        any_size: the program takes inputs of other sizes as well, see ``SIDE_RANGE``.

    Raises:
        ValueError: see ``check_size``.
    """
    check_size(graph, size, any_size)
    options: dict[str, Any] = {}
    if any_size:
        height, width = (torch.export.Dim(name, min=SIDE_RANGE[0], max=SIDE_RANGE[1]) for name in ("height", "width"))
        options = {
            "dynamic_shapes": ({2: height, 3: width},),
            # Sizes of feature maps that must agree are not proved beforehand.
            "prefer_deferred_runtime_asserts_over_guards": True,
        }
    with torch.no_grad(), quiet():
        return torch.export.export(graph.eval(), (_example(size),), strict=False, **options)


def _example(size: tuple[int, int]) -> Tensor:
    return torch.rand((1, 1, *size), generator=torch.Generator().manual_seed(0)) * 255


def describe(predictor: Predictor, graph: Graph, size: tuple[int, int], any_size: bool) -> dict[str, Any]:
    """What a file expects and gives, for its metadata.

    Args:
        predictor: of the model.
        graph, size, any_size: as for ``capture``.
    """
    cfg = predictor.cfg
    return {
        "made_by": f"mammo_d2 {__version__}",
        "note": "research software and no medical device",
        "kind": graph.kind,
        "classes": predictor.classes,
        "input": {
            "name": INPUT_NAME,
            "shape": [1, 1, *(("height", "width") if any_size else size)],
            "values": "float32 grey values from 0 (black) to 255; normalised inside",
            "intensity": cfg.INPUT.INTENSITY,
            "keep_aspect": cfg.INPUT.KEEP_ASPECT,
            "preprocessing": cfg.INPUT.PREPROCESSING,
        },
        "outputs": {name: _OUTPUTS[name] for name in graph.output_names},
        "preparation": predictor.preparation.to_dict(),
    }


def write_onnx(program: torch.export.ExportedProgram, graph: Graph, facts: Mapping[str, Any], path: Path) -> None:
    """Write an ONNX file with the weights inside.

    Raises:
        ModuleNotFoundError: without the packages of the extra ``export``.
    """
    import onnx

    check_extra()
    with torch.no_grad(), quiet():
        made = torch.onnx.export(
            program, input_names=[INPUT_NAME], output_names=list(graph.output_names), opset_version=OPSET, verbose=False
        )
    assert made is not None
    proto = made.model_proto
    for part in (proto.graph, *proto.functions):
        _without_traces(part)
    for side, name in zip(proto.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
        if side.dim_param:
            side.dim_param = name
    for output in proto.graph.output:
        for side in output.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = "n"
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(facts)})
    with atomic_write(path) as file:
        file.write(proto.SerializeToString())


def _without_traces(part: Any) -> None:
    """Remove where each node was made, which are paths of this machine, and the shapes in between."""
    for node in part.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del part.value_info[:]


def write_torchscript(source: nn.Module, size: tuple[int, int], facts: Mapping[str, Any], path: Path) -> None:
    """Write a TorchScript file; loading it needs torch and torchvision.

    Args:
        source: the graph of a detector, which takes any size then; otherwise the module of a captured program.
        size: (height, width) of the input.
        facts: see ``describe``.
        path: of the file.
    """
    with torch.no_grad(), quiet():
        traced = torch.jit.trace(source, (_example(size),), check_trace=False)
        with atomic_write(path) as file:
            torch.jit.save(traced, file, _extra_files={METADATA_KEY: json.dumps(facts)})


def load_exported(path: Path) -> Runner:
    """Load an exported file, as somebody without this package would.

    Raises:
        ModuleNotFoundError: an ONNX file without onnxruntime.
    """
    if export_format(path) == "ONNX":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda image: dict(zip(names, session.run(None, {INPUT_NAME: image}), strict=True))
    extra = {METADATA_KEY: ""}
    with quiet():
        script = torch.jit.load(os.fspath(path), map_location="cpu", _extra_files=extra)
    names = list(json.loads(extra[METADATA_KEY])["outputs"])

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = script(torch.from_numpy(image))
        return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

    return run


def compare(run: Runner, graph: Graph, image: Tensor) -> Agreement:
    """Compare a file with the model that it was made from.

    Args:
        run: the file.
        graph: the model.
        image: (1, 1, H, W).

    Raises:
        ValueError: they differ by more than the tolerance; the message names the output.
    """
    with torch.no_grad():
        expected = graph.expected(image)
    found = run(image.numpy())
    difference = {}
    for name in graph.output_names:
        wanted, given = expected[name].numpy(), found[name]
        if wanted.shape != given.shape:
            raise ValueError(f"the exported file gives {name} of shape {given.shape}, the model {wanted.shape}")
        difference[name] = float(np.abs(wanted.astype(np.float64) - given).max(initial=0))
        if not np.allclose(given, wanted, rtol=RELATIVE_TOLERANCE, atol=TOLERANCE):
            raise ValueError(f"{name} of the exported file differ from the model's by up to {difference[name]:.2g}")
    return Agreement(len(found[graph.output_names[0]]), difference)


def network_images(predictor: Predictor, files: Sequence[str]) -> list[Tensor]:
    """The network inputs (1, 1, H, W) that prediction makes of image files.

    Raises:
        ValueError: a file that cannot be used.
    """
    seen = _Recorder(predictor.model)
    predictor.model = seen
    try:
        for _ in predictor(files, strict=True):
            pass
    finally:
        predictor.model = seen.model
    return [image[None, :1] for image in seen.images]


class _Recorder(nn.Module):
    """A model that keeps its inputs' images."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.images: list[Tensor] = []

    def forward(self, batch: list[dict]) -> Any:
        self.images += [x["image"].clone() for x in batch]
        return self.model(batch)


def made_up_images(size: tuple[int, int], any_size: bool) -> Iterable[Tensor]:
    """Images with soft bright spots to compare on; with ``any_size`` also one of another size."""
    height, width = size
    sizes = [(height, width), (max(SIDE_RANGE[0], height * 7 // 8), max(SIDE_RANGE[0], width * 5 // 6))]
    for number, (rows, columns) in enumerate(sizes if any_size else sizes[:1]):
        coarse = torch.rand((1, 1, 12, 8), generator=torch.Generator().manual_seed(number)) ** 2 * 255
        yield nn.functional.interpolate(coarse, (rows, columns), mode="bicubic").clamp(0, 255)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what torch says about its own exporters; there is nothing that a user could do about it."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
