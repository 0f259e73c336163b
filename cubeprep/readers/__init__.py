"""Readers of surveys, one module each; `docs/new-reader.md` describes how to add one."""
