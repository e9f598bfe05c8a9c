"""The command ``convert-weights``: convert checkpoints of other programs."""

from pathlib import Path

from mammo_d2.cli.common import make_parser
from mammo_d2.inference.convert_gmic import convert_gmic

DESCRIPTION = """Convert checkpoints of other programs to this package's parameter names.

Released GMIC checkpoints can also be used directly as MODEL.WEIGHTS; converting them checks every name and shape.
Several files, released or your own, become the members of a GMICEnsemble. Predict with their config,
MODEL.META_ARCHITECTURE GMICEnsemble, and the TOP_FRACTION of each in MODEL.GMIC.ENSEMBLE.

Examples:
    mammo-d2 convert-weights gmic sample_model_1.p --output gmic_1.pth
    mammo-d2 convert-weights gmic sample_model_?.p --output gmic_ensemble.pth
    mammo-d2 convert-weights gmic output/search_gmic/trial0003/model_best.pth \\
        output/search_gmic/trial0007/model_best.pth --config-file output/search_gmic/trial0003/config.yaml \\
        --output ensemble.pth
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "convert-weights")
    parser.add_argument("format", choices=["gmic"], help="format of the files")
    parser.add_argument("files", type=Path, nargs="+", help="checkpoints; several become one ensemble, in this order")
    parser.add_argument("--output", type=Path, required=True, help="the converted file (.pth)")
    parser.add_argument("--config-file", default="", help="config of the models; default: that of the released models")
    args = parser.parse_args(argv)
    count = convert_gmic(args.files, args.output, args.config_file)
    print(f"{args.output}: {count} tensors, every name and shape checked")
    return 0
