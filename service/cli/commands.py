"""The commands beside `serve`: the service's own, and those of plugins and installed packages."""

import typer

from service.cli.adapters import app as adapters_app
from service.cli.keys import app as keys_app
from service.cli.model import app as model_app
from service.common.entry_points import load_group

app = typer.Typer()
app.add_typer(model_app, name="model")
app.add_typer(adapters_app, name="adapters")
app.add_typer(keys_app, name="keys")
for name, command in load_group("llm_service.commands").items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)
