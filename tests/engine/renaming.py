"""Another vLLM: a field of its messages has another name, everywhere in vLLM.

Python runs a `sitecustomize` of the first folder on PYTHONPATH at its start, in each of the
engine's processes too. This one compiles vLLM's modules from sources in which the name is another.
"""

from pathlib import Path

_CODE = """\
import importlib.machinery
import re
import sys

OLD, NEW = re.compile(r"\\b{old}\\b"), "{new}"


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        path = self.get_filename(fullname)
        source = self.get_data(path).decode()
        return self.source_to_code(OLD.sub(NEW, source), path)


class Finder:
    def find_spec(self, name, path=None, target=None):
        if not name.startswith("vllm."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            if OLD.search(open(spec.loader.path, encoding="utf-8").read()):
                spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, Finder())
"""


def write_renaming(folder: Path, field: str) -> Path:
    """Write the `sitecustomize` that renames a field; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    code = _CODE.replace("{old}", field).replace("{new}", f"renamed_{field}")
    (folder / "sitecustomize.py").write_text(code)
    return folder
