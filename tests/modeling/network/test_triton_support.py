"""What the kernels share is defined once."""

import ast
from pathlib import Path

from modeling.network import triton_support
from modeling.network.triton_support import power_of_two


def test_sizes_are_rounded_up_to_a_power_of_two() -> None:
    assert [power_of_two(number) for number in (1, 2, 3, 16, 17)] == [1, 2, 4, 16, 32]


def test_no_other_module_looks_for_triton_or_rounds() -> None:
    sources = Path(triton_support.__file__).parents[2]
    using = {
        path.name
        for package in ("modeling", "jobs")
        for path in (sources / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("find_spec", "bit_length")
    }
    assert using == {"triton_support.py"}
