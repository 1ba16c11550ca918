"""Committed results are found beside the package, in a folder, or in the repository on the network."""

import io
import sys
import urllib.request

import reconlaw as rl


def test_results_of_this_checkout_and_of_a_folder(tmp_path):
    assert rl.published("limit")["benchmark"] == "limit" and rl.published("nothing") is None
    (tmp_path / "mine.json").write_text('{"benchmark": "mine"}')
    assert rl.published("mine", tmp_path) == {"benchmark": "mine"} and rl.published("limit", tmp_path) is None


def test_an_installed_package_asks_the_repository(monkeypatch, tmp_path):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        if "nothing" in url:
            raise OSError("not found")
        return io.StringIO('{"benchmark": "limit"}')

    monkeypatch.setattr(sys.modules["reconlaw._published"], "_CHECKOUT", tmp_path / "absent")
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert rl.published("limit") == {"benchmark": "limit"} and rl.published("nothing") is None
    assert asked[0].startswith("https://raw.githubusercontent.com/")
    assert asked[0].endswith("/main/benchmarks/results/limit.json")
