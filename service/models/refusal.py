"""The error with which a base model's file is refused."""

from typing import ClassVar

from service.sources.refusal import FileRefused


class ModelRefused(FileRefused):
    """A file of a base model breaks a rule; the owner is the model's folder or address."""

    kind: ClassVar[str] = "model"
