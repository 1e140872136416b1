from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from service.models.tensors import MalformedSafetensors, TensorInfo, read_header
from tests.adapters.samples import raw_safetensors

TENSORS: dict[str, "np.ndarray[Any, Any]"] = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.ones((4,), np.float16),
    "scalar": np.array(3, np.int64),
    "empty": np.zeros((0, 5), np.float32),
}
FILE = save(TENSORS, metadata={"format": "np"})


def test_every_tensor_is_found_where_it_lies(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x", metadata={"format": "np"})
    raw = (tmp_path / "x").read_bytes()
    header = read_header(tmp_path / "x")

    assert {name: info.shape for name, info in header.items()} == {
        name: tensor.shape for name, tensor in TENSORS.items()
    }
    for name, tensor in TENSORS.items():
        assert raw[header[name].start : header[name].end] == tensor.tobytes()


def test_padding_after_the_json_is_allowed(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}     '
    (tmp_path / "x").write_bytes(raw_safetensors(header, b"\x00\x00"))

    start = 8 + len(header)
    info = TensorInfo(tmp_path / "x", "BF16", (1,), start, start + 2)
    assert read_header(tmp_path / "x") == {"a": info}


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 1408 + (1 << 16)])
def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    header = b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}'.ljust(length)
    (tmp_path / "x").write_bytes(raw_safetensors(header, b"\x00\x00"))
    assert read_header(tmp_path / "x").keys() == {"a"}


def test_the_limit_is_on_the_header_not_on_the_file(tmp_path: Path) -> None:
    save_file({"a": np.zeros(10_000, np.float32)}, tmp_path / "x")

    assert read_header(tmp_path / "x", max_header_bytes=100)
    with pytest.raises(MalformedSafetensors, match="header is too large: expected at most 10"):
        read_header(tmp_path / "x", max_header_bytes=10)


@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_no_edit_ends_in_another_exception_or_in_what_safetensors_itself_refuses(
    tmp_path: Path, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(FILE)))
    end = data.draw(st.integers(start, min(start + 16, len(FILE))))
    path = tmp_path / "x"
    path.write_bytes(FILE[:start] + data.draw(st.binary(max_size=16)) + FILE[end:])
    try:
        found = read_header(path)
    except MalformedSafetensors:
        return
    try:
        with safe_open(path, framework="np") as theirs:
            assert set(theirs.keys()) == set(found)
    except SafetensorError as error:
        pytest.fail(f"accepted what safetensors refuses: {error}")
