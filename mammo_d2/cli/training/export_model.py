"""The command ``export-model``: a trained model as an ONNX or TorchScript file that runs without this package."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.model_arguments import add_model_arguments, choose_models, model_lines
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import make_folder
from mammo_d2.jobs.job import build_job

DESCRIPTION = """Write a trained model as one file that runs without this package: ONNX (.onnx) or TorchScript (.ts).

Detectors (GeneralizedRCNN and MixedSupervisionRCNN, with the RPN or TopLikelihoodRPN) give boxes, scores and classes:
non-maximum suppression and thresholds are inside. GMIC, GMICEnsemble and DeepMIL give image scores and saliency maps;
GMIC also its patches and their attention.

The file takes the network input: one grey image, float32 (1, 1, H, W), values from 0 to 255, and gives boxes in its
pixels. docs/export.md shows how to make it from an image file, and how to run the file with onnxruntime alone.

Once written, the file is run and compared with the model: to 1e-4, on the images of --check, else on one made up.

Needs the extra export: pip install 'mammo_d2[export]'. This is research software and no medical device.

Without --config-file and --weights the package's own detector of masses is exported.

Examples:
    mammo-d2 export-model --output detector.onnx --check exam1/L-CC.png
    mammo-d2 export-model --config-file output/mine/config.yaml --weights output/mine/model_final.pth \\
        --output mine.onnx --any-size
    mammo-d2 export-model --config-file output/gmic/config.yaml --weights output/gmic/model_final.pth \\
        --output gmic.ts
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "export-model")
    add_model_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="file to write, .onnx or .ts; not over another one")
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="height and width of the input [INPUT.SIZE of the config]"
    )
    parser.add_argument("--any-size", action="store_true", help="inputs may have any size (detectors only)")
    parser.add_argument(
        "--check", nargs="+", default=[], metavar="FILE", help="images on which file and model are compared"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides; write -- before them")
    args = parser.parse_args(argv)
    if args.size and min(args.size) < 1:
        parser.error(f"--size must be positive, got {args.size}")
    try:
        models = choose_models(args.config_file, args.weights)
    except ValueError as error:
        parser.error(str(error))
    if len(models) > 1:
        parser.error("one model is exported at a time: name one --weights")

    # Only now, so that --help is quick.
    from mammo_d2.inference.export import exported_model as exporting
    from mammo_d2.inference.predictor import Predictor

    file_format = exporting.export_format(args.output)
    if args.output.exists():
        raise ValueError(f"{args.output} is there already; name another file, or delete it")
    if file_format == "ONNX":
        exporting.check_extra()
    for line in model_lines(models):
        print(line)
    config, weights = models[0]
    cfg = load_config(config, [*args.opts, "MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"])
    build_job(cfg).check_files()
    predictor = Predictor(cfg)
    graph = exporting.graph_of(predictor.model, predictor.cfg)
    height, width = args.size or cfg.INPUT.SIZE
    size = (int(height), int(width))
    exporting.check_size(graph, size, args.any_size)
    if args.check:
        images = exporting.network_images(predictor, args.check)
        fixed = [tuple(image.shape[2:]) for image in images if tuple(image.shape[2:]) != size]
        if fixed and not args.any_size:
            raise ValueError(f"--check: an image gives a network input of {fixed[0]}, but the file takes {size} only")
    else:
        images = list(exporting.made_up_images(size, args.any_size))
    make_folder(args.output.parent, "--output")
    facts = exporting.describe(predictor, graph, size, args.any_size)
    if file_format == "ONNX":
        exporting.write_onnx(exporting.capture(graph, size, args.any_size), graph, facts, args.output)
    else:
        source = graph if graph.takes_any_size else exporting.capture(graph, size).module()
        exporting.write_torchscript(source, size, facts, args.output)
    print(f"{args.output}: {file_format}, {args.output.stat().st_size / 1e6:.1f} MB")
    runner = exporting.load_exported(args.output)
    try:
        results = [exporting.compare(runner, graph, image) for image in images]
    except ValueError:
        args.output.unlink()
        raise
    names = results[0].difference
    worst = ", ".join(f"{name} {max(result.difference[name] for result in results):.1e}" for name in names)
    print(f"same results as the model on {len(images)} images, {sum(r.entries for r in results)} {next(iter(names))}")
    print(f"largest differences: {worst}")
    return 0
