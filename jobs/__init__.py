"""The commands: one module each, run as `cubescout NAME` or `python -m jobs.NAME`."""
