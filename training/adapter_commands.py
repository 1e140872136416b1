"""`llm-service adapters pack`, `sign` and `push`, which write packages, and `try`, for a look."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.adapters.verify import VerifiedAdapter
from service.cli.adapters import (
    DEFAULT_RANK,
    AsJson,
    BaseName,
    Folder,
    MaxRank,
    app,
    describe_base,
    refusal,
    report,
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


@app.command()
def pack(
    folder: Folder,
    draft: Annotated[
        Path,
        typer.Option(help="YAML: the manifest without schema, base_model, files and fingerprint."),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The service's YAML file; its engine proves."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder of the base model; proves nothing.")
    ] = None,
    base_name: BaseName = None,
    max_rank: MaxRank = DEFAULT_RANK,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing adapter.yaml.")] = False,
    sign: Annotated[Path | None, SigningKey] = None,
    as_json: AsJson = False,
) -> None:
    """Write adapter.yaml into a PEFT folder: fill in digests and base, and check every file.

    With --config the engine starts, takes the adapter's fingerprint and proves the adapter. With
    --base no engine starts and the adapter stays unproven.

    Example: llm-service adapters pack out/sentiment --config config.yaml --draft sentiment.yaml
    """
    with one_message(), refusal(as_json):
        if (config is None) == (base is None):
            raise ConfigurationError("pack: give either --config (proven) or --base (unproven)")
        written = read_mapping(draft)
        if config is not None:
            quiet_engine()
            settings = load_settings(config)
            packed = asyncio.run(_pack_proven(settings, folder.resolve(), written, overwrite))
        elif base is not None:
            described = describe_base(base, base_name, max_rank)
            packed = packing.pack(folder, described, written, overwrite=overwrite)
            typer.echo("warning: unproven without a fingerprint; pack with --config", err=True)
        if sign is not None:
            packing.sign(folder, sign, os.environ.get(_PASSWORD))
        report(packed, as_json)


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
    settings: Settings, folder: Path, draft: dict[str, object], overwrite: bool
) -> VerifiedAdapter:
    from training.offline import offline_model

    base = describe_base(settings.base.path, settings.base.name, settings.max_lora_rank)
    packing.check_draft(folder, base, draft, overwrite=overwrite)  # before the engine's start
    async with offline_model(settings) as model:
        return await model.pack(folder, base, draft, overwrite=overwrite)


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
