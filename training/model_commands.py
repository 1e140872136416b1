"""`llm-service model quantise`, which writes a model with weights of 8 bits."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.model import app
from service.common.command_line import one_message
from training.quantise import quantise_model


@app.command()
def quantise(
    source: Annotated[Path, typer.Argument(help="Folder of the model.")],
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder to write; default SOURCE-w8a8.", show_default=False),
    ] = None,
) -> None:
    """Write a model with weights of 8 bits, and print the digest of its files.

    Linear layers are rounded to 8 bits, their inputs while it serves (W8A8, in the format of
    compressed-tensors). On CPUs with VNNI tokens come sooner and the layers take half of the
    memory; on others it is refused. Adapters are bound to a base's digest: pack them anew, with
    the new folder in `model.path`, and evaluate what they answer.

    Example: llm-service model quantise models/mine
    """
    with one_message():
        target = folder or source.with_name(f"{source.name}-w8a8")
        typer.echo(quantise_model(source, target).digest)
