"""What calls take of memory, and what the CPU backend keeps of it from one call for the next."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from image_scenes import gradients, picture_of
from scenes import random_scene, same_bits

SIZES = [(90, 300), (260, 270), (140, 500), (33, 410), (512, 300), (61, 77)]


def pictures():
    """Images of many sizes: their blocks of memory are taken up by each other."""
    for seed, (height, width) in enumerate(2 * SIZES):
        scene = random_scene(seed, 60, (height, width), 1 + seed % 2, sigma=1e-4)
        yield picture_of(replace(scene, near=torch.full_like(scene.near, 0.5)), seed, nearest=seed % 3 == 0)


def run(picture, dtype=torch.float32):
    got, grads = gradients(picture, picture.inputs(dtype))
    return [x.detach() for x in (*got, *grads) if x is not None]


def test_images_of_other_sizes_and_types_before_change_nothing():
    """Each as in a process of its own, where all memory is fresh."""
    jobs = [(picture, dtype) for picture in pictures() for dtype in (torch.float32, torch.float64)]
    first = [run(*job) for job in jobs]
    for order in (range(len(jobs)), reversed(range(len(jobs)))):
        assert all(same_bits(run(*jobs[k]), first[k]) for k in order)


def test_threads_that_render_at_once_do_not_share_memory():
    jobs = list(pictures())
    alone = [run(picture) for picture in jobs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert all(map(same_bits, alone, pool.map(run, jobs)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_renders():
    """As workers of a torch DataLoader may."""
    picture = next(pictures())
    expected = run(picture)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert same_bits(pool.apply_async(run, [picture]).get(60), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_is_kept_has_a_limit():
    """A call that needs 400 MB leaves no more than 64 behind, and so do many of all sizes."""
    code = """
import ctypes, torch
from softras.raster.images import ops as image_ops
v = torch.tensor([[-9., -9, 2], [9, -9, 2], [0, 12, 2]]); f = torch.tensor([[0, 1, 2]])
K = torch.tensor([[[256., 0, 256], [0, 256, 256], [0, 0, 1]]]); w = torch.eye(4)[None]
def kept():
    ctypes.CDLL(None).malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def run(size, views=1):
    image_ops.images(v, f, K.expand(views, 3, 3), w.expand(views, 4, 4), size, size, attributes=torch.rand(3, 3))
run(8)
before = kept()
run(4096)
large = kept()
for size in range(100, 1500, 50): run(size, 4)
print(large - before, kept() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    large, many = map(int, done.stdout.split())
    assert large < 72 << 20 and many < 72 << 20


def grown_by(faces, draw):
    """Bytes that a process's memory grows by to draw so many faces that all cover a 512² image."""
    code = f"""
import resource, torch
from softras.raster.images import ops as image_ops
from softras.raster.silhouettes import ops
n = {faces}
v = torch.rand(3 * n, 3) * 0.1 + torch.tensor([[-9., -9, 2], [9, -9, 2], [0, 12, 2]]).repeat(n, 1)
f = torch.arange(3 * n).reshape(n, 3)
K = torch.tensor([[[256., 0, 256], [0, 256, 256], [0, 0, 1]]]); w = torch.eye(4)[None]
a = torch.rand(3 * n, 3)
v.requires_grad_(), a.requires_grad_()
def run(size):
    {draw}
run(8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(512)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_memory_of_silhouettes_does_not_grow_with_overdraw():
    """2.5 GB if fragments were kept; here tens of megabytes."""
    grown = grown_by(2000, "ops.silhouettes(v, f, K, w, size, size, sigma=1e-2).sum().backward()")
    pairs = 2000 * (512 // 8) ** 2
    assert grown < 100 * pairs  # bytes a (face, tile) pair, out of 64 pixels each


def test_memory_of_images_does_not_grow_with_overdraw():
    """130 million fragments, in colour; what docs/performance.md says."""
    draw = "sum(x.sum() for x in image_ops.images(v, f, K, w, size, size, attributes=a, sigma=1e-2)[:2]).backward()"
    assert grown_by(500, draw) < 1.5 * 4 * (12 + 4 * 3) * 512**2
