"""`driftgate bench model`: what one's own model can take, and the settings that suit it."""

import argparse
import json
import re

from driftgate.cli import common_options
from driftgate.commands.times import seconds
from driftgate.errors import CliError, Exit

_SHAPE = re.compile(r"(?P<name>.+)=(?P<dims>\d{1,10}(?:[,x]\d{1,10})*)?")


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "model",
        help="your model by batch size and threads, and the settings that suit it",
        description="Runs a model without a gateway, with rows and threads in powers of two, "
        "says where larger batches stop paying, and prints the lines that set what "
        "it recommends, with the reasons. Inputs are the version's golden samples, else made up.",
        parents=[common_options()],
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="of the registry, a .onnx file, or the path (with a /) of a model's Triton folder",
    )
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="default: the champion, else the newest"
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        type=_shape,
        metavar="NAME=DIMS",
        help="of an input, without the batch's dimension, where the model leaves some open: "
        "ids=128, image=3,224,224; may repeat",
    )
    parser.add_argument(
        "--max-batch-size", type=int, metavar="N", help="measure up to N rows (0: one request)"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=20.0, help="in all, once the model is loaded"
    )
    parser.set_defaults(run=run_model)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=128 or NAME=3,224,224")
    return match["name"], tuple(int(dim) for dim in re.split("[,x]", match["dims"] or "") if dim)


def run_model(args: argparse.Namespace) -> int:
    if args.seconds <= 0 or (args.max_batch_size or 0) < 0:
        raise CliError("--seconds is above 0, --max-batch-size 0 or more", code=Exit.USAGE)
    _require_runtime()
    from driftgate.config import load_config
    from driftgate.tuning.sweep import document, sweep
    from driftgate.tuning.target import open_target
    from driftgate.tuning.words import as_lines, paste

    config = load_config(args)
    with open_target(config, args.model, args.version) as target:
        swept = sweep(
            target,
            dict(args.shape),
            args.seconds,
            args.max_batch_size,
            config.gateway.max_batch_size,
        )
        if args.output == "json":
            print(json.dumps({**document(target, swept), "paste": paste(target, swept)}, indent=2))
        else:
            print("\n".join(as_lines(target, swept)))
    return Exit.OK


def _require_runtime() -> None:
    import importlib.util

    if importlib.util.find_spec("onnxruntime") is None:
        why, hint = "ONNX Runtime is not installed", 'pip install "driftgate[cpu]"'
        raise CliError("the model was not measured", why, hint)
