"""Finding a corpus file: the data folder, the cache, a download from a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from benchmark.corpus.card import Card, Format, SourceFile, TypeCard
from benchmark.corpus.fetch import cache_path, locate
from benchmark.errors import DataError, FetchError

CONTENT = b"Aurora\tB-vessel\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
WRONG = b"<html>moved</html>\n"
WRONG_SHA = hashlib.sha256(WRONG).hexdigest()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Give every test its own cache and data folder, and no proxy."""
    for name in ("CDNER_DATA", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CDNER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "harbour").mkdir(parents=True)


@pytest.fixture
def served():
    """Serve `answers[path]`, a (status, stated length, body), and count the requests."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, length, body = answers[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


def closed_port() -> str:
    """Return an address on this machine where nobody listens."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}"


def card(folder: Path, **train) -> Card:
    return Card(
        name="harbour",
        version=1,
        about="",
        licence="",
        cite="",
        source={"train": SourceFile(**train), "dev": None, "test": SourceFile(path="harbour/test.txt")},
        format=Format(),
        sizes={},
        types={"vessel": TypeCard("vessel", "vessel", "miscellaneous")},
        oddities=(),
        path=folder / "harbour.yaml",
    )


def remote(folder: Path, url: str) -> Card:
    return card(folder, url=f"{url}/train.txt", path="harbour/train.txt", sha256=SHA)


def message(kind: type[Exception], *asked) -> str:
    with pytest.raises(kind) as caught:
        locate(*asked)
    return str(caught.value)


def test_the_data_folder_comes_first(tmp_path, monkeypatch):
    file = tmp_path / "data" / "harbour" / "train.txt"
    file.write_bytes(CONTENT)
    harbour = remote(tmp_path, closed_port())

    assert locate(harbour, "train", tmp_path / "data") == file
    monkeypatch.setenv("CDNER_DATA", str(tmp_path / "data"))
    assert locate(harbour, "train") == file


def test_a_file_that_no_sha256_pins_is_taken_as_it_is(tmp_path):
    file = tmp_path / "data" / "harbour" / "test.txt"
    file.write_bytes(WRONG)

    assert locate(card(tmp_path, path="x"), "test", tmp_path / "data") == file


def test_another_file_in_the_data_folder_is_refused_and_kept(tmp_path):
    file = tmp_path / "data" / "harbour" / "train.txt"
    file.write_bytes(WRONG)

    assert message(DataError, remote(tmp_path, closed_port()), "train", tmp_path / "data") == (
        f"{file}: its sha256 is {WRONG_SHA}, the card says {SHA}. "
        "Put the right file there. Without --data and CDNER_DATA it is downloaded."
    )
    assert file.read_bytes() == WRONG


def test_a_data_folder_that_does_not_exist_is_refused(tmp_path):
    folder = tmp_path / "dta"

    assert message(FetchError, remote(tmp_path, closed_port()), "train", folder) == (
        f"{folder}: there is no such data folder. Mend --data or CDNER_DATA."
    )


def test_a_file_copied_into_the_cache_is_found_without_a_network(tmp_path):
    harbour = remote(tmp_path, closed_port())
    cached = tmp_path / "cache" / "data" / "harbour" / f"train-{SHA[:8]}.txt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)

    assert cache_path(harbour, "train") == cached
    assert locate(harbour, "train", tmp_path / "data") == cached


def test_a_damaged_file_in_the_cache_is_refused(tmp_path):
    harbour = remote(tmp_path, closed_port())
    cached = tmp_path / "cache" / "data" / "harbour" / f"train-{SHA[:8]}.txt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(WRONG)

    assert message(DataError, harbour, "train") == (
        f"{cached}: its sha256 is {WRONG_SHA}, the card says {SHA}. Delete it, and it is downloaded again."
    )


def test_a_download_is_kept_in_the_cache_and_made_once(tmp_path, served, capfd):
    url, answers, asked = served
    answers["/train.txt"] = (200, len(CONTENT), CONTENT)
    harbour = remote(tmp_path, url)

    path = locate(harbour, "train")

    assert path == tmp_path / "cache" / "data" / "harbour" / f"train-{SHA[:8]}.txt"
    assert path.read_bytes() == CONTENT
    assert locate(harbour, "train") == path
    assert asked == ["/train.txt"]
    assert capfd.readouterr() == ("", "")


def test_a_download_of_another_hash_is_refused_and_leaves_nothing(tmp_path, served):
    url, answers, asked = served
    answers["/train.txt"] = (200, len(WRONG), WRONG)

    assert message(FetchError, remote(tmp_path, url), "train") == (
        f"{url}/train.txt: its sha256 is {WRONG_SHA}, the card says {SHA}. Nothing was kept. "
        "If the source changed, ask for a new card; if the connection is at fault, try again."
    )
    assert asked == ["/train.txt"]
    assert list((tmp_path / "cache" / "data" / "harbour").iterdir()) == []


def ways_out(tmp_path, url, why):
    cached = tmp_path / "cache" / "data" / "harbour" / f"train-{SHA[:8]}.txt"
    return (
        f"harbour: the train file is not on this machine, and the download failed ({why}). Any one of these helps:\n"
        "  --data DIR, or CDNER_DATA, naming a folder that holds harbour/train.txt\n"
        f"  the file copied to {cached}\n"
        f"  a network connection to {url}/train.txt"
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [((404, 0, b""), "HTTP status 404"), ((200, 99, CONTENT), "ChunkedEncodingError")],
    ids=["missing", "cut short"],
)
def test_a_failed_download_names_the_ways_out_and_leaves_nothing(tmp_path, served, answer, why):
    url, answers, _ = served
    answers["/train.txt"] = answer

    assert message(FetchError, remote(tmp_path, url), "train") == ways_out(tmp_path, url, why)
    assert list((tmp_path / "cache" / "data" / "harbour").iterdir()) == []


def test_offline_names_the_ways_out(tmp_path):
    url = closed_port()

    assert message(FetchError, remote(tmp_path, url), "train", tmp_path / "data") == (
        ways_out(tmp_path, url, "ConnectionError")
    )


def test_a_cache_that_cannot_be_written_is_a_fetch_error(tmp_path, served):
    url, answers, _ = served
    answers["/train.txt"] = (200, len(CONTENT), CONTENT)
    (tmp_path / "cache").write_text("a file where the folder should be")

    assert "and the download failed (" in message(FetchError, remote(tmp_path, url), "train")


def test_a_file_without_a_url_names_the_data_folder_alone(tmp_path):
    assert message(FetchError, card(tmp_path, path="x"), "test") == (
        "harbour: the test file is not on this machine, and its card names no url. Any one of these helps:\n"
        "  --data DIR, or CDNER_DATA, naming a folder that holds harbour/test.txt"
    )


def test_an_embedded_file_lies_beside_its_card_and_is_checked(tmp_path):
    demo = card(tmp_path, embedded="demo/train.txt", sha256=SHA)
    file = tmp_path / "demo" / "train.txt"

    assert message(FetchError, demo, "train") == (
        f"{tmp_path / 'harbour.yaml'}: the embedded train file {file} does not exist. Put it there."
    )
    file.parent.mkdir()
    file.write_bytes(WRONG)
    assert message(DataError, demo, "train") == (
        f"{file}: its sha256 is {WRONG_SHA}, the card says {SHA}. "
        "Put the right file there, or state its sha256 and raise `version`."
    )
    file.write_bytes(CONTENT)
    assert locate(demo, "train") == file


def test_a_split_without_a_file_is_refused(tmp_path):
    assert message(DataError, card(tmp_path, path="x"), "dev") == (
        f"{tmp_path / 'harbour.yaml'}: harbour has no dev file. Ask for another split."
    )
