"""mutoscope: words in, moving pictures out.

    import mutoscope
    model = mutoscope.load()
    model.generate("a man walking in the rain").save("rain.mp4")

Nothing heavy happens on import: each public name is looked up in its room the first time it is used,
so `import mutoscope` costs milliseconds and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutoscope.media import read_video, write_video
    from mutoscope.pipelines import load
    from mutoscope.video import Refusal, Video

__version__ = "0.1.0"
__all__ = ["Refusal", "Video", "__version__", "load", "read_video", "write_video"]

_ROOMS = {
    "load": "mutoscope.pipelines",
    "read_video": "mutoscope.media",
    "write_video": "mutoscope.media",
    "Refusal": "mutoscope.video",
    "Video": "mutoscope.video",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'mutoscope' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
