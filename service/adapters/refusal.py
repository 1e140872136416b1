"""The error with which every adapter is refused."""

from typing import ClassVar

from service.sources.refusal import FileRefused


class AdapterRefused(FileRefused):
    """A file of an adapter breaks a rule.

    The owner is the manifest's name, or the folder's while no manifest could be read.
    """

    kind: ClassVar[str] = "adapter"
