"""Readers of surveys, one module each; `docs/readers.md` describes how to add one."""
