from __future__ import annotations

import os
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.runtime.settings import StoreError, StoreProfile, load_settings, read_secret, split_credentials


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    monkeypatch.setenv("NUCLEATE_CONFIG", str(path))
    return path


def test_defaults_need_no_file(tmp_path, monkeypatch):
    monkeypatch.delenv("NUCLEATE_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_settings().data_dir == tmp_path / "nucleate"


def test_environment_wins_over_the_file(config, monkeypatch):
    config.write_text("embedded_idle_seconds: 7\nretry_seconds: 11\n")
    monkeypatch.setenv("NUCLEATE_EMBEDDED_IDLE_SECONDS", "5")
    settings = load_settings()
    assert (settings.embedded_idle_seconds, settings.retry_seconds) == (5, 11)


def test_an_unknown_profile_lists_the_known_ones(config):
    config.write_text("stores: {cluster: {uri: 'mongodb://h/'}}")
    with pytest.raises(StoreError, match="unknown store 'clutser'; known: cluster, embedded"):
        load_settings().profile("clutser")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("store: 1", "store: Extra inputs are not permitted"),
        ("stores: {c: {uri: 'mongodb://h/', pasword: s3cret}}", "stores.c.pasword: Extra inputs"),
        ("stores: {c: {uri: 'postgres://ada:s3cret@h/'}}", "must begin with mongodb://"),
        ("stores: {c: {uri: 'mongodb://ada:s3cret@/'}}", "names no host"),
        ("stores: {c: {uri: 'mongodb://ada:s3cret@h/', password_env: P}}", "give the password once"),
        ("stores: {c: {uri: 'mongodb://h/', password_env: P}}", "password_env without a username"),
        ("stores: {embedded: {uri: 'mongodb://h/'}}", "taken by the embedded server"),
        ("stores: [s3cret", "no valid YAML"),
        ("- s3cret", "must hold a mapping"),
    ],
)
def test_a_wrong_file_is_one_clear_message_without_secrets(config, text, says):
    config.write_text(text)
    with pytest.raises(StoreError) as refused:
        load_settings()
    assert says in refused.value.message
    assert "s3cret" not in refused.value.message
    assert refused.value.__cause__ is None
    assert "\n" not in refused.value.message


def test_a_named_file_must_exist(config):
    with pytest.raises(StoreError, match="named by NUCLEATE_CONFIG, does not exist"):
        load_settings()


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(user=words, password=words, hosts=st.sampled_from(["h", "h:27018", "a:1,b:2,c:3", "[::1]:27017"]))
def test_credentials_leave_the_uri_whole_and_never_come_back(user, password, hosts):
    bare = f"mongodb://{hosts}/db?tls=true"
    uri = f"mongodb://{quote_plus(user)}:{quote_plus(password)}@{hosts}/db?tls=true"
    found, name, secret = split_credentials(uri)
    assert (found, name) == (bare, user)
    assert secret is not None
    assert secret.get_secret_value() == password
    profile = StoreProfile(uri=uri)
    assert profile.uri == bare
    assert profile.secret().get_secret_value() == password


def test_a_password_is_never_shown():
    profile = StoreProfile(uri="mongodb://ada:s3cret@h/")
    assert "s3cret" not in repr(profile) + str(profile) + str(profile.model_dump()) + profile.model_dump_json()


def test_the_password_comes_from_the_environment(monkeypatch):
    profile = StoreProfile(uri="mongodb://h/", username="ada", password_env="DB_PASSWORD")
    with pytest.raises(StoreError, match="DB_PASSWORD, named by password_env, is not set"):
        profile.secret()
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    assert profile.secret().get_secret_value() == "s3cret"


def test_the_password_file_must_be_private(tmp_path):
    path = tmp_path / "password"
    with pytest.raises(StoreError, match="can't be read"):
        read_secret(path)
    path.write_text("s3cret\n")
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(StoreError, match="chmod 600"):
            read_secret(path)
    path.chmod(0o600)
    assert read_secret(path).get_secret_value() == "s3cret"
    with pytest.raises(StoreError, match="not a plain file"):
        read_secret(tmp_path)
    if os.geteuid() == 0:  # only root can give a file away to try it
        os.chown(path, 12345, -1)
        with pytest.raises(StoreError, match="belongs to another user"):
            read_secret(path)
