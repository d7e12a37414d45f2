"""Who does a task in which way: the settings are the same for every model, what is done is not.

transformer on latents    a rough film is made right, or what is known is held
U-Net on pixels           what is known is held, or leads by reconstruction guidance
stage of a cascade        enlarges or puts frames between others, and nothing else
hierarchy of U-Nets       every task enters the chain where it belongs
"""

from collections.abc import Sequence

from mutoscope.pipelines.cascade import Between, Inserted, Sharpened, SpatialStage, Stage, TemporalStage
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Pipeline
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.hierarchy_tasks import Continued, Enlarged, Filled, Moved
from mutoscope.pipelines.tasks import Animate, Extend, Interpolate, Task
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Video

__all__ = ["as_done_by"]


def as_done_by(task: Task, maker: Filmmaker, films: Sequence[Video]) -> Task:
    """The task as this model does it, with all that was left out.

    Raises:
        Refusal: the model cannot do it, or not with these settings or films.
    """
    for way in _ways(maker):
        if issubclass(way, type(task)):
            return way.of(task, maker, films)
    assert isinstance(maker, Stage)  # others do every task
    maker.refuse()


def _ways(maker: Filmmaker) -> tuple[type[Task], ...]:
    if isinstance(maker, Hierarchy):
        return (Continued, Moved, Filled, Enlarged)
    if isinstance(maker, SpatialStage):
        return (Enlarged,)
    if isinstance(maker, TemporalStage):
        return (Inserted,)
    if isinstance(maker, Pipeline) and maker.of_pixels:
        return (Extend, Animate, Between, Sharpened)
    return (Extend, Animate, Interpolate, Upscale)
