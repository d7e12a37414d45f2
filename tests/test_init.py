"""The front door opens quickly and onto the right rooms."""

import subprocess
import sys

import pytest

import mutoscope


def loaded_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after this statement."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return set(run.stdout.split())


def test_import_is_light() -> None:
    assert not {"torch", "numpy", "av", "pydantic", "rich"} & loaded_after("import mutoscope")


def test_names_open_their_rooms() -> None:
    from mutoscope.video import Refusal, Video

    assert mutoscope.Video is Video
    assert mutoscope.Refusal is Refusal


@pytest.mark.parametrize("name", sorted(mutoscope.__all__))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(mutoscope, name) is not None
    assert name in dir(mutoscope)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'vidoe'.*Video"):
        mutoscope.vidoe  # noqa: B018
