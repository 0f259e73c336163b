"""The entry points: one module a job, run as `cubescout NAME` or `python -m jobs.NAME`."""
