"""Runs the benchmarks that need no GPU, one after the other."""

import runpy

for name in ("extract", "simulate", "convlstm", "loader", "search"):
    print(f"== benchmarks.{name}")
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
