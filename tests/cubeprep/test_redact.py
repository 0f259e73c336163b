"""Canaries: what is secret in a URL is gone, and nothing else."""

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from cubeprep.cube import Rejected, Target
from cubeprep.prepare_config import GalaxyConfig
from cubeprep.redact import RedactedStream, redact, secret_keys
from cubeprep.shard import extract_galaxy
from cubeprep.store import FLUX_UNIT
from cubeprep.velocity import VelocityConfig
from cubeprep.windows import WindowConfig
from tests.cubeprep.test_windows import WAVE, ArrayArm

CANARY = "cAnArY"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"http://user:{CANARY}@host:5000", "http://host:5000"),
        (f"https://{CANARY}@host/path", "https://host/path"),
        (f"http://user:p/{CANARY}@host/x", "http://host/x"),
        (f"http://user:p@{CANARY}@host/x", "http://host/x"),
        (f"http://user:p'{CANARY}@host", "http://host"),
        (f"http://us%40er:{CANARY}%2F@host", "http://host"),
        (f"http://:{CANARY}@[::1]:5000/", "http://[::1]:5000/"),
        (f"postgresql+psycopg2://user:{CANARY}@host/db", "postgresql+psycopg2://host/db"),
        (f"s3://key:{CANARY}/x+y@bucket/path", "s3://bucket/path"),
        (f"http://host/x?password={CANARY}", "http://host/x?password=***"),
        (f"http://host/x?a=1&token={CANARY}&b=2", "http://host/x?a=1&token=***&b=2"),
        (f"http://host/x?a=1&amp;token={CANARY}", "http://host/x?a=1&amp;token=***"),
        (f"http://host:1/#token={CANARY}", "http://host:1/#token=***"),
        (
            f"https://b.s3.amazonaws.com/k?X-Amz-Signature={CANARY}&X-Amz-Date=1",
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&X-Amz-Date=1",
        ),
        (
            f"https://h/k?AWSAccessKeyId={CANARY}&Signature={CANARY}&Expires=1",
            "https://h/k?AWSAccessKeyId=***&Signature=***&Expires=1",
        ),
        (f"https://h/k?sv=2024&sig={CANARY}", "https://h/k?sv=2024&sig=***"),
        (f"https://h/k?x-goog-credential={CANARY}", "https://h/k?x-goog-credential=***"),
        (f"HTTP://user:{CANARY}@HOST", "HTTP://HOST"),
    ],
)
def test_what_is_secret_is_gone(url: str, shown: str) -> None:
    assert redact(url) == shown
    for text in (f"no answer from {url}: refused", repr(f"{url}"), json.dumps({"uri": url, "z": "a@b"}), f"({url})"):
        assert CANARY not in redact(text)
    assert json.loads(redact(json.dumps({"uri": url, "z": "a@b"})))["z"] == "a@b"
    assert yaml.safe_load(redact(yaml.safe_dump({"uri": url, "z": 1})))["z"] == 1
    assert secret_keys({"a": {"b": url, "c": "x"}}) == ["a.b"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"redis://:{CANARY}/x@host", "redis://host"),
        (f"exceeded with url: /x?X-Amz-Signature={CANARY}", "exceeded with url: /x?X-Amz-Signature=***"),
        (f"https://host/x?sas={CANARY}&a[token]={CANARY}", "https://host/x?sas=***&a[token]=***"),
        (f"Authorization: Bearer {CANARY}", "Authorization: Bearer ***"),
        (f"{{'key': 'a', 'secret': '{CANARY}'}}", "{'key': 'a', 'secret': '***'}"),
        (f"AWS_SECRET_ACCESS_KEY={CANARY} AccountKey={CANARY};", "AWS_SECRET_ACCESS_KEY=*** AccountKey=***;"),
        (100_000 * "a" + "://" + 20_000 * "?pass", 100_000 * "a" + "://" + 20_000 * "?pass"),  # in no long time
    ],
)
def test_secrets_outside_urls_and_long_texts_without_any_are_redacted_too(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_lines_written_at_once_are_redacted_together() -> None:
    stream = io.StringIO()
    RedactedStream(stream).writelines(["http://me:", CANARY, "@host\n"])
    assert stream.getvalue() == "http://host\n"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000",
        "s3://bucket/path@v1/x",
        "sqlite:////runs/x&y=z;a+b@c:d/mlflow.db",
        "sqlite:///C:/runs@home/mlflow.db",
        "https://host/x?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
        "mail a@b.example, see https://host/x",
        "the password is long",
        "score key=3 and RAY_AUTH_MODE=token",
        "/path#galaxy/8485-1901",
        "models:/cubescout@champion",
    ],
)
def test_all_else_is_as_it_was(text: str) -> None:
    assert redact(text) == text


def test_output_logs_and_tracebacks_of_a_process_are_redacted() -> None:
    url = f"http://user:{CANARY}@host/?token={CANARY}"
    code = f"""
import logging, sys, click
from cubeprep.redact import redacted_output
with redacted_output():
    logging.basicConfig()
    print({url!r}, file=sys.stderr)
    click.echo({url!r}); click.echo({url!r}, err=True)
    logging.getLogger("x").warning("at %s", {url!r})
    from jobs.console.progress import console
    console.print({url!r})
    raise RuntimeError({url!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert CANARY not in done.stdout + done.stderr
    assert done.stdout.count("http://host/?token=***") == 2
    assert done.stderr.count("http://host/?token=***") >= 4
    assert "RuntimeError" in done.stderr


def test_why_a_galaxy_has_no_velocities_is_recorded_without_the_password() -> None:
    class Reader:
        grid = "cube"
        facts = SimpleNamespace(flux_unit=FLUX_UNIT)

        def open(self, target: Target) -> list[ArrayArm]:
            return [ArrayArm(WAVE, np.full(len(WAVE), 5.0))]

        def velocity(self, *arguments: object) -> None:
            raise Rejected("no_maps", f"https://me:{CANARY}@host/dap: no MAPS")

    windows = WindowConfig(lines=("Ha-6564",), num_samples=8, size=8)
    velocity = VelocityConfig(correct=True, missing="uncorrected")
    target = Target("1-2", "1-2", 0.03, 180.0, 10.0, (f"https://me:{CANARY}@host/cube.fits",), 2.5)
    config = GalaxyConfig(windows=windows, velocity=velocity, checksum="none")
    outcome, _, _ = extract_galaxy(Reader(), target, config)
    assert outcome.velocity == "no_maps: https://host/dap: no MAPS"
    assert CANARY not in str(outcome)
