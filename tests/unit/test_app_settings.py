"""Settings: layers over each other, checked at start, with errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from app.errors import SettingsError
from app.settings import CONFIGS, checked_settings, load_settings, variables


def load(tmp_path: Path, text: str = "", **environ: str) -> object:
    """Settings from a file of that text and these variables alone."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    return load_settings(file, environ, tmp_path)


def test_every_file_of_the_project_is_valid(tmp_path: Path) -> None:
    """Each file in configs/ overlays the defaults without an error, but the gateway's own."""
    for file in sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "llm.yaml"}):
        assert load_settings(file, {}, tmp_path).http.port > 0, file.name


def test_the_environment_wins_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    """Each layer changes what it names and leaves the rest."""
    found = load(tmp_path, "http: {port: 8001, host: 127.0.0.2}", TONDO_HTTP_PORT="8002")
    assert isinstance(found, type(load_settings(None, {}, tmp_path)))
    assert (found.http.port, found.http.host, found.http.auth) == (8002, "127.0.0.2", "on")


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    """TONDO_CONFIG is the file where no other was given."""
    file = tmp_path / "named.yaml"
    file.write_text("http: {port: 8123}")
    assert load_settings(None, {"TONDO_CONFIG": str(file)}, tmp_path).http.port == 8123


def test_home_is_absolute_and_relative_to_the_directory(tmp_path: Path) -> None:
    """A relative home lies in the directory that was given, also with dots in it."""
    assert load_settings(None, {}, tmp_path).home == tmp_path / ".tondo"
    found = load_settings(None, {"TONDO_HOME": "a/../b"}, tmp_path)
    assert found.home == tmp_path / "b"


def test_every_default_can_be_set_by_a_variable(tmp_path: Path) -> None:
    """The variables name exactly the keys of the file with the defaults."""
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    keys = {
        f"{group}.{leaf}" if isinstance(values, dict) else group
        for group, values in base.items()
        for leaf in (values if isinstance(values, dict) else [""])
    }
    assert set(variables().values()) == keys


@pytest.mark.parametrize("word", ["off", "on", '"off"', '"on"'])
def test_a_switch_may_be_written_bare(tmp_path: Path, word: str) -> None:
    """YAML reads on and off as booleans; they mean what they say all the same."""
    found = load(tmp_path, f"http: {{auth: {word}}}")
    assert found.http.auth == word.strip('"')  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("http: {prot: 1}", "'prot'", "Did you mean port"),
        ("htp: {port: 1}", "'htp'", "Did you mean http"),
        ("http: 3", "http is a group", "host"),
        ("- 1", "not a mapping", "base.yaml"),
        ("[", "not YAML", "base.yaml"),
        ("http: {port: 0}", "http.port = 0", "TONDO_HTTP_PORT"),
        ("http: {port: x}", "http.port = 'x'", "TONDO_HTTP_PORT"),
        ("http: {auth: maybe}", "http.auth = 'maybe'", "TONDO_HTTP_AUTH"),
        ("http: {host: 0.0.0.0, auth: off}", "loopback only", "--config"),
        ("http: {port: 8265}", "http.port and dashboard.port are both 8265", "--config"),
        ("serving: {first_replica_port: 31001}", "too few", ""),
        ("serving: {replicas: 3, first_replica_port: 5, last_replica_port: 6}", "too few", ""),
        ("control: {interval_s: .inf}", "control.interval_s", "TONDO_CONTROL_INTERVAL_S"),
        ("control: {interval_s: .nan}", "control.interval_s", "TONDO_CONTROL_INTERVAL_S"),
        ("control: {interval_s: 0}", "control.interval_s", "TONDO_CONTROL_INTERVAL_S"),
        ("online: {store: mongo}", "online.store = 'mongo'", "TONDO_ONLINE_STORE"),
        ("online: {redis_url: 'redis://:secret@h'}", "redis_password_file", ""),
        ("online: {redis_url: 'redis://h?password=secret'}", "redis_password_file", ""),
        ("online: {redis_url: http://h}", "online.redis_url", "TONDO_ONLINE_REDIS_URL"),
        ("online: {cassandra_keyspace: 'A-b'}", "online.cassandra_keyspace", ""),
        ("online: {cassandra_ca_file: ca.pem}", "online.cassandra_ca_file", ""),
        ("home: ''", "it is empty", "TONDO_HOME"),
        ("home: ~nobody.of.this.name/x", "home", "Write it out"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, said: str, hint: str) -> None:
    """An unknown key, a wrong value or a contradiction: the error names it and says where to go."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert said in caught.value.what
    assert hint in caught.value.hint
    assert "Value error" not in caught.value.what


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told as such."""
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not YAML"):
        load_settings(file, {}, tmp_path)


@pytest.mark.parametrize("place", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, place: str) -> None:
    """A missing file and a directory are told with the path."""
    with pytest.raises(SettingsError, match=str(tmp_path)):
        load_settings(tmp_path / place, {}, tmp_path)


def test_an_unknown_variable_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A mistyped variable is never silently without effect."""
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"TONDO_HTTP_PRT": "1"}, tmp_path)
    assert "TONDO_HTTP_PORT" in caught.value.hint


def test_a_refused_setting_does_not_show_a_password(tmp_path: Path) -> None:
    """An error about a URL with a password says so without repeating it."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "online: {redis_url: 'redis://:swordfish@h'}")
    assert "swordfish" not in str(caught.value)


def test_settings_survive_the_record_of_the_cluster(tmp_path: Path) -> None:
    """What ``up`` writes down is read back the same."""
    found = load_settings(None, {}, tmp_path)
    assert checked_settings(found.model_dump(mode="json")) == found
