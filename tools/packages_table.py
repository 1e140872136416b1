"""The Python packages of the images in THIRD_PARTY.md, with the licences in their metadata."""

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.plugins.sbom.bill import licence
from tools.markdown_pages import replaced

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "THIRD_PARTY.md"


def page() -> str:
    """The page with the current tables."""
    text = PAGE.read_text(encoding="utf-8")
    text = replaced(text, "packages", packages_table())
    return replaced(text, "cuda", cuda_table())


def packages_table() -> str:
    """A Markdown table with a row for each package of the CPU image and of the load tests' image.

    Raises RuntimeError for a package that is not installed here in the version that is pinned.
    """
    lists = {"CPU": pins("cpu"), "load tests": pins("hashed-loadtest")}
    versions = {name: version for each in lists.values() for name, version in each.items()}
    lines = ["| package | version | licence | image |", "| --- | --- | --- | --- |"]
    for name, version in sorted(versions.items()):
        images = ", ".join(image for image, listed in lists.items() if name in listed)
        named = licence(_installed(name, version)).replace("|", "\\|")
        lines.append(f"| {name} | {version} | {named} | {images} |")
    return "\n".join(lines)


def cuda_table() -> str:
    """A Markdown table of the packages, or versions of them, that only the CUDA image holds."""
    only = sorted(pins("cuda").items() - pins("cpu").items())
    lines = ["| package | version |", "| --- | --- |"]
    return "\n".join(lines + [f"| {name} | {version} |" for name, version in only])


def pins(name: str) -> dict[str, str]:
    """The versions of a list in requirements/ by normalised name, as this machine installs them."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    lines = (re.sub(" --hash=.*", "", line) for line in text.splitlines())
    wanted = [Requirement(line) for line in lines if not line.startswith("#")]
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in wanted
        if each.marker is None or each.marker.evaluate()
    }


def _installed(name: str, version: str) -> Distribution:
    found = distribution(name)
    if found.version.partition("+")[0] != version:
        raise RuntimeError(f"{name}: pinned is {version}, installed is {found.version}: make setup")
    return found
