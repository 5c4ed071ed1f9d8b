"""`driftgate model`: put versions into the registry, look at them, check them, name them."""

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.config import Config, load_config
from driftgate.errors import CliError, Exit
from eventlog.settings import MODES
from registry_client import EmbeddedRegistry, Manifest, Source

if TYPE_CHECKING:
    from driftgate.packing.graph import Arrays

Run = Callable[[argparse.Namespace], int]

NO_VERSION = "none"

_HINTS = {
    "NotFound": "`driftgate model list` shows what is there",
    "InvalidName": "rename it and try again",
    "Conflict": "`driftgate model show NAME` shows what is there now",
    "Corrupt": "push the model again as a new version, or restore the file",
    "Unsafe": "list every file of the model with --external, as plain files beside it",
}


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("model", help="versions in the registry")
    verbs = parser.add_subparsers(metavar="verb", required=True)
    _register_push(verbs)
    _verb(verbs, "list", run_list, "models, their versions and aliases")
    show = _verb(verbs, "show", run_show, "one version: files, signature, lineage, aliases")
    verify = _verb(verbs, "verify", run_verify, "read every byte and compare it to its manifest")
    for leaf in (show, verify):
        leaf.add_argument("name")
        leaf.add_argument("version", nargs="?", help="default: the newest (verify: all)")
    alias = _verb(verbs, "alias", run_alias, "point an alias at a version")
    alias.add_argument("name")
    alias.add_argument("alias")
    alias.add_argument("version")
    alias.add_argument(
        "--expect",
        metavar="VERSION",
        help=f"refuse unless the alias is there now ({NO_VERSION!r}: unless it does not exist)",
    )
    alias.add_argument("--reason", default="", help="kept in the alias's history")


def _verb(verbs: Any, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    leaf: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, parents=[common_options()]
    )
    leaf.set_defaults(run=_reported(run))
    return leaf


def _register_push(verbs: Any) -> None:
    push = _verb(verbs, "push", run_push, "store an ONNX file as a new version")
    push.add_argument("name")
    push.add_argument("file", type=Path, metavar="FILE.onnx")
    push.add_argument("--external", type=Path, nargs="+", action="extend", default=[])
    push.add_argument(
        "--reference",
        type=Path,
        metavar="DATA",
        help=".npz, .parquet or .csv of rows the model is meant for; best rows that it was "
        "not trained on",
    )
    push.add_argument(
        "--reference-rows",
        type=int,
        metavar="N",
        help="rows of the reference that are kept in its profile, to compare what features do "
        "together (2000; 0: none, only histograms)",
    )
    push.add_argument("--label", default="label", help="the reference's label column")
    push.add_argument(
        "--time",
        metavar="COLUMN",
        help="when each row of the reference was: timestamps, ISO 8601 or Unix time, UTC unless "
        "they name a zone; the monitor then judges each hour of the week by itself",
    )
    push.add_argument("--golden", type=Path, metavar="DATA.npz", help="input:NAME and output:NAME")
    push.add_argument("--lineage", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    push.add_argument("--alias", help="point this alias at the new version")
    push.add_argument("--version", help="default: the next number")
    push.add_argument("--max-batch-size", type=int, metavar="N", help="0: never batch")
    push.add_argument(
        "--pad-axis",
        metavar="NAME",
        help="requests may be padded along the dimension that the graph calls so, to share a run",
    )
    push.add_argument("--pad-mask", metavar="INPUT", help="1 where a request has something, else 0")
    push.add_argument(
        "--pad-values", metavar="INPUT=VALUE,...", help="what other inputs are padded with: 0"
    )
    push.add_argument(
        "--pad-lengths", metavar="N,...", help="the only lengths to pad to; default: as measured"
    )
    push.add_argument("--log-mode", choices=MODES)
    push.add_argument("--sample-rate", type=float, help="share of rows kept in mode sampled")
    push.add_argument(
        "--continuous", action="store_true", help="bin every numeric feature as a range"
    )


def _reported(run: Run) -> Run:
    """Registry errors as error, cause and hint."""

    @functools.wraps(run)
    def reported(args: argparse.Namespace) -> int:
        from registry_client import RegistryError

        try:
            return run(args)
        except RegistryError as exc:
            verb = run.__name__.removeprefix("run_")
            hint = _HINTS.get(type(exc).__name__)
            raise CliError(f"driftgate model {verb} was refused", str(exc), hint) from exc

    return reported


def run_push(args: argparse.Namespace) -> int:
    from driftgate.packing.pack import pack_model
    from registry_client import check_alias, check_model_name, check_version

    check_model_name(args.name)
    if args.alias is not None:
        check_alias(args.alias)
    if args.version is not None:
        check_version(args.version)
    if args.reference_rows is not None and args.reference_rows < 0:
        raise CliError(f"--reference-rows {args.reference_rows} is no number of rows")
    if args.time is not None and args.reference is None:
        raise CliError("--time needs --reference", code=Exit.USAGE)
    lineage, serving = _lineage(args.lineage), _serving(args)
    registry = _embedded(load_config(args))
    started_ns = time.monotonic_ns()
    pack = pack_model(
        args.file,
        external=args.external,
        reference=args.reference,
        golden=args.golden,
        label=args.label,
        time=args.time,
        continuous=args.continuous,
        sample_rows=args.reference_rows,
        max_batch_size=args.max_batch_size,
    )
    manifest = registry.push(
        args.name,
        pack.files,
        inputs=pack.inputs,
        outputs=pack.outputs,
        features=pack.features,
        lineage=lineage,
        serving=serving,
        version=args.version,
    )
    if args.alias is not None:
        registry.set_alias(args.name, args.alias, manifest.version, reason="push")
    took_ms = (time.monotonic_ns() - started_ns) // 1_000_000
    document = {**_document(manifest), "alias": args.alias, "notes": list(pack.notes)}
    _print(args, document, _pushed(manifest, args.alias, pack.notes, took_ms))
    return Exit.OK


def golden_samples(model: Path | bytes, inputs: "Arrays") -> bytes:
    """Golden samples of a model for given inputs, as `push` stores them."""
    from driftgate.packing.golden import golden_of

    return golden_of(model, inputs)


def run_list(args: argparse.Namespace) -> int:
    source = _source(load_config(args))
    rows = [_row(source, model, version) for model, version in _versions(source)]
    problem = ("problem",) if any(row["problem"] for row in rows) else ()
    columns = ("model", "version", "aliases", "digest", "size", "created", *problem)
    _print(args, rows, _table(columns, rows) if rows else ["no models"])
    return Exit.OK


def run_show(args: argparse.Namespace) -> int:
    source = _source(load_config(args))
    manifest = source.manifest(args.name, args.version or _newest(source, args.name))
    document = {
        **_document(manifest),
        "aliases": source.aliases(args.name),
        "history": _history(source, args.name),
    }
    _print(args, document, _shown(manifest, document))
    return Exit.OK


def run_verify(args: argparse.Namespace) -> int:
    from registry_client import EmbeddedRegistry, verify_version

    source = _source(load_config(args))
    versions = [args.version] if args.version else source.versions(args.name)
    if not versions:
        _newest(source, args.name)
    rows = []
    for version in versions:
        problems = (
            source.verify(args.name, version)
            if isinstance(source, EmbeddedRegistry)
            else verify_version(source, args.name, version)
        )
        rows.append({"version": version, "problems": [problem.text for problem in problems]})
    lines = [
        line
        for row in rows
        for line in row["problems"] or [f"model {args.name} version {row['version']}: ok"]
    ]
    _print(args, {"model": args.name, "versions": rows}, lines)
    return Exit.FAILED if any(row["problems"] for row in rows) else Exit.OK


def run_alias(args: argparse.Namespace) -> int:
    from registry_client import ANY_VERSION

    registry = _embedded(load_config(args))
    expected = {None: ANY_VERSION, NO_VERSION: None}.get(args.expect, args.expect)
    before = registry.aliases(args.name).get(args.alias)
    serial = registry.set_alias(args.name, args.alias, args.version, expected, reason=args.reason)
    document = {
        "model": args.name,
        "alias": args.alias,
        "version": args.version,
        "previous": before,
        "serial": serial,
    }
    lines = [f"{args.name}: {args.alias} is version {args.version} (was {before or 'not set'})"]
    if before not in (None, args.version):
        lines.append(
            f"undo: driftgate model alias {args.name} {args.alias} {before} --expect {args.version}"
        )
    _print(args, document, lines)
    return Exit.OK


def _source(config: Config) -> "Source":
    from registry_client import open_source

    return open_source(config.registry_dir, config.gateway.model_repository)


def _embedded(config: Config) -> "EmbeddedRegistry":
    from registry_client import EmbeddedRegistry

    if config.gateway.model_repository:
        raise CliError(
            "the registry cannot be written",
            f"models are served from the folder {config.gateway.model_repository} as it is",
            "add versions to that folder, or unset gateway.model_repository",
        )
    return EmbeddedRegistry(config.registry_dir)


def _newest(source: "Source", model: str) -> str:
    from registry_client import NotFound

    versions = source.versions(model)
    if not versions:
        raise NotFound(f"model {model} is not in the registry")
    return versions[-1]


def _lineage(items: Sequence[str]) -> dict[str, str]:
    lineage: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key or key in lineage:
            raise CliError(
                f"--lineage {item!r} is not understood",
                hint="write each key once: --lineage data=sha256:… commit=1a2b3c",
                code=Exit.USAGE,
            )
        lineage[key] = value
    return lineage


def _serving(args: argparse.Namespace) -> dict[str, Any]:
    if args.max_batch_size is not None and args.max_batch_size < 0:
        raise CliError("--max-batch-size must be 0 or more", code=Exit.USAGE)
    if args.sample_rate is not None and not 0.0 < args.sample_rate <= 1.0:
        raise CliError("--sample-rate must be above 0 and at most 1", code=Exit.USAGE)
    settings = {
        "max_batch_size": args.max_batch_size,
        "log_mode": args.log_mode,
        "sample_rate": args.sample_rate,
        "padding": _padding(args),
    }
    return {key: value for key, value in settings.items() if value is not None}


def _padding(args: argparse.Namespace) -> dict[str, Any] | None:
    from registry_client.core.config_padding import PARAMETERS, read_padding

    given = {name: value for name in PARAMETERS if (value := getattr(args, name))}
    return read_padding(given).serving() if given else None


def _versions(source: "Source") -> Iterable[tuple[str, str]]:
    for model in source.models():
        for version in source.versions(model):
            yield model, version


def _row(source: "Source", model: str, version: str) -> dict[str, Any]:
    """One line of the list; a damaged version is a line too."""
    from registry_client import RegistryError

    aliases = [alias for alias, at in source.aliases(model).items() if at == version]
    row: dict[str, Any] = {"model": model, "version": version, "aliases": aliases}
    try:
        manifest = source.manifest(model, version)
    except RegistryError as exc:
        return row | {"digest": "", "size": 0, "created": "", "problem": str(exc)}
    size = sum(file.bytes for file in manifest.files)
    created = _time(manifest.created_ns)
    return row | {"digest": manifest.digest, "size": size, "created": created, "problem": ""}


def _document(manifest: "Manifest") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(manifest.to_json())
    return document | {"digest": manifest.digest, "warnings": list(manifest.warnings)}


def _history(source: "Source", model: str) -> dict[str, list[dict[str, Any]]]:
    from dataclasses import asdict

    from registry_client import EmbeddedRegistry

    if not isinstance(source, EmbeddedRegistry):
        return {}
    return {
        alias: [asdict(change) for change in source.alias_history(model, alias)]
        for alias in source.aliases(model)
    }


def _pushed(
    manifest: "Manifest", alias: str | None, notes: Sequence[str], took_ms: int
) -> list[str]:
    size = sum(file.bytes for file in manifest.files)
    lines = [
        f"pushed {manifest.model} version {manifest.version} "
        f"({_size(size)} in {len(manifest.files)} files, {took_ms} ms)",
        f"digest {manifest.digest}",
    ]
    if alias:
        lines.append(f"{alias} is version {manifest.version}")
    return lines + [f"note: {note}" for note in notes]


def _shown(manifest: "Manifest", document: dict[str, Any]) -> list[str]:
    aliases = [alias for alias, at in document["aliases"].items() if at == manifest.version]
    lines = [
        f"model    {manifest.model}",
        f"version  {manifest.version} {' '.join(aliases)}".rstrip(),
        f"digest   {manifest.digest}",
        f"created  {_time(manifest.created_ns) or 'unknown'}",
    ]
    for title, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        lines += [f"{title:<8} {s.name} {s.datatype} {list(s.shape)}" for s in specs]
    kinds = [str(feature.kind) for feature in manifest.features]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    lines.append(f"features {counted or 'none'}")
    for file in manifest.files:
        lines.append(f"file     {file.name} ({file.role.value}, {_size(file.bytes)}) {file.sha256}")
    for title, values in (("lineage", manifest.lineage), ("serving", manifest.serving)):
        lines += [f"{title:<8} {key} = {value}" for key, value in values.items()]
    for alias, changes in document["history"].items():
        for item in changes:
            reason = f" ({item['reason']})" if item["reason"] else ""
            lines.append(f"alias    {alias} -> {item['version']} {_time(item['at_ns'])}{reason}")
    return lines + [f"warning  {warning}" for warning in manifest.warnings]


def _time(at_ns: int) -> str:
    if not at_ns:
        return ""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    cells = [list(columns), *([_cell(column, row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cell(column: str, value: Any) -> str:
    if column == "digest":
        return str(value)[:12]
    if column == "size":
        return _size(value)
    return ",".join(value) if isinstance(value, list) else str(value)


def _print(args: argparse.Namespace, document: Any, lines: Iterable[str]) -> None:
    if args.output == "json":
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(lines))
