"""Edits the file of `adapters_path`."""

from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from service.common.files import write_atomically
from service.common.plain_yaml import PlainDumper
from service.errors import ConfigurationError
from service.settings.adapters import AdapterList, ListedAdapter
from service.settings.load import parse_adapter_list, read_adapter_list

_LOCK_SECONDS = 10.0


def edit_list(path: Path, name: str, adapter: ListedAdapter | None) -> None:
    """Write the list with another entry of a name, or without one if `adapter` is None.

    Replicas that share the file wait for each other. Comments in the file are lost. Raises
    ConfigurationError for a file that is not valid or cannot be written. Blocks.
    """
    if path.is_dir():
        raise ConfigurationError(
            f"adapters_path: {path} is a folder: change its files, or the ConfigMap that they are"
        )
    file = path.resolve()
    try:
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=_LOCK_SECONDS):
            listed = parse_adapter_list(path, read_adapter_list(path)).adapters
            others = [each for each in listed if each.name != name]
            changed = AdapterList(adapters=(*others, *([] if adapter is None else [adapter])))
            tree = changed.model_dump(mode="json", exclude_unset=True)
            text = yaml.dump(tree, Dumper=PlainDumper, sort_keys=False)
            write_atomically(file, text.encode(), mode=file.stat().st_mode & 0o777)
    except Timeout as error:
        raise ConfigurationError(f"adapters_path: {path}: another program changes it") from error
    except OSError as error:
        raise ConfigurationError(
            f"adapters_path: {path} cannot be written ({error.strerror}): change it where it comes "
            "from, such as its ConfigMap"
        ) from error
