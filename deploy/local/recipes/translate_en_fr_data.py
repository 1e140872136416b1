"""English sentences and their French, out of the GNOME manuals (CC-BY-SA-3.0) that Debian 13 has.

Every page has the same structure in both languages; paragraphs, titles and descriptions at the
same place are a pair. Needs Debian's apt-get and dpkg-deb.

Usage: python deploy/local/recipes/translate_en_fr_data.py FILE
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from rows import write_rows

PACKAGES = {
    "gnome-user-docs=48.2-1": "94202c324aa65e87820ed0cec8872c1bbe81cfd6f238b8d62ce55a79d8cb6b82",
    "evolution-common=3.56.2-0+deb13u1": (
        "7b09a2d722d568fe55ab53939e54542a4f8dc42bcea02da77a7d2b7e7dd05175"
    ),
}
INSTRUCTION = "Translate to French: "
_HELP = "./usr/share/help/"
_BLOCKS = ("p", "title", "desc")
_MOST_CHARACTERS = 140


def fetch(package: str, sha256: str) -> bytes:
    """The package's files as a tar archive; exits when apt-get cannot get it or it is another."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["apt-get", "download", "--quiet", package]
        if subprocess.run(command, cwd=folder, check=False).returncode:
            sys.exit(f"error: apt-get could not download {package}; its message is above")
        (file,) = Path(folder).glob("*.deb")
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != sha256:
            sys.exit(f"error: {package}: sha256 is {found}, expected {sha256}")
        unpacked = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(file)], check=True, capture_output=True
        )
    return unpacked.stdout


def pages(archive: bytes, language: str) -> dict[str, bytes]:
    """The manual pages of one language, by their path below it."""
    root = f"{_HELP}{language}/"
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            if member.name.startswith(root) and member.name.endswith(".page"):
                file = files.extractfile(member)
                if file is not None:
                    found[member.name.removeprefix(root)] = file.read()
    return found


def blocks(page: bytes) -> list[tuple[str, str]]:
    """The page's paragraphs, titles and descriptions in order: tag and text, markup left out."""
    found = []
    for element in ElementTree.fromstring(page).iter():
        tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
        if tag in _BLOCKS:
            found.append((tag, " ".join("".join(element.itertext()).split())))
    return found


def pairs(english: bytes, french: bytes) -> Iterator[tuple[str, str]]:
    """The pairs of one page; none if the two do not have the same structure."""
    one, other = blocks(english), blocks(french)
    if [tag for tag, _ in one] == [tag for tag, _ in other]:
        for (_, source), (_, target) in zip(one, other, strict=True):
            yield source, target


def rows() -> Iterator[dict[str, object]]:
    """One row a pair that is translated and short; the pairs of one page are one group."""
    for package, sha256 in PACKAGES.items():
        archive = fetch(package, sha256)
        english, french = pages(archive, "C"), pages(archive, "fr")
        for page in sorted(english.keys() & french.keys()):
            for source, target in pairs(english[page], french[page]):
                short = max(len(source), len(target)) <= _MOST_CHARACTERS
                if short and len(source.split()) >= 2 and target and source != target:
                    yield {
                        "messages": [{"role": "user", "content": INSTRUCTION + source}],
                        "completion": target,
                        "group": page,
                    }


if __name__ == "__main__":
    write_rows(Path(sys.argv[1]), rows())
