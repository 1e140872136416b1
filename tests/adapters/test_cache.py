"""The cache over real sources: a folder, an HTTPS server, an S3 server, the Hub's protocol."""

import logging
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest
from filelock import FileLock

from loadtests.processes import PATIENCE_S
from service.adapters.cache import AdapterCache, CachedAdapter
from service.adapters.formats import AdapterRefused
from service.adapters.manifest_yaml import load_manifest
from service.adapters.verify import verify
from service.errors import ConfigurationError
from service.models.base_model import ServedBase
from service.sources.source import SourceMissing, SourceUnreachable
from tests.adapters.samples import AdapterFolder
from tests.sources.servers import (
    FileServer,
    s3_bucket,
    serve_https,
    serve_hub,
    write_certificate,
)

WEIGHTS = "adapter_model.safetensors"
BLOCK = 256


@pytest.fixture
def cache(tmp_path: Path) -> AdapterCache:
    return AdapterCache(tmp_path / "cache", block_bytes=BLOCK)


@pytest.fixture
def web(
    adapter: AdapterFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FileServer]:
    certificate = write_certificate(tmp_path / "server.pem")
    # For processes started here, and for this one, whose client has read its store already.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trust = {"ssl": ssl.create_default_context(cafile=str(certificate))}
    monkeypatch.setitem(fsspec.config.conf, "https", trust)
    adapter.save()
    with serve_https(adapter.path, certificate) as server:
        yield server


def test_a_cache_that_cannot_be_written_is_named(adapter: AdapterFolder, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    cache = AdapterCache(tmp_path / "cache")

    with pytest.raises(ConfigurationError, match=r"sentiment: adapter_cache\.path .* be used: "):
        cache.resolve(str(adapter.save().path))


@pytest.fixture
def bucket(adapter: AdapterFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on a real S3 server that holds the adapter below adapters/tone."""
    with s3_bucket(adapter.save().path, "adapters/tone", monkeypatch):
        yield "s3://models/adapters/tone"


def partials(cache: Path) -> list[Path]:
    return [path for path in cache.glob("partial/*/*") if path.is_file()]


def test_a_local_folder_is_copied_so_that_later_edits_do_not_reach_the_engine(
    adapter: AdapterFolder, base: ServedBase, cache: AdapterCache
) -> None:
    first = cache.resolve(str(adapter.save().path))
    (adapter.path / WEIGHTS).write_bytes(b"edited")

    assert verify(first.folder, base).digest == first.manifest.digest
    assert first.folder == cache.entries()[0]
    assert first.folder.name == first.manifest.digest.removeprefix("sha256:")


def test_a_file_uri_is_the_same_folder(adapter: AdapterFolder, cache: AdapterCache) -> None:
    by_path = cache.resolve(str(adapter.save().path))

    assert cache.resolve(f"file://{adapter.path}").folder == by_path.folder


def test_a_local_folder_with_an_unlisted_pickle_is_refused(
    adapter: AdapterFolder, cache: AdapterCache
) -> None:
    (adapter.save().path / "adapter_model.bin").write_bytes(b"x")

    with pytest.raises(AdapterRefused, match="may hold a pickle"):
        cache.resolve(str(adapter.path))
    assert cache.entries() == []


def test_a_new_version_gets_a_new_entry_beside_the_old(
    adapter: AdapterFolder, cache: AdapterCache
) -> None:
    old = cache.resolve(str(adapter.save().path))
    adapter.manifest["version"] = "1.3.0"
    new = cache.resolve(str(adapter.write_manifest().path))

    assert new.manifest.version == "1.3.0"
    assert cache.entries() == sorted([old.folder, new.folder])


def test_s3(bucket: str, base: ServedBase, cache: AdapterCache) -> None:
    found = cache.resolve(bucket)

    assert verify(found.folder, base).manifest.name == "sentiment"


def test_s3_without_the_adapter(bucket: str, cache: AdapterCache) -> None:
    with pytest.raises(SourceMissing, match=r"s3://models/none: expected adapter\.yaml"):
        cache.resolve("s3://models/none")


def test_https(web: FileServer, base: ServedBase, cache: AdapterCache) -> None:
    found = cache.resolve(web.url)

    assert verify(found.folder, base).manifest.name == "sentiment"


def test_https_with_a_server_that_has_no_ranges(
    web: FileServer, base: ServedBase, cache: AdapterCache, tmp_path: Path
) -> None:
    web.ranges = False
    web.broken_from[WEIGHTS] = 0
    with pytest.raises(SourceUnreachable):
        cache.resolve(web.url)
    for part in (tmp_path / "cache").glob(f"partial/*/{WEIGHTS}.part"):
        part.write_bytes(b"cannot be continued")
    web.broken_from.clear()

    assert verify(cache.resolve(web.url).folder, base)


def test_https_with_a_server_that_does_not_say_how_long_its_files_are(
    web: FileServer, adapter: AdapterFolder, base: ServedBase, cache: AdapterCache
) -> None:
    web.ranges, web.chunked = False, True
    cached = cache.resolve(web.url)
    assert cached.manifest.digest == load_manifest(adapter.path).digest
    verify(cached.folder, base)


def test_the_hub_by_tag_and_commit(
    adapter: AdapterFolder, base: ServedBase, tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from service.adapters.cache import AdapterCache;"
        "print(AdapterCache(Path(sys.argv[1])).resolve(sys.argv[2]).folder)"
    )

    def resolve(revision: str, endpoint: str) -> "subprocess.CompletedProcess[str]":
        # A process of its own: huggingface_hub reads HF_ENDPOINT when it is imported.
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "cache"), f"hf://acme/tone@{revision}"],
            env={"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
            check=False,
        )

    with serve_hub(adapter.save().path) as hub:
        tag, commit, unknown = (resolve(name, hub.url) for name in ("v1", "c" * 40, "v2"))
    offline = resolve("c" * 40, "http://127.0.0.1:9")

    assert tag.returncode == 0, tag.stderr
    assert verify(Path(tag.stdout.strip()), base).manifest.name == "sentiment"
    assert commit.stdout == offline.stdout == tag.stdout
    assert "using what it held last" not in offline.stderr
    # The commit's entry was there already, under its digest.
    assert [name for name, _ in hub.fetched].count("adapter_model.safetensors") == 1
    assert "SourceMissing: hf://acme/tone@v2: expected adapter.yaml" in unknown.stderr


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    web: FileServer, base: ServedBase, cache: AdapterCache, tmp_path: Path
) -> None:
    size = (web.folder / WEIGHTS).stat().st_size
    web.broken_from[WEIGHTS] = size // 2
    with pytest.raises(SourceUnreachable, match=WEIGHTS):
        cache.resolve(web.url)
    part = next(path for path in partials(tmp_path / "cache") if path.name == f"{WEIGHTS}.part")
    held = part.stat().st_size
    assert 0 < held <= size // 2
    assert cache.entries() == []

    before = list(web.fetched)
    web.broken_from.clear()
    found = cache.resolve(web.url)

    assert verify(found.folder, base)
    again = web.fetched[len(before) :]
    assert [start for name, start in again if name == WEIGHTS and start < held] == []
    # The files that were whole are not fetched again at all.
    assert "adapter_config.json" not in {name for name, _ in again}
    assert partials(tmp_path / "cache") == []


def test_a_stale_part_is_thrown_away(
    web: FileServer, base: ServedBase, cache: AdapterCache, tmp_path: Path
) -> None:
    digest = load_manifest(web.folder).digest.removeprefix("sha256:")
    partial = tmp_path / "cache" / "partial" / digest
    partial.mkdir(parents=True)
    (partial / f"{WEIGHTS}.part").write_bytes(b"of another time")

    assert verify(cache.resolve(web.url).folder, base)


def test_bytes_that_are_not_the_manifests_are_refused_and_not_kept(
    web: FileServer, cache: AdapterCache, tmp_path: Path
) -> None:
    (web.folder / WEIGHTS).write_bytes(b"something else")

    with pytest.raises(AdapterRefused, match="digest differs at its source"):
        cache.resolve(web.url)
    assert cache.entries() == []
    assert f"{WEIGHTS}.part" not in {path.name for path in partials(tmp_path / "cache")}


def test_an_adapter_over_the_size_limit_is_refused_before_it_fills_the_disk(
    web: FileServer, tmp_path: Path
) -> None:
    limit = 3 * BLOCK
    small = AdapterCache(tmp_path / "small", max_bytes=limit, block_bytes=BLOCK)
    (web.folder / WEIGHTS).write_bytes(bytes(100 * BLOCK))

    with pytest.raises(AdapterRefused, match="too large together"):
        small.resolve(web.url)
    assert sum(path.stat().st_size for path in partials(tmp_path / "small")) <= limit


def test_a_source_that_cannot_be_reached_leaves_what_it_held_last(
    web: FileServer, cache: AdapterCache, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = cache.resolve(web.url)
    web.status = 503
    with caplog.at_level(logging.WARNING, logger="service.adapters.cache"):
        found = cache.resolve(web.url)

    assert found.folder == fresh.folder
    assert "using what it held last" in caplog.text


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_source_that_no_longer_gives_the_adapter_is_believed(
    web: FileServer, cache: AdapterCache, status: int
) -> None:
    cache.resolve(web.url)
    web.status = status

    with pytest.raises(SourceMissing, match=r"expected adapter\.yaml"):
        cache.resolve(web.url)


def test_offline_and_pinned_adapters_ask_nobody(web: FileServer, cache: AdapterCache) -> None:
    with pytest.raises(SourceUnreachable, match="offline, and the cache does not hold it"):
        cache.resolve(web.url, offline=True)
    found = cache.resolve(web.url)
    asked = list(web.fetched)

    assert cache.resolve(web.url, offline=True) == found
    assert cache.resolve(web.url, digest=found.manifest.digest) == found
    assert cache.resolve("https://gone.invalid/x", digest=found.manifest.digest) == found
    assert web.fetched == asked


def test_a_source_that_moved_on_from_the_pinned_digest_is_refused(
    adapter: AdapterFolder, cache: AdapterCache
) -> None:
    pinned = "sha256:" + "0" * 64

    with pytest.raises(AdapterRefused, match=f"is not the pinned one: expected {pinned}"):
        cache.resolve(str(adapter.save().path), digest=pinned)


@pytest.mark.parametrize("digest", ["sha256:../../etc", "latest", "sha256:" + "A" * 64])
def test_a_digest_is_never_a_path(adapter: AdapterFolder, cache: AdapterCache, digest: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected digest sha256:<64 hex>"):
        cache.resolve(str(adapter.save().path), digest=digest)


def test_a_damaged_entry_is_fetched_again(
    web: FileServer, base: ServedBase, cache: AdapterCache
) -> None:
    entry = cache.resolve(web.url).folder
    (entry / WEIGHTS).write_bytes(b"rot")

    assert verify(cache.resolve(web.url).folder, base).folder == entry
    shutil.rmtree(entry)
    with pytest.raises(SourceUnreachable, match="offline"):
        cache.resolve(web.url, offline=True)


def test_what_a_killed_fetch_left_beside_the_files_does_not_become_part_of_the_entry(
    web: FileServer, base: ServedBase, cache: AdapterCache, tmp_path: Path
) -> None:
    cached = cache.resolve(web.url)
    partial = tmp_path / "cache" / "partial" / cached.folder.name
    cached.folder.rename(partial)
    (partial / ".adapter.yaml.abcd").write_bytes(b"half")
    verify(cache.resolve(web.url).folder, base)
    (cached.folder / "stray.txt").write_bytes(b"x")
    verify(cache.resolve(web.url).folder, base)


def test_two_processes_share_one_fetch(base: ServedBase, web: FileServer, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from service.adapters.cache import AdapterCache;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(AdapterCache(Path(sys.argv[1]), block_bytes=512).resolve(sys.argv[2]).folder)"
    )
    with ExitStack() as running:
        racers = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script, str(tmp_path / "cache"), web.url],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = []
        for racer in racers:
            out, errors = racer.communicate(timeout=PATIENCE_S)
            assert racer.returncode == 0, errors
            answers.append(Path(out.strip()))

    assert answers[0] == answers[1]
    assert verify(answers[0], base)
    assert list((tmp_path / "cache" / "entries").iterdir()) == [answers[0]]
    assert partials(tmp_path / "cache") == []
    # Every block of the weights came over the wire once, although both asked for them.
    starts = [start for name, start in web.fetched if name == WEIGHTS]
    assert len(starts) == len(set(starts)) > 1


def test_a_lock_that_another_process_keeps_is_named_after_a_while(
    adapter: AdapterFolder, tmp_path: Path
) -> None:
    impatient = AdapterCache(tmp_path / "cache", lock_timeout=0.05)
    digest = load_manifest(adapter.save().path).digest.removeprefix("sha256:")
    lock = tmp_path / "cache" / "locks" / f"{digest}.lock"
    lock.parent.mkdir(parents=True)

    with (
        FileLock(lock),
        pytest.raises(ConfigurationError, match=r"sentiment: another process .* for 0\.05 s"),
    ):
        impatient.resolve(str(adapter.path))
    assert impatient.resolve(str(adapter.path)).manifest.name == "sentiment"


def two_versions(
    cache: AdapterCache, adapter: AdapterFolder
) -> tuple[CachedAdapter, CachedAdapter]:
    old = cache.resolve(str(adapter.save().path))
    adapter.manifest["version"] = "1.3.0"
    return old, cache.resolve(str(adapter.write_manifest().path))


def test_an_entry_that_is_given_up_is_removed_and_fetched_again_when_needed(
    adapter: AdapterFolder, base: ServedBase, cache: AdapterCache
) -> None:
    old, new = two_versions(cache, adapter)

    cache.prune({old.manifest.digest, new.manifest.digest}, 0)
    assert len(cache.entries()) == 2
    cache.prune({new.manifest.digest}, 0)
    assert cache.entries() == [new.folder]
    adapter.manifest["version"] = "1.2.0"
    assert verify(cache.resolve(str(adapter.save().path)).folder, base).digest == (
        old.manifest.digest
    )


def test_an_entry_stays_for_as_long_as_it_may_lie_unused(
    adapter: AdapterFolder, cache: AdapterCache, tmp_path: Path
) -> None:
    old, new = two_versions(cache, adapter)

    cache.prune({new.manifest.digest}, 3600)
    assert len(cache.entries()) == 2
    os.utime(tmp_path / "cache" / "uses" / old.folder.name, (0, 0))
    cache.prune({new.manifest.digest}, 3600)
    assert cache.entries() == [new.folder]


def test_an_entry_that_another_process_uses_stays_until_it_ends(
    adapter: AdapterFolder, cache: AdapterCache, tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from service.adapters.cache import AdapterCache;"
        "cache = AdapterCache(Path(sys.argv[1])); cache.resolve(sys.argv[2]);"
        "print('ready', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), str(adapter.save().path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        cache.prune((), 0)
        assert len(cache.entries()) == 1
        user.communicate("\n", timeout=PATIENCE_S)
    cache.prune((), 0)
    assert cache.entries() == []


def test_a_download_that_broke_off_is_removed_too(cache: AdapterCache, tmp_path: Path) -> None:
    partial = tmp_path / "cache" / "partial" / ("0" * 64)
    partial.mkdir(parents=True)
    (tmp_path / "cache" / "uses").mkdir()
    (partial / WEIGHTS).write_bytes(b"x")

    cache.prune((), 3600)
    assert partial.exists()
    cache.prune((), 0)
    assert not partial.exists()


def test_a_cache_that_nobody_may_write_is_read_and_never_pruned(
    adapter: AdapterFolder, cache: AdapterCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = cache.resolve(str(adapter.save().path))
    shutil.rmtree(tmp_path / "cache" / "uses")
    (tmp_path / "cache" / "uses").write_text("no folder")
    other = AdapterCache(tmp_path / "cache")

    assert other.resolve(str(adapter.path), digest=held.manifest.digest).folder == held.folder
    other.prune((), 0)
    assert other.entries() == [held.folder]
    assert "stays: " in caplog.text
