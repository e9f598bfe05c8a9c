"""The command ``convert-weights``: convert checkpoints of other programs; pack a run to hand on."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.inference.convert_gmic import convert_gmic
from mammo_d2.inference.convert_resnetv2 import convert_resnetv2
from mammo_d2.inference.convert_vgg_m import convert_vgg_m
from mammo_d2.inference.packed_model import pack_run

DESCRIPTION = """Convert checkpoints of other programs to this package's parameter names, or pack a finished run.

Released GMIC checkpoints can also be used directly as MODEL.WEIGHTS; converting them checks every name and shape.
Several files, released or your own, become the members of a GMICEnsemble. Predict with their config,
MODEL.META_ARCHITECTURE GMICEnsemble, and the TOP_FRACTION of each in MODEL.GMIC.ENSEMBLE.

resnetv2: ImageNet weights of timm's resnetv2_50.a1h_in1k or resnetv2_101.a1h_in1k (model.safetensors of
https://huggingface.co/timm/resnetv2_50.a1h_in1k), for MODEL.LESION.NETWORK_WEIGHTS.

vgg-m: MatConvNet's imagenet-vgg-m-128.mat, for MODEL.WEIGHTS of configs/dual_branch/; prints the mean to set as
MODEL.PIXEL_MEAN. Its channels are RGB; those of the Caffe model, which is not read, are BGR.

run: OUTPUT_DIR of a finished run to a folder with config.yaml, model.safetensors (half precision) and preparation.json;
mammo-d2 predict --weights FOLDER/model.safetensors needs nothing else.

Examples:
    mammo-d2 convert-weights run output/mine --output models/mine
    mammo-d2 convert-weights gmic sample_model_1.p --output gmic_1.pth
    mammo-d2 convert-weights gmic sample_model_?.p --output gmic_ensemble.pth
    mammo-d2 convert-weights gmic output/search_gmic/trial0003/model_best.pth \\
        output/search_gmic/trial0007/model_best.pth --config-file output/search_gmic/trial0003/config.yaml \\
        --output ensemble.pth
    mammo-d2 convert-weights resnetv2 model.safetensors --output resnetv2_50.pth
    mammo-d2 convert-weights vgg-m imagenet-vgg-m-128.mat --output vgg_m_128.pth
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "convert-weights")
    parser.add_argument("format", choices=["gmic", "resnetv2", "vgg-m", "run"], help="format of the files")
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        help="checkpoints; several become one ensemble, in this order; or the folder of a run",
    )
    parser.add_argument("--output", type=Path, required=True, help="the converted file (.pth); of a run: a folder")
    parser.add_argument("--config-file", default="", help="config of the models; default: that of the released models")
    args = parser.parse_args(argv)
    if args.format != "gmic" and len(args.files) > 1:
        parser.error(f"{args.format} converts one file, not {len(args.files)}")
    if args.format == "run":
        size = pack_run(args.files[0], args.output)
        print(f"{args.output}: {size / 1e6:.1f} MB of weights; write a model card before you hand it on")
        return 0
    if args.format == "resnetv2":
        count = convert_resnetv2(args.files[0], args.output)
    elif args.format == "vgg-m":
        count, mean = convert_vgg_m(args.files[0], args.output, args.config_file)
        if mean:
            print(f"mean pixel of the file, in the order of the weights' channels: MODEL.PIXEL_MEAN {mean}")
    else:
        count = convert_gmic(args.files, args.output, args.config_file)
    print(f"{args.output}: {count} tensors, every name and shape checked")
    return 0
