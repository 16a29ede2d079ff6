"""Where a fit computes, and what it does when the GPU's memory is short."""

import pytest
import torch
from fitting_scenes import ball, views_of

from softras import InputError, fit
from softras.fitting.observed.renderer import RENDERERS, SoftRenderer
from softras.raster.native import cuda

SHORT = [{"resolution": 32, "steps": 6, "blur": (0.6, 0.4), "rate": (0.02, 0.01)}]


@pytest.fixture(scope="module")
def views():
    return views_of(ball(2), 8, 48)


def test_auto_is_a_gpu_where_one_is_usable(views):
    result = fit(ball(1), views, schedule=SHORT)
    assert any("ran on the GPU" in note for note in result.notes) == (not cuda.problem())


def test_asking_for_a_gpu_that_is_not_there_says_why(views, monkeypatch):
    monkeypatch.setattr(cuda, "problem", lambda: "the cat sleeps on it")
    with pytest.raises(InputError, match="cannot be used: the cat sleeps on it; choose 'auto' or 'cpu'"):
        fit(ball(1), views, schedule=SHORT, device="cuda")


@pytest.fixture
def memory(monkeypatch):
    """A device with memory for some views at once; the numbers of views that a fit rendered or tried to."""
    tried: list[int] = []

    def within(most):
        class Limited(SoftRenderer):
            def alpha(self, vertices, faces, cameras, size, **modes):
                tried.append(len(cameras["K"]))
                if len(cameras["K"]) > most:
                    raise torch.cuda.OutOfMemoryError("CUDA out of memory")
                return super().alpha(vertices, faces, cameras, size, **modes)

        monkeypatch.setitem(RENDERERS, "limited", Limited)
        return tried

    return within


def test_a_fit_takes_fewer_views_at_once_when_memory_is_short(views, memory):
    tried = memory(3)
    result = fit(ball(1), views, schedule=SHORT, place="never", renderer="limited", device="cpu")
    assert tried[:3] == [8, 4, 2] and max(tried[2:]) <= 3
    assert result.status == "finished" and result.mean_iou > 0.8
    assert sum("fewer at once" in note for note in result.notes) == 1


def test_a_fit_that_cannot_render_one_view_ends_with_a_sentence(views, memory):
    tried = memory(0)
    with pytest.raises(InputError, match="not enough memory for one view .* choose device 'cpu'"):
        fit(ball(1), views, schedule=SHORT, place="never", renderer="limited", device="cpu")
    assert tried == [8, 4, 2, 1]
