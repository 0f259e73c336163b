import shlex
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from cubeprep.config import Config, ConfigError, digest, load_config, to_yaml


class Inner(Config):
    rate: float = Field(0.1, gt=0)
    names: tuple[str, ...] = ()
    title: str | None = None
    fast: bool | Literal["auto"] = "auto"


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
        ("count: 3\ninner: {colour: 1}", "inner.colour: unknown key; known are rate, names, title, fast"),
        ("count: 3\nrate: 1", "rate: unknown key; did you mean inner.rate?"),
        ("count: 3\ninner: {rate: abc}", "inner.rate: expected a number (found 'abc')"),
        ("count: 3\ninner: {rate: [1]}", "inner.rate: expected a number (found [1])"),
        ("count: many", "count: expected a whole number (found 'many')"),
        ("count: 3.5", "count: expected a whole number (found 3.5)"),
        ("count: 3\ninner: {names: [{rate: 1}]}", "inner.names.0: expected a text (found {'rate': 1})"),
        ("count: 3\ninner: {fast: maybe}", "inner.fast: expected true or false, or 'auto' (found 'maybe')"),
        ("count: 3\ninner: [1]", "inner: expected a section (found [1])"),
        ("count: 3\ninner: {rate: -1}", "inner.rate: must be greater than 0 (found -1)"),
    ],
)
def test_a_mistake_is_told_with_the_closest_key_or_the_expected_kind(write, text: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, write(text))
    assert caught.value.mistakes == [mistake]


TEXT, LIST = "expected a text", "expected a list"


@pytest.mark.parametrize(
    ("item", "example"),
    [
        ("inner.names=[41144]", f"""inner.names.0: {TEXT} (found 41144); for example --set 'inner.names=["41144"]'"""),
        ("inner.names=41144", f"""inner.names: {LIST} (found 41144); for example --set 'inner.names=["41144"]'"""),
        ("inner.names=8000-1", f"""inner.names: {LIST} (found '8000-1'); for example --set 'inner.names=[8000-1]'"""),
        ("inner.title=1.5", f"""inner.title: {TEXT} (found 1.5); for example --set 'inner.title="1.5"'"""),
    ],
)
def test_a_name_that_yaml_takes_for_a_number_is_shown_in_quotes(write, item: str, example: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, write("count: 3"), [item])
    assert caught.value.mistakes == [f"--set {example}"]
    load_config(Outer, write("count: 3"), shlex.split(example.partition("--set ")[2]))


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_refuses_what_is_no_mapping(write, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(Outer, write(text))


@pytest.mark.parametrize("text", ["count: 3\ncount: 4", "count: 3\ninner: {rate: 1}\ninner: {side: 2}"])
def test_refuses_a_key_that_is_there_twice(write, text: str) -> None:
    with pytest.raises(ConfigError, match=r"(count|inner) is there twice in line [23]"):
        load_config(Outer, write(text))
    base = "a: &a {rate: 1}\n"
    with pytest.raises(ConfigError, match=r"a: unknown key"):  # keys that are merged may be replaced
        load_config(Outer, write(base + "count: 3\ninner: {<<: *a, rate: 2}"))


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(Outer, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("inner: {names: 'http://a-very-long-name-of-somebody-who-has-one:CANARY@host:5000' x}", "line 1, column 83"),
        ("count: 3\nCANARY: 1\n  CANARY: 2", "line 3"),
        ("count: " + 3000 * "[", ""),
        ("count: {a: 1, secret: CANARY}", "expected"),
    ],
)
def test_what_a_file_holds_is_not_quoted(write, text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, write(text), ["inner.rate=http://me:CANARY@h: x: y"])
    assert "CANARY" not in str(caught.value)
    assert place in str(caught.value)


def test_yaml_round_trip_keeps_the_digest(write) -> None:
    config = Outer(count=1, inner=Inner(rate=0.25, names=("x",)))
    again = load_config(Outer, write(to_yaml(config)))
    assert again == config
    assert digest(again) == digest(config) != digest(Outer(count=2))
