import pytest

from benchmarks.convlstm_cases import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_kernel_makes_a_quarter_of_the_products_or_less_than_half_with_a_stride(case) -> None:
    share = case.kernel_products() / case.products()
    assert share == pytest.approx(0.25) if case.stride == 1 else 0.25 < share < 0.5
