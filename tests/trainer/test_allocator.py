"""Memory is kept from step to step, and given back when somebody has to know how much there is."""

import os
import subprocess
import sys

import pytest

from trainer import allocator

pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")

MEASURE = """
import resource
import torch
from trainer.allocator import give_back, keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_pages():
    return int(open("/proc/self/statm").read().split()[1])

def step():
    blocks = [torch.zeros(2**22) for _ in range(8)]  # 16 MiB each, all freed at the end

keep_memory()
for _ in range(20):  # until every block has found its place
    step()
before = faults()
for _ in range(4):
    step()
print(faults() - before)
held = resident_pages()
give_back()
print(held - resident_pages())
"""


def test_what_a_step_has_freed_serves_the_next_until_it_is_given_back() -> None:
    ran = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=120)
    faults, returned = map(int, ran.stdout.split())
    assert faults < 100
    assert returned * os.sysconf("SC_PAGE_SIZE") > 100 * 2**20
