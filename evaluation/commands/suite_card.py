"""The card of a packed adapter that gets the figures of a suite."""

import asyncio
from pathlib import Path

from evaluation.calibration.asking import check_version
from evaluation.card import card_title, suite_section
from evaluation.report import Report
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import with_section, write_manifest
from service.common.client import Client
from service.errors import ConfigurationError


class SuiteCard:
    """The card in the folder of the adapter that is asked.

    Raises AdapterRefused for a manifest that cannot be read, and ConfigurationError for one of
    another model and for a service that serves other bytes under the adapter's name.
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
