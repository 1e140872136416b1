"""The error with which an encoder's head is refused."""

from typing import ClassVar

from service.sources.refusal import FileRefused


class HeadRefused(FileRefused):
    """A file of a trained head breaks a rule; the owner is the manifest's name, or the folder's."""

    kind: ClassVar[str] = "head"
