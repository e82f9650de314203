"""What `s3:` URLs and the environment may say, and what they are told when they say something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import settings_of
from tracemend.kit.errors import SetupError

ENVIRON = {"S3_ENDPOINT": "https://s3.example:9000", "S3_ACCESS_KEY": "me", "S3_SECRET_KEY": "shibboleth"}


def test_the_url_names_the_place_and_the_environment_the_rest() -> None:
    settings = settings_of("s3:some-bucket/a/b/", ENVIRON | {"S3_REGION": "eu-west-1", "S3_SSE": "s3"})
    assert (settings.bucket, settings.prefix) == ("some-bucket", "a/b/")
    assert (settings.endpoint, settings.secure) == ("https://s3.example:9000", True)
    assert (settings.region, settings.sse) == ("eu-west-1", "s3")
    assert settings.secret_key.reveal() == "shibboleth"


def test_the_url_goes_before_the_environment() -> None:
    settings = settings_of("s3:bucket?endpoint=http://127.0.0.1:1&region=there&sse=kms:a/b", ENVIRON)
    assert (settings.endpoint, settings.region, settings.sse) == ("http://127.0.0.1:1", "there", "kms:a/b")
    assert settings.prefix == ""


def test_secrets_are_not_printed() -> None:
    assert "shibboleth" not in repr(settings_of("s3:bucket", ENVIRON))


def test_a_secret_in_a_file_is_read_when_it_is_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    environ = {name: value for name, value in ENVIRON.items() if name != "S3_SECRET_KEY"}
    settings = settings_of("s3:bucket", environ | {"S3_SECRET_KEY_FILE": str(file)})
    file.write_text("new\n")
    assert settings.secret_key.reveal() == "new"


@pytest.mark.parametrize(("url", "environ", "says"), [
    ("s3:", ENVIRON, "no bucket name"),
    ("s3:Bad_Name", ENVIRON, "no bucket name"),
    ("s3:two..dots", ENVIRON, "no bucket name"),
    ("s3:192.168.1.1", ENVIRON, "no bucket name"),
    ("s3:bucket/../other", ENVIRON, "holds no '.'"),
    ("s3:bucket?region=eu west", ENVIRON, "region 'eu west'"),
    ("s3:bucket?regoin=x", ENVIRON, "did you mean 'region'"),
    ("s3:bucket", {}, "S3_ENDPOINT"),
    ("s3:bucket?endpoint=host:9000", ENVIRON, r"http\[s\]://"),
    ("s3:bucket?endpoint=http://host/path", ENVIRON, r"http\[s\]://"),
    ("s3:bucket?endpoint=http://host:99999", ENVIRON, r"http\[s\]://"),
    ("s3:bucket?endpoint=http://[::1", ENVIRON, r"http\[s\]://"),
    ("s3:bucket", ENVIRON | {"S3_ENDPOINT": "http://host?x=1"}, r"http\[s\]://"),
    ("s3:bucket", ENVIRON | {"S3_SECRET_KEY": ""}, "S3_SECRET_KEY"),
    ("s3:bucket", {"S3_ENDPOINT": "http://host"}, "S3_ACCESS_KEY"),
    ("s3:bucket?sse=kms", ENVIRON, "kms:KEY"),
])  # fmt: skip
def test_a_mistake_says_what_to_change(url: str, environ: dict[str, str], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        settings_of(url, environ)


def test_a_password_in_the_endpoint_is_refused_without_being_repeated() -> None:
    with pytest.raises(SetupError) as told:
        settings_of("s3:bucket", ENVIRON | {"S3_ENDPOINT": "http://me:shibboleth@host"})
    assert "shibboleth" not in str(told.value)


def test_parts_smaller_than_s3_takes_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="S3 takes none"):
        Bucket(settings_of("s3:bucket", ENVIRON, part_bytes=1000))
