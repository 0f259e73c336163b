from pathlib import Path

import pytest
from pydantic import Field

from cubeprep.config import Config, ConfigError, digest, load_config, to_yaml


class Inner(Config):
    rate: float = Field(0.1, gt=0)
    names: tuple[str, ...] = ()


class Outer(Config):
    count: int
    inner: Inner = Inner()


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def test_reads_yaml_with_overrides(write) -> None:
    config = load_config(Outer, write("count: 3\ninner: {rate: 1e-3}"), ["inner.names=[a, b]", "count=4"])
    assert config == Outer(count=4, inner=Inner(rate=0.001, names=("a", "b")))


def test_names_every_mistake_at_once(write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, write("count: many\nextra: 1\ninner: {rate: -1}"), ["nonsense", "count.deep=1"])
    text = str(caught.value)
    assert len(caught.value.mistakes) == 5
    for part in (
        "count: ",
        "'many'",
        "extra: unknown key",
        "inner.rate",
        "(found -1)",
        "nonsense",
        "count holds a value",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("cuont: 3\ncount: 3", "cuont: unknown key; did you mean count?"),
        ("count: 3\ninner: {rates: 1}", "inner.rates: unknown key; did you mean rate?"),
        ("count: 3\ninner: {colour: 1}", "inner.colour: unknown key"),
        ("count: 3\nrate: 1", "rate: unknown key; did you mean inner.rate?"),
        ("count: 3\ninner: {names: [{rate: 1}]}", "inner.names.0: Input should be a valid string (found {'rate': 1})"),
    ],
)
def test_an_unknown_key_is_told_the_closest_one_of_its_section(write, text: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, write(text))
    assert caught.value.mistakes == [mistake]


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_refuses_what_is_no_mapping(write, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(Outer, write(text))


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(Outer, tmp_path / "nowhere.yaml")


def test_yaml_round_trip_keeps_the_digest(write) -> None:
    config = Outer(count=1, inner=Inner(rate=0.25, names=("x",)))
    again = load_config(Outer, write(to_yaml(config)))
    assert again == config
    assert digest(again) == digest(config) != digest(Outer(count=2))
