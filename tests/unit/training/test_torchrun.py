"""What is made of torchrun's report in a log."""

from pathlib import Path

from training.script import find_failure

_REPORT = """\
W1123 18:33:08.641000 21262 torch/distributed/elastic/multiprocessing/api.py:1028] closing signal
E1123 18:33:08.713000 21262 torch/distributed/elastic/multiprocessing/api.py:1002] failed
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 21271)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-23_18:33:08
  host      : algo-1
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 21272)
  error_file: <N/A>
============================================================
"""
_LOST = "RuntimeError: [pair.cc:537] Read error [10.0.0.7]:20909: Connection reset by peer."


def test_the_process_that_failed_first_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    written = (
        f"epoch 1\n[rank0]: Traceback (most recent call last):\n[rank0]: {_LOST}\n"
        "[rank1]: Traceback (most recent call last):\n[rank1]: ValueError: it is 7\n"
    )
    log.write_text(written + _REPORT.format(code=1))

    failure = find_failure(1, log, 0)
    assert failure.reason == "the training script failed with exit code 1: ValueError: it is 7"
    assert not failure.elsewhere


def test_a_process_that_was_killed_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(f"epoch 1\n[rank0]: {_LOST}\n" + _REPORT.format(code=-9))

    assert "killed by SIGKILL" in find_failure(1, log, 0).reason


def test_a_lost_host_is_told_from_a_fault_of_the_script(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(f"epoch 1\n[rank1]: {_LOST}\n" + _REPORT.format(code=1))

    failure = find_failure(1, log, 0)
    assert failure.elsewhere
    assert "another host" in failure.reason


def test_without_torchrun_nothing_changes(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(f"Traceback (most recent call last):\n{_LOST}\n")

    failure = find_failure(1, log, 0)
    assert not failure.elsewhere
    assert "Connection reset by peer" in failure.reason
