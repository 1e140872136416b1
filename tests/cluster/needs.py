"""Packages that the cluster check needs on this machine."""

from tests.cluster import binaries, control_plane, real_node, release
from tests.image.needs import building


def needed() -> dict[str, str]:
    """Debian's packages for every part that can run here, each with a program or file of it."""
    plane = binaries.packages() | control_plane.PACKAGES | release.PACKAGES
    return plane | real_node.PACKAGES | building() if real_node.possible() else plane
