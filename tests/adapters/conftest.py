from pathlib import Path

import pytest

from service.adapters.base_model import BaseModel
from tests.adapters.samples import AdapterFolder, describe, write_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    return describe(base_folder)


@pytest.fixture
def adapter(tmp_path: Path, base: BaseModel) -> AdapterFolder:
    return AdapterFolder(tmp_path / "sentiment-folder", base)
