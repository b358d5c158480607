"""``server``: the embedded database, for who wants to know or to stop it."""

from __future__ import annotations

import typer

from workflows.cli import options, output

app = typer.Typer(help="The embedded database server: how it is, and stopping it.", no_args_is_help=True)


@app.command()
def status(as_json: options.AsJson = False) -> None:
    """Tell how the embedded server is; it is started by whatever needs it."""
    from workflows.runtime import embedded

    found = embedded.status()
    if as_json:
        output.print_json(vars(found))
        return
    if found.running:
        output.say(f"running on 127.0.0.1:{found.port} (server {found.server}, supervisor {found.supervisor})")
    else:
        output.say(f"not running{f': {found.error}' if found.error else ''}; whatever needs it starts it")
    output.say(f"{found.label}\ndata: {found.directory}\nlog:  {found.log}")


@app.command()
def stop() -> None:
    """Stop the embedded server; running workers will start it again."""
    from workflows.runtime import embedded

    output.say("stopped" if embedded.stop() else "it was not running")
