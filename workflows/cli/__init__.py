"""The ``nucleate`` command. Sub-commands import what they need when they run, so that help is instant."""
