"""Promotion where the registry fails; comparisons are in `test_reproduce`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import cli
from jobs.console import command
from jobs.promote import _kind
from modeling.network.config import ModelConfig
from modeling.network.make import make_network
from tests.mlflow_stub import mlflow_stub

CANARY = "cAnArY"
VERSION = {"model_version": {"name": "cubescout", "version": "2", "creation_timestamp": 0}}
GET, SET = "GET registered-models/alias", "POST registered-models/alias"
CANDIDATE = {
    "GET model-versions/get": (200, VERSION),
    "GET registered-models/get": (200, {"registered_model": {"name": "cubescout"}}),  # asked for before an alias is set
    SET: (200, {}),
}


def promote(folder: Path, uri: str) -> tuple[int, str]:
    settings = [f"--set=workspace={folder}", f"--set=tracking.uri={uri}"]
    result = CliRunner().invoke(cli.main, ["promote", "cubescout/2", "demo", *settings])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (503, "<html> <h1>Service Unavailable</h1> </html>"),
        (403, "Permission denied"),
        (500, {"error_code": "INTERNAL_ERROR", "message": f"postgresql://mlflow:{CANARY}@db/x is locked"}),
    ],
)
def test_a_champion_that_cannot_be_looked_up_is_not_replaced(status: int, content: object, tmp_path: Path) -> None:
    with mlflow_stub(CANDIDATE | {GET: (status, content)}, user=f"me:{CANARY}") as (uri, requests):
        code, text = promote(tmp_path, uri)
    assert code == command.EXIT_FAILED, text
    where = uri.rpartition("@")[2]
    assert text.startswith(f"cubescout: http://{where} (tracking.uri): cannot get model version by alias: ")
    assert CANARY not in text
    assert GET in requests
    assert SET not in requests


def test_networks_tested_on_other_samples_are_of_other_kinds() -> None:
    shape, names = (2, 4, 8), ["Hb-4862", "Ha-6564"]
    small = {"latent_dim": 2, "context_channels": 8, "step_channels": 2, "lstm_channels": 2, "decoder_channels": 2}
    kinds = [
        _kind(make_network(ModelConfig.model_validate(small | values), shape, names, seed=0))
        for values in ({"kind": "masked", "hidden_side": 5}, {"kind": "masked", "hidden_side": 3}, {"kind": "ae"})
    ]
    assert len(set(kinds)) == 3
    assert kinds[0].endswith(" with hidden squares of 5 spaxels")


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_without_a_champion_the_candidate_becomes_it(code: str, tmp_path: Path) -> None:
    absent = {"error_code": code, "message": "Registered model alias champion not found."}
    with mlflow_stub(CANDIDATE | {GET: (400, absent)}) as (uri, requests):
        exit_code, text = promote(tmp_path, uri)
    assert exit_code == 0, text
    assert "cubescout has no champion to compare with" in text
    assert SET in requests
