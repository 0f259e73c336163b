"""The extraction benchmark runs `prepare` on workers of its own."""

import pytest

from benchmarks.extract import survey_cost, workers, write_cube, write_links


@pytest.mark.slow
def test_a_survey_is_prepared_on_workers_that_already_run(tmp_path):
    (tmp_path / "cube").mkdir()
    (tmp_path / "links").mkdir()
    survey = write_links(tmp_path / "links", write_cube(tmp_path / "cube", 6), 2)
    with workers(1) as config:
        seconds, own_cpu, gateway_cpu = survey_cost(config, survey, str(tmp_path / "store"))
    assert seconds > 0
    assert own_cpu >= 0
    assert gateway_cpu == 0
