"""Serve a language model with adapters, and encoders; make, measure and manage these models."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from typer.core import TyperGroup

from service.common.command_line import one_message, quiet_engine
from service.common.plain_yaml import PlainDumper

if TYPE_CHECKING:
    from service.settings.tree import Settings


class _Commands(TyperGroup):
    """The commands beside `serve`, imported when one of them or the help is asked for.

    The engine's processes begin to start when this module and the settings are imported.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        self._import()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._import()
        return super().get_command(ctx, cmd_name)

    def _import(self) -> None:
        from service.cli.adapters import app as adapters
        from service.cli.keys import app as keys
        from service.cli.model import app as model
        from service.common.entry_points import load_group

        others = typer.Typer()
        own = {"model": model, "adapters": adapters, "keys": keys}
        for name, command in (own | load_group("llm_service.commands")).items():
            if isinstance(command, typer.Typer):
                others.add_typer(command, name=name)
            else:
                others.command(name)(command)
        group = typer.main.get_command(others)
        assert isinstance(group, TyperGroup)
        self.commands = {**self.commands, **group.commands}


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file; LLM_SERVICE_* variables override it. Without it a demo model, which pip "
        "fetches, is served with the defaults.",
    ),
]


@app.callback()
def _command() -> None:
    """With one command of its own, Typer would make no group of the app."""


@app.command()
def serve(
    config: ConfigOption = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Validate, estimate the memory, print the effective configuration, exit.",
        ),
    ] = False,
) -> None:
    """Serve the configured model, adapters and encoders over HTTP.

    Before the engine starts, and with --check, the memory of weights, adapters and KV cache is
    estimated from config.json and the headers of the weights. What cannot fit is refused, with the
    figures and the setting to change. --check prints the figures to stderr.

    Exit codes: 0 stopped as asked, 2 the configuration, a key, an adapter or a port cannot be used,
    3 the start failed for another reason or the engine ended, 130 and 143 a signal ended the start.

    Example: llm-service serve --config config.yaml
    """
    from service.common import gc_tuning

    if not check:
        gc_tuning.pause()
    from service.settings.load import load_settings, mask_all

    with one_message():
        if config is None:
            from service.cli.default import default_config

            config = default_config()
        settings = load_settings(config)
        if check:
            quiet_engine()
            typer.echo(_check(settings), err=True)
            typer.echo(yaml.dump(mask_all(settings), Dumper=PlainDumper, sort_keys=False), nl=False)
            return
        from service.telemetry.logs import configure_logging
        from service.vllm.cpu.forkserver import begin_seed

        configure_logging(settings.log)
        begin_seed(settings)
        from service.app import run

        run(settings, partial(load_settings, config))


def _check(settings: "Settings") -> str:
    """Figures of the memory; raises ConfigurationError for what cannot be used."""
    from prometheus_client import CollectorRegistry

    from service.admission.shared import check_storage
    from service.telemetry.lifecycle import TenantMetrics
    from service.tenants.tenancy import Tenancy
    from service.vllm.start import check_engines

    Tenancy(settings, TenantMetrics(CollectorRegistry()))
    check_storage(settings.admission)
    return check_engines(settings)


if __name__ == "__main__":
    app()
