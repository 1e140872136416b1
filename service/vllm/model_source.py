"""Facts of vLLM's model classes, read from their source: to import one may start a GPU's driver."""

import ast
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

from vllm.model_executor.models.registry import ModelRegistry

USES = ("reads vllm.model_executor.models.registry:_LazyRegisteredModel",)


def adapts_embeddings(architecture: str) -> bool:
    """True if adapters have places for the embeddings of this architecture too.

    It is so where the class, or one that it extends, names its `embedding_modules`; True for a
    class that is not vLLM's own.
    """
    found = ModelRegistry.models.get(architecture)
    module, name = getattr(found, "module_name", None), getattr(found, "class_name", None)
    return module is None or name is None or _names_any(module, name, "embedding_modules")


@cache
def _names_any(module: str, class_name: str, attribute: str) -> bool:
    """True if a class assigns the attribute a mapping that is not empty, or inherits one."""
    spec = find_spec(module) if module.startswith("vllm.") else None
    if spec is None or spec.origin is None:
        return False
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name not in classes:
        origin = _imported(tree, module).get(class_name)
        return origin is not None and _names_any(origin, class_name, attribute)
    body = classes[class_name]
    for node in body.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            value = getattr(node, "value", None)
            return not isinstance(value, ast.Dict) or bool(value.keys)
    bases = [base.id for base in body.bases if isinstance(base, ast.Name)]
    return any(_names_any(module, base, attribute) for base in bases)


def _imported(tree: ast.Module, module: str) -> dict[str, str]:
    """Modules of names that `from ... import` brings, by name."""
    package = module.rpartition(".")[0]
    return {
        alias.name: resolve_name("." * node.level + (node.module or ""), package)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
