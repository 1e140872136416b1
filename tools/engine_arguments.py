"""The tables of vLLM's arguments in docs/settings.md, generated from the ones that are checked."""

from collections.abc import Mapping

from service.vllm.argument_checks import BY_STOCK, CONNECTORS, REFUSED, REFUSED_CONNECTORS


def arguments_table() -> str:
    """Markdown tables: arguments with a row for each answer, and connectors likewise."""
    lines = ["| argument | served by | what |", "| --- | --- | --- |"]
    lines += [
        f"| {names} | the public client | {what} |" for what, names in _by_answer(BY_STOCK).items()
    ]
    lines += [f"| {names} | none | {why} |" for why, names in _by_answer(REFUSED).items()]
    lines.append("| any other of vLLM's engine | both clients | |")
    served = ", ".join(f"`{name}`" for name in CONNECTORS)
    lines += ["", "| connector of `kv_transfer_config` | served | reason |", "| --- | --- | --- |"]
    lines.append(f"| {served} | on CUDA builds | its blocks are kept by vLLM's own hashes |")
    lines += [f"| {names} | no | {why} |" for why, names in _by_answer(REFUSED_CONNECTORS).items()]
    lines.append("| any other, and `kv_connector_module_path` | no | nobody has tried it here |")
    return "\n".join(lines)


def _by_answer(answers: Mapping[str, str]) -> dict[str, str]:
    """The names that have the same answer, in one cell."""
    found: dict[str, str] = {}
    for name, answer in answers.items():
        found[answer] = f"{found[answer]}, `{name}`" if answer in found else f"`{name}`"
    return found
