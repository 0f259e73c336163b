"""One module a survey; `docs/readers.md` says how to add one."""
