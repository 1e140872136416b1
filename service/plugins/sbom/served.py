"""Models of a running service, as components of its bill of materials."""

from service.plugins.sbom.model import Component, adapter_component, base_component
from service.runtime.encoders import RunningEncoders
from service.runtime.running import Running


def models_served(decoder: Running | None, encoders: RunningEncoders) -> list[Component]:
    """The base model, the encoders and every served version of an adapter, in this order."""
    found = []
    if decoder is not None:
        found.append(base_component(decoder.engine.model.name, decoder.engine.model.digest))
    for each in encoders.running:
        found.append(base_component(each.engine.info.name, each.engine.info.digest))
    if decoder is not None:
        versions = sorted(decoder.fleet.registry.versions, key=lambda each: each.names)
        found += [adapter_component(each.adapter.name, each.manifest) for each in versions]
    return found
