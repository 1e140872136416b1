"""A Kubernetes control plane, built from Debian's source package and kept in .cache/cluster.

Debian 12 has the whole vendored tree of Kubernetes 1.20; Debian's Go builds it in about eight
minutes of CPU time. What is older than Go 1.24 allows is replaced by Debian's own packages of it.
"""

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "cluster"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
_VERSION = "v1.20.2"
_SUITE = "bookworm"
_REPLACED = ("modern-go/reflect2", "json-iterator/go")
_GOCODE = Path("/usr/share/gocode/src/github.com")
_BUILD_PACKAGES = {
    "golang-go": "go",
    "dpkg-dev": "dpkg-source",
    "golang-github-modern-go-reflect2-dev": str(_GOCODE / "modern-go/reflect2"),
    "golang-github-json-iterator-go-dev": str(_GOCODE / "json-iterator/go"),
}


def packages() -> dict[str, str]:
    """Debian's packages for the build, each with a program or file of it; none after the build."""
    return {} if all(_place(name).is_file() for name in COMMANDS) else _BUILD_PACKAGES


def binary(name: str) -> Path:
    """Path of one of COMMANDS; all are built if it is missing."""
    path = _place(name)
    if not path.is_file():
        _build(_tree())
    return path


def _place(name: str) -> Path:
    return CACHE / "bin" / name


def _tree() -> Path:
    """The source, unpacked where Go looks for it and made fit for today's Go."""
    tree = CACHE / "go" / "src" / "k8s.io" / "kubernetes"
    if not tree.is_dir():
        partial = CACHE / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        _unpack(partial)
        for name in _REPLACED:
            target = partial / "vendor" / "github.com" / name
            shutil.rmtree(target)
            shutil.copytree(_GOCODE / name, target)
        tree.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(tree)
        _generate_openapi(tree)
    return tree


def _unpack(target: Path) -> None:
    """Fetch the source package from the mirror that apt knows, by apt, checked by its signature."""
    work = CACHE / "apt"
    (work / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.pgp"
    source = f"deb-src [signed-by={keys}] {_mirror()} {_SUITE} main\n"
    (work / "sources.list").write_text(source, encoding="utf-8")
    apt = ["apt-get", "-o", f"Dir::Etc::sourcelist={work / 'sources.list'}"]
    apt += ["-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State::lists={work / 'lists'}"]
    apt += ["-o", "APT::Sandbox::User=root", "--quiet"]
    _run([*apt, "update"], work)
    _run([*apt, "source", "--download-only", "kubernetes"], work)
    (description,) = work.glob("kubernetes_*.dsc")
    _run(
        ["dpkg-source", "--no-check", "--no-copy", "--extract", str(description), str(target)], work
    )


def _mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(COMPONENT)"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in run.stdout.splitlines():
        site, _, component = line.partition(" ")
        if site.startswith("http") and component == "main":
            return site
    raise SystemExit("apt knows no mirror of Debian")


def _generate_openapi(tree: Path) -> None:
    """Write pkg/generated/openapi, as Kubernetes' own build does before it compiles."""
    generator = CACHE / "bin" / "openapi-gen"
    _go(tree, ["build", "-o", str(generator), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"])
    marked = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "+k8s:openapi-gen=", "--include=*.go", "."],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    folders = {Path(file).parent for file in marked}
    packages = sorted(name for folder in folders if (name := _package(folder)))
    _go_environment_run(
        tree,
        [
            str(generator),
            "--logtostderr",
            "--output-base",
            str(CACHE / "go" / "src"),
            "--output-package",
            "k8s.io/kubernetes/pkg/generated/openapi",
            "--output-file-base",
            "zz_generated.openapi",
            "--go-header-file",
            "hack/boilerplate/boilerplate.generatego.txt",
            "--report-filename",
            str(CACHE / "openapi-violations"),
            "--input-dirs",
            ",".join(packages),
        ],
    )


def _package(folder: Path) -> str | None:
    """The import path of a folder if the API server serves its types, else None."""
    parts = folder.parts
    if parts[:2] == ("staging", "src"):
        return "/".join(("k8s.io", "kubernetes", "vendor", *parts[2:]))
    if parts[0] in ("pkg", "cmd"):
        return "/".join(("k8s.io", "kubernetes", *parts))
    return None


def _build(tree: Path) -> None:
    # Debian's source does not say which version it is, and Helm asks the server.
    places = ("client-go/pkg/version", "component-base/version")
    versions = " ".join(
        f"-X k8s.io/kubernetes/vendor/k8s.io/{place}.gitVersion={_VERSION}" for place in places
    )
    partial = CACHE / "built"
    for folder in (partial, CACHE / "bin"):
        folder.mkdir(parents=True, exist_ok=True)
    commands = [f"./cmd/{name}" for name in COMMANDS]
    _go(tree, ["build", "-ldflags", f"-s -w {versions}", "-o", f"{partial}/", *commands])
    for name in COMMANDS:
        (partial / name).rename(_place(name))


def _go(tree: Path, arguments: list[str]) -> None:
    _go_environment_run(tree, ["go", *arguments])


def _go_environment_run(tree: Path, command: list[str]) -> None:
    environment = {
        **os.environ,
        "GOPATH": str(CACHE / "go"),
        "GOCACHE": str(CACHE / "go-cache"),
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
    }
    subprocess.run(command, cwd=tree, env=environment, check=True)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True)
