"""`llm-service adapters pack`, `sign` and `push`, which write packages, and `try`, for a look."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from service.adapters.formats import AdapterRefused
from service.adapters.verify import VerifiedAdapter
from service.cli.adapters import (
    DEFAULT_RANK,
    AsJson,
    BaseName,
    Folder,
    Folders,
    MaxRank,
    app,
    describe_base,
    refusal,
    report,
    tell_refusal,
)
from service.common.command_line import one_message, quiet_engine
from service.common.plain_yaml import read_mapping
from service.errors import ConfigurationError
from service.settings.load import load_settings
from service.settings.tree import Settings
from training import packing
from training.trial import prepare_trial

SigningKey = typer.Option(
    help="Private key in PEM (P-256, P-384 or P-521); its password, if it has one, is read from "
    "LLM_SIGNING_PASSWORD."
)

_PASSWORD = "LLM_SIGNING_PASSWORD"


Packed = VerifiedAdapter | AdapterRefused


@app.command()
def pack(
    folders: Folders,
    draft: Annotated[
        Path,
        typer.Option(
            help="YAML: the manifest without schema, base_model, files and fingerprint. Or a "
            "folder, which has FOLDER.yaml for each."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The service's YAML file; its engine proves."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="Folder of the base model; the adapter stays unproven."),
    ] = None,
    base_name: BaseName = None,
    max_rank: MaxRank = DEFAULT_RANK,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing adapter.yaml.")] = False,
    sign: Annotated[Path | None, SigningKey] = None,
    as_json: AsJson = False,
) -> None:
    """Write adapter.yaml into PEFT folders: fill in digests and base, and check every file.

    With --config the engine starts, once for all folders, takes each adapter's fingerprint and
    proves it. With --base no engine starts and adapters stay unproven. A folder that is refused
    does not stop the others; the command then ends with 1. --json prints a line for each.

    Examples:
      llm-service adapters pack out/sentiment --config config.yaml --draft sentiment.yaml
      llm-service adapters pack out/* --config config.yaml --draft drafts
    """
    with one_message():
        if (config is None) == (base is None):
            raise ConfigurationError("pack: give either --config (proven) or --base (unproven)")
        drafts = _drafts(folders, draft)
        if config is not None:
            quiet_engine()
            packed = asyncio.run(_pack_proven(load_settings(config), drafts, overwrite))
        elif base is not None:
            described = describe_base(base, base_name, max_rank)
            packed = _each(partial(packing.pack, base=described, overwrite=overwrite), drafts)
            typer.echo("warning: unproven without a fingerprint; pack with --config", err=True)
        _end(packed, sign, as_json)


def _end(packed: Mapping[Path, Packed], key: Path | None, as_json: bool) -> None:
    """Sign and report what was packed; ends the command with 1 if a folder was refused."""
    for folder, done in packed.items():
        if isinstance(done, AdapterRefused):
            tell_refusal(done, as_json)
        elif key is not None:
            packing.sign(folder, key, os.environ.get(_PASSWORD))
    verified = [each for each in packed.values() if isinstance(each, VerifiedAdapter)]
    report(verified, as_json)
    if len(verified) < len(packed):
        raise typer.Exit(1)


def _drafts(folders: Sequence[Path], draft: Path) -> dict[Path, dict[str, object]]:
    """The draft of each folder; raises ConfigurationError for one that cannot be read."""
    resolved = [folder.resolve() for folder in folders]
    if draft.is_dir():
        return {folder: read_mapping(draft / f"{folder.name}.yaml") for folder in resolved}
    if len(resolved) > 1:
        raise ConfigurationError(
            f"--draft: {draft} is one file; for {len(resolved)} folders give a folder of drafts, "
            f"such as {resolved[0].name}.yaml in it"
        )
    return {resolved[0]: read_mapping(draft)}


def _each(
    pack: Callable[..., VerifiedAdapter], drafts: Mapping[Path, Mapping[str, object]]
) -> dict[Path, Packed]:
    packed: dict[Path, Packed] = {}
    for folder, draft in drafts.items():
        try:
            packed[folder] = pack(folder, draft=draft)
        except AdapterRefused as error:
            packed[folder] = error
    return packed


@app.command("sign")
def sign_(folder: Folder, key: Annotated[Path, SigningKey], as_json: AsJson = False) -> None:
    """Sign a packed adapter: write adapter.sig, in the format of OpenSSF Model Signing.

    Put the public key into the folder that `adapter_trust.keys` of each service names.

    Example: llm-service adapters sign adapters/sentiment --key release-private.pem
    """
    with one_message(), refusal(as_json):
        written = str(packing.sign(folder, key, os.environ.get(_PASSWORD)))
        typer.echo(json.dumps({"ok": True, "signature": written}) if as_json else written)


@app.command()
def push(
    folder: Folder,
    address: Annotated[str, typer.Argument(help="oci://host/repository:tag")],
    as_json: AsJson = False,
) -> None:
    """Push a packed adapter to an OCI registry and print its address by digest.

    Credentials come from `docker login`, `oras login` or DOCKER_CONFIG.

    Example: llm-service adapters push adapters/sentiment oci://registry.example/tone:1.2.0
    """
    with one_message(), refusal(as_json):
        pinned = packing.push(folder, address)
        typer.echo(json.dumps({"ok": True, "source": pinned}) if as_json else pinned)


async def _pack_proven(
    settings: Settings, drafts: Mapping[Path, Mapping[str, object]], overwrite: bool
) -> dict[Path, Packed]:
    from training.offline import offline_model

    base = describe_base(settings.base.path, settings.base.name, settings.max_lora_rank)
    check = partial(packing.check_draft, base=base, overwrite=overwrite)
    packed = _each(check, drafts)  # before the engine's start
    fit = [folder for folder, each in packed.items() if isinstance(each, VerifiedAdapter)]
    if fit:
        async with offline_model(settings) as model:
            for folder in fit:
                draft = drafts[folder]
                try:
                    packed[folder] = await model.pack(folder, base, draft, overwrite=overwrite)
                except AdapterRefused as error:
                    packed[folder] = error
    return packed


@app.command("try")
def try_folder(
    folder: Folder,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The service's YAML file, for the base model.")
    ] = Path("config.yaml"),
) -> None:
    """Serve a bare PEFT folder for a look, on this machine only, beside the base model.

    It needs no manifest and no golden examples, and nothing is proven: requests name it
    unproven-FOLDER. The adapters of the configuration are not served. Pack it before others use it.

    Example: llm-service adapters try out/checkpoint-300 --config config.yaml
    """
    with one_message(), refusal(False):
        settings = load_settings(config)
        target = settings.adapter_cache.path / "try" / folder.resolve().name
        shutil.rmtree(target, ignore_errors=True)
        variables = prepare_trial(folder, settings, target)
    typer.echo("warning: nothing of this adapter is proven; it is for a look alone", err=True)
    serve = [sys.executable, "-m", "service.cli.main", "serve", "--config", str(config)]
    os.execve(sys.executable, serve, {**os.environ, **variables})
