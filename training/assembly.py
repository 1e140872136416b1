"""A finished adapter moved to its place: completely or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.adapters.folder import list_files
from service.common.files import sync
from service.errors import ConfigurationError


@contextmanager
def beside(output: Path) -> Iterator[Path]:
    """A folder next to `output` that replaces it when the block succeeds.

    If the block fails the folder is removed and `output` is unchanged. Only a crash between two
    renames leaves no `output`; none leaves a part of one. A full disk is reported as
    ConfigurationError.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.partial-"))
    try:
        yield partial
        partial.chmod(0o755)
        for name in list_files(partial.name, partial):
            sync(partial / name)
        replaced = partial.with_name(f"{partial.name}.replaced")
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(f"output: {output.name} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
