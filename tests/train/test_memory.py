import platform
import resource

import pytest
import torch

from cytodistill.train.memory import kept_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
PAGES = 64 * 2**20 // 4096


def faults_of_taking_again() -> int:
    """Pages that the system hands out for 64 MiB that were taken and freed just before."""
    torch.zeros(16 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_kept_within_and_given_back_after():
    with kept_memory():
        # A heap that earlier tests filled may first hand out places that were given back, each once.
        assert min(faults_of_taking_again() for _ in range(5)) < PAGES // 10
    assert faults_of_taking_again() > PAGES // 2


def test_it_decorates_and_lets_errors_pass():
    @kept_memory()
    def failing():
        raise ValueError("as it is")

    for _ in range(2):
        with pytest.raises(ValueError, match="as it is"):
            failing()
    assert faults_of_taking_again() > PAGES // 2
