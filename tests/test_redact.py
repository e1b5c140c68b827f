"""No key, token or password survives; hashes, keys of stages, commits and ordinary text do."""

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.redact import LOOKS, redact, redact_file, secrets

HEX = "0123456789abcdef"
COMMIT = "8b63d888c66b069ec5edad64a7da9c5104dd94e0"
STAGE = "d69804e4c4ff27665f3436b868aaa305"
SHA256 = "168b5535d4d07a7533638e194c783dd0a8478f65317b1cbd8d8d189d2be7df03"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in list(os.environ):
        if name.upper().endswith(("KEY", "TOKEN", "SECRET", "PASSWORD", "PAT", "KEY_ID")):
            monkeypatch.delenv(name)


# ---- which values are secrets


@pytest.mark.parametrize(
    "name",
    ["WANDB_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MY_SECRET", "PGPASSWORD", "DB_PASSWORD",
     "GITHUB_PAT", "AWS_ACCESS_KEY_ID", "TOKEN", "openai_api_key"],
)  # fmt: skip
def test_a_variable_named_like_a_secret_is_one(monkeypatch, name):
    monkeypatch.setenv(name, "Tr0ub4dor&3")

    assert secrets() == ("Tr0ub4dor&3",)


@pytest.mark.parametrize("name", ["HOME", "KEYBOARD", "TOKENIZERS_PARALLELISM", "XDG_SESSION_PATH", "MONKEY"])
def test_a_variable_of_another_name_is_none(monkeypatch, name):
    monkeypatch.setenv(name, "Tr0ub4dor&3")

    assert "Tr0ub4dor&3" not in secrets()


@pytest.mark.parametrize(
    "value",
    ["short", "12345678.5", "-1234567890", "1e-12345678", "/tmp/run/key.pem", "~/.ssh/id_rsa", "./keys/one.pem",
     "C:\\keys\\one.pem", "file:/keys/one", "        ", "*********"],
)  # fmt: skip
def test_short_values_numbers_and_paths_are_no_secrets(monkeypatch, value):
    monkeypatch.setenv("SSH_KEY", value)

    assert secrets() == ()


def test_a_secret_may_begin_with_a_slash(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "/Kq3+vN9zz/abcdEFGH")

    assert redact("it is /Kq3+vN9zz/abcdEFGH.") == "it is ***."


def test_every_line_of_a_private_key_is_a_secret(monkeypatch):
    monkeypatch.setenv("SIGNING_KEY", "-----BEGIN KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n")

    assert redact("> MIIEvQIBADAN\n> BgkqhkiG9w0B") == "> ***\n> ***"
    assert redact(os.environ["SIGNING_KEY"]) == "***\n"


def test_a_secret_is_found_in_json_and_in_a_url(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", 'a"b/ü&cdef')

    assert redact(r'{"p": "a\"b/ü&cdef"} {"p": "a\"b/\u00fc&cdef"} x?p=a%22b%2F%C3%BC%26cdef&y=1') == (
        '{"p": "***"} {"p": "***"} x?p=***&y=1'
    )


def test_of_a_secret_that_contains_another_nothing_is_left(monkeypatch):
    monkeypatch.setenv("ONE_TOKEN", "abcdefgh")
    monkeypatch.setenv("TWO_TOKEN", "abcdefgh-ijkl")
    monkeypatch.setenv("THREE_TOKEN", "zz-abcdefgh-ijkl-zz")

    assert redact("abcdefgh-ijkl abcdefgh zz-abcdefgh-ijkl-zz") == "*** *** ***"


def test_a_secret_that_redaction_itself_puts_together_goes_too(monkeypatch):
    monkeypatch.setenv("ONE_TOKEN", "innermost")
    monkeypatch.setenv("TWO_TOKEN", "outer***rest")

    assert redact("outerinnermostrest") == "***"


# ---- what looks like a key


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key sk-abc123DEF456ghi789", "key ***"),
        ("sk-proj-A1b2C3d4_E5f6-G7h8I9j0", "***"),
        ("(sk-ant-api03-Zz9Yy8Xx7Ww6)", "(***)"),
        ("hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH", "***"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "***"),
        ("github_pat_11ABCDEFG0123456789_abcdefghij", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("Authorization: Bearer xyz-1", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'authorization': 'Basic ***'}"),
        ("Bearer abcdef0123456789", "Bearer ***"),
        ("bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "bearer ***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", "***"),
        (f"api_key={COMMIT}", "api_key=***"),
        (f'"api_key": "{COMMIT}"', '"api_key": "***"'),
        (f"WANDB_API_KEY={COMMIT}", "WANDB_API_KEY=***"),
        (f"wandb login {COMMIT}", "wandb login ***"),
        (f"wandb: {COMMIT.upper()}", "wandb: ***"),
        ("https://me:pass@example.org/x", "https://***@example.org/x"),
        ("postgres://:pw@db:5432/x", "postgres://***@db:5432/x"),
        ("GET /v1?token=abcd1234&page=2", "GET /v1?token=***&page=2"),
    ],
)
def test_what_looks_like_a_key_goes(text, clean):
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        COMMIT, STAGE, SHA256, f"commit {COMMIT}", f"key {STAGE}, in the store", f"wandb 0.31.0, commit {COMMIT}",
        f"sha256:{SHA256}", f"api_key {SHA256}", f"git+https://github.com/a/b@{COMMIT}",
        "the standard bearer of the party", "Bearer of bad news", "risk-weighted-averages-of-2019",
        "task-specific-layers-12345678", "sk-learn-like-interface", "hf_hub_download_was_called",
        "https://example.org:8080/a@b", "http://[::1]:8080/", "mail me@example.org", "12:30@noon",
        "tagger/conll2003--ai/supervised/seed1", "token: B-person 716 79 96", "?page=2&token=3", "***", "",
        "python -m benchmark.run.worker --key value", "epoch 3/40, dev F1 51.2",
    ],
)  # fmt: skip
def test_hashes_keys_of_stages_commits_and_ordinary_text_stay(text):
    assert redact(text) == text


VALUES = st.text(st.characters(codec="utf8", exclude_characters="\0"), min_size=8, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_no_secret_survives_and_to_redact_twice_is_to_redact_once(monkeypatch, values, data):
    for name in ("A_KEY", "B_TOKEN", "C_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in zip(("A_KEY", "B_TOKEN", "C_SECRET"), values, strict=False):
        monkeypatch.setenv(name, value)
    parts = st.one_of(
        st.sampled_from(values), st.text(max_size=10), st.sampled_from(["***", "sk-a1", "Bearer ", "://"])
    )
    text = "".join(data.draw(st.lists(parts, max_size=8)))

    clean = redact(text)

    assert not any(secret in clean for secret in secrets())
    assert redact(clean) == clean


@given(st.text(st.sampled_from("sk-hf_eyJ. :=/?&@Bearer*authoiznpywd01\t\n"), max_size=80))
def test_what_is_put_together_of_keys_pieces_is_redacted_once_and_for_all(text):
    assert redact(redact(text)) == redact(text)


@given(st.text(HEX, min_size=32, max_size=64), st.sampled_from(["key ", "sha256 ", "commit ", "", '"final": "']))
def test_hexadecimal_digits_alone_are_no_secret(digits, before):
    assert redact(before + digits) == before + digits


@pytest.mark.parametrize(
    "piece", ["sk-", "eyJ", "://", "a", "Bearer ", "authorization:", "api_key", "x:", "hf_", "?token="]
)
def test_a_very_long_line_takes_no_time(piece):
    text = piece * (400_000 // len(piece))
    began = time.perf_counter()
    redact(text)

    assert time.perf_counter() - began < 5


# ---- files


def test_a_file_is_rewritten_without_its_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "Tr0ub4dor&3")
    log = tmp_path / "log.txt"
    log.write_bytes(b"one\r\nTr0ub4dor&3\rtwo \xff\xfe sk-abc123DEF456ghi789\n\xc3\xbc Tr0ub4dor&3")
    log.chmod(0o640)

    assert redact_file(log)
    assert log.read_bytes() == b"one\r\n***\rtwo \xff\xfe ***\n\xc3\xbc ***"
    assert log.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [log]


def test_a_file_without_secrets_is_left_untouched(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"epoch 1\r\nepoch 2 \xff\n")
    before = log.stat()

    assert not redact_file(log)
    assert (log.stat().st_ino, log.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_still_points_at_the_redacted_file(tmp_path):
    log, link = tmp_path / "log.txt", tmp_path / "latest"
    log.write_text("Bearer abcdef0123456789")
    link.symlink_to(log)

    assert redact_file(link)
    assert link.is_symlink()
    assert log.read_text() == "Bearer ***"


def test_where_the_new_file_cannot_be_written_the_old_one_stays(tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    log.write_text("Bearer abcdef0123456789")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        redact_file(log)
    assert log.read_text() == "Bearer abcdef0123456789"
    assert list(tmp_path.iterdir()) == [log]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
@given(st.lists(st.sampled_from([b"plain ", b"\xff", b"\r", b"\n", b"\r\n", b"hf_aBcDeFgHiJkLmNoPqRs", "ü".encode()])))
def test_a_file_is_redacted_as_its_text_is(tmp_path, parts):
    log = tmp_path / "log.txt"
    log.write_bytes(b"".join(parts))
    expected = redact(b"".join(parts).decode(errors="surrogateescape")).encode(errors="surrogateescape")

    redact_file(log)

    assert log.read_bytes() == expected


# ---- speed


@pytest.mark.parametrize("letter", ["\u212a", "k"])
def test_what_looks_like_a_key_is_found_in_letters_of_every_kind(letter):
    assert redact(f"?api_{letter}ey=abcd1234") == f"?api_{letter}ey=***"


@pytest.mark.parametrize("letter", ["\u0130", "\u0131", "i"])
def test_every_i_is_one(letter):
    assert redact(f"author{letter}zation: abcd1234") == f"author{letter}zation: ***"


def test_the_pieces_of_a_pattern_are_folded():
    assert all(piece == piece.casefold() for _, _, pieces in LOOKS for piece in pieces)
