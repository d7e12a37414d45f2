"""Where models are found; the hub itself is played by a stand-in, since no test opens a connection."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mutoscope.checkpoints import hub
from mutoscope.checkpoints.folder import load_model, save_model
from mutoscope.video import Refusal
from tiny import FACTS, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny")


def test_a_file_or_a_strange_name_is_no_model(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(Refusal, match="is a file"):
        load_model(saved / "model_index.json")
    for name in ("nowhere", "https://example.org/model", "../owner/name", "/a/b", "owner/name/more"):
        with pytest.raises(Refusal, match="no such folder"):
            load_model(name)


def test_a_hub_id_fetches_nothing_but_the_parts(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        calls.append((name, allow_patterns))
        return str(saved)

    monkeypatch.setattr(hub, "_client", lambda name: SimpleNamespace(snapshot_download=download))
    assert load_model("owner/tiny").facts == FACTS
    [(name, patterns)] = calls
    assert name == "owner/tiny"
    assert "transformer/*.safetensors" in patterns
    assert all(pattern.endswith((".json", ".safetensors", "README.md")) for pattern in patterns)


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **_: Any) -> str:
        raise OSError("connection refused\nand much more")

    monkeypatch.setattr(hub, "_client", lambda name: SimpleNamespace(snapshot_download=download))
    with pytest.raises(Refusal, match=r"owner/tiny.*\(connection refused\)$"):
        load_model("owner/tiny")


def test_the_hub_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(Refusal, match="pip install huggingface_hub"):
        load_model("owner/tiny")


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent.parent)
    assert hub.find(f"{saved.parent.name}/tiny", parts=()) == Path(saved.parent.name, "tiny")
