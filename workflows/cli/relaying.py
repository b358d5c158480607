"""``relay``: a way to the database for compute nodes that have none."""

from __future__ import annotations

from typing import Annotated

import typer

from workflows.cli import options, output
from workflows.cli.context import campaign_directory
from workflows.cli.errors import RefusedError


def relay(
    listen: Annotated[
        str,
        typer.Option(help="Where jobs connect; only this host itself can unless you say so.", metavar="HOST:PORT"),
    ] = "127.0.0.1:27117",
    store: Annotated[
        str | None, typer.Option("--store", help="Relay to the store of this profile.", metavar="PROFILE")
    ] = None,
    directory: options.Directory = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="Hosts that may connect, e.g. 10.1.0.0/16; may be repeated.", metavar="CIDR"),
    ] = None,
) -> None:
    """Lead compute nodes that can't reach the database to it, from a login node. Ctrl-C ends it.

    It knows no password, and TLS stays between job and database. Jobs ride through its restart, and through the
    database's.
    """
    if store is not None and directory is not None:
        raise RefusedError("give --store PROFILE or -C DIR, not both")
    found = campaign_directory(directory) if store is None else None
    import logging

    from workflows.runtime import relay as relaying
    from workflows.runtime.address import address_in, address_of, split_host_port
    from workflows.runtime.settings import EMBEDDED, load_settings

    host, port = split_host_port(listen)
    hosts = relaying.networks(allow or [])
    if store == EMBEDDED:
        raise RefusedError("the embedded server is for this host alone; relays serve a MongoDB")
    address = address_in(found) if found is not None else address_of(store or EMBEDDED, load_settings())
    for line in relaying.warnings_of(address, host, port, hosts):
        output.complain(line)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    tally = relaying.relay(
        address,
        host,
        port,
        allow=hosts,
        ready=lambda: typer.echo(f"relaying {host}:{port} to store {address.profile!r} at {address.shown}"),
    )
    output.say(
        f"stopped; {tally.opened} connections and {tally.carried_bytes / 1e6:.1f} MB went through, "
        f"{tally.refused} refused, {tally.unanswered} while the database was away"
    )
