"""Packed folders: rewriting their manifests and cards, and checking that they are served."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import BaseModel

from evaluation.client import Client
from evaluation.report import Report, card_title, suite_section
from service.adapters.formats import AdapterRefused
from service.adapters.heads import MANIFEST_FILE, HeadManifest, HeadRefused
from service.adapters.manifest import SIGNATURE_FILE, Manifest
from service.adapters.manifest_yaml import load_manifest, write_manifest
from service.common.command_line import one_message
from service.common.files import file_digest, write_atomically
from service.errors import ConfigurationError
from service.models.file_list import LIST_FILE, FileList, read_file_list


@contextmanager
def rewriting(folder: Path | None) -> Iterator[None]:
    """Print a refusal as one message, and warn at the end that an existing signature is outdated.

    Without a folder nothing is rewritten, so only refusals are printed.
    """
    with one_message():
        try:
            yield
        except (AdapterRefused, HeadRefused) as error:
            typer.echo(f"refused: {error}", err=True)
            raise typer.Exit(1) from None
        if folder is not None and (folder / SIGNATURE_FILE).exists():
            typer.echo(f"sign again: {SIGNATURE_FILE} is of the old manifest", err=True)


def show_section(section: BaseModel, as_json: bool) -> None:
    """Print a section that was written, as JSON or with a line for each field."""
    if as_json:
        typer.echo(section.model_dump_json())
        return
    for name, value in section.model_dump().items():
        typer.echo(f"{name}: {json.dumps(value)}")


def rewrite_manifest(folder: Path, head: HeadManifest) -> None:
    """Write another manifest and its digest; HeadRefused for a folder without a list of files."""
    listed = read_file_list(folder)
    if listed is None:
        raise HeadRefused(
            head.name, LIST_FILE, "is missing", "the digests that finetune wrote", "nothing"
        )
    head.write(folder)
    digest = file_digest(folder / MANIFEST_FILE)
    FileList(source=listed.source, files={**listed.files, MANIFEST_FILE: digest}).write(folder)


async def check_version(client: Client, name: str, digest: str, listed: str) -> None:
    """Raise ConfigurationError unless the service lists the name with this digest."""
    cards = (await client.read(listed))["data"]
    digests = {each.get("name") or each.get("id"): each.get("digest") for each in cards}
    if (found := digests.get(name)) != digest:
        raise ConfigurationError(
            f"{client.url}: must serve {name} with the folder's digest {digest}, "
            f"got {found or 'no such model'}"
        )


CARD_FILE = "README.md"


def with_section(folder: Path, manifest: Manifest, title: str, body: str) -> dict[str, str]:
    """Write a section in place of the one with this title, else at the end of the card.

    Returns the manifest's `files` with the card's new digest, which the caller has to write. `body`
    holds no heading. Raises ConfigurationError for a card that cannot be read or written.
    """
    file = folder / CARD_FILE
    try:
        card = file.read_text(encoding="utf-8") if file.exists() else f"# {manifest.name}\n"
        write_atomically(file, section_in(card, title, body).encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the card cannot be read or written") from error
    return {**manifest.files, CARD_FILE: file_digest(file)}


def section_in(card: str, title: str, body: str) -> str:
    """The card with a level-2 section of this title, in place of an earlier one or at the end."""
    section = f"## {title}\n\n{body.strip()}\n"
    there = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if there.search(card) is None:
        return f"{card.rstrip()}\n\n{section}"
    return there.sub(lambda found: section if found.end() == len(card) else f"{section}\n", card)


class SuiteCard:
    """The model card of the adapter that a suite measures, in the adapter's folder.

    Raises AdapterRefused for a manifest that cannot be read, and ConfigurationError for a manifest
    of another model and for a service that serves other weights under the adapter's name.
    """

    def __init__(self, folder: Path, client: Client, asked: str | None) -> None:
        self._folder = folder
        self._manifest = load_manifest(folder)
        name = self._manifest.name
        if (asked or "").partition("@")[0] != name:
            raise ConfigurationError(f"{folder}: must be of the model that is asked, got {name}")
        asyncio.run(self._check(client))

    async def _check(self, client: Client) -> None:
        async with client:
            name, digest = self._manifest.name, self._manifest.digest
            await check_version(client, name, digest, "/v1/adapters")

    def write(self, report: Report) -> None:
        """Write the section, and the card's digest into the manifest."""
        section = card_title(report), suite_section(report)
        files = with_section(self._folder, self._manifest, *section)
        write_manifest(self._folder, self._manifest.model_copy(update={"files": files}))
