"""A system that lacks what Windows lacks: builders, training and evaluation work."""

import os
import subprocess
import sys

from conftest import ROOT, TINY, only_run

WINDOWS = """
import os, signal, sys
import hydra, matplotlib.pyplot, multiprocessing.util, numpy, pydantic, safetensors.torch, torch, tqdm, yaml
import torch._dynamo, torch.distributed.nn, torch.distributed.elastic.multiprocessing.api

for name in ("SIGHUP", "SIGALRM", "SIGPIPE", "SIGKILL", "SIGQUIT", "setitimer", "ITIMER_REAL"):
    delattr(signal, name)
for name in ("O_NOFOLLOW", "O_NONBLOCK", "getuid", "fork", "killpg"):
    delattr(os, name)
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.modules.pop("config", None)

from dataset.build_sudoku_dataset import main as build
import evaluate, pretrain

def run(main, *words):
    try:
        main(list(words))
    except SystemExit as end:
        assert not end.code, end.code

data, runs, results, *words = sys.argv[1:]
run(build, "--source", "generate", "--size", "4", "--train-samples", "20", "--test-samples", "5", "--output-dir", data)
run(pretrain.main, *words, f"dataset.data_path={data}", f"checkpoint_path={runs}", "max_seconds=0.001")
[last] = __import__("pathlib").Path(runs).glob("*/*/last.safetensors")
run(pretrain.main, f"resume={last.parent}", "max_steps=2")
run(evaluate.main, f"checkpoint={last.parent}", f"eval_dir={results}", "halt_max_steps=1")
"""


def test_without_what_windows_lacks(tmp_path):
    words = [str(tmp_path / name) for name in ("data", "runs", "results")]
    ascii = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # Windows has its own encoding
    quiet = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"} | ascii
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, *words, *TINY], capture_output=True, text=True, env=os.environ | quiet
    )
    assert done.returncode == 0, done.stderr
    assert "stopped at step" in done.stderr and (tmp_path / "results" / "results.json").is_file()
    assert (only_run(tmp_path / "runs") / "final.json").is_file()
