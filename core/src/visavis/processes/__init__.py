"""The launcher ``process``: sessions run in worker processes of this machine, each with a renderer of its own."""
