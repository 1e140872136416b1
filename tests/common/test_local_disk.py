"""Folders on a disk of this machine, and those that are on none."""

from pathlib import Path

import pytest

from service.common.files import file_system, make_local
from service.errors import ConfigurationError

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /mnt rw,relatime shared:1 - tmpfs tmpfs rw
31 30 0:41 / /mnt/some\\040share rw,relatime - nfs4 server:/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/batches", "ext4"),
        ("/mnt", "tmpfs"),
        ("/mnt/someone", "tmpfs"),
        ("/mnt/some share/batches", "nfs4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system(Path(path), mounts) == kind


def test_a_network_share_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.common.files.file_system", lambda path: "nfs4")
    with pytest.raises(ConfigurationError, match=r"batches\.path: .* system \(nfs4\)"):
        make_local("batches.path", tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"batches\.path: .*Not a directory"):
        make_local("batches.path", tmp_path / "file" / "x")
