"""Several hosts, played by several launchers on this one: how their processes find each other, and what they say."""

import socket
import threading

import pytest
import torch.distributed as dist
from conftest import start

from runtime import joining


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize(
    "rank, part", [("0", "not all hosts came within 2 s"), ("1", "host 0 was not there within 2 s")]
)
def test_a_host_whose_peer_does_not_come_says_so(tmp_path, rank, part):
    hosts = {"NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "JOIN_SECONDS": "2"}
    meeting = [
        "--nnodes=2",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{hosts['MASTER_PORT']}",
        "--rdzv-id=eqr",
    ]
    run = start("scripts/launch.py", *meeting, "--nproc_per_node=1", str(tmp_path / "never.py"), **hosts).end()
    [line] = run.stderr.split("\n")[1:-1]
    assert run.returncode == 1 and line.startswith("error: ") and part in line


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_tasks_of_srun_or_mpirun_do_not_each_train_on_their_own(monkeypatch, variable):
    monkeypatch.setenv(variable, "4")
    with pytest.raises(ValueError, match=f"{variable}=4 tasks would each do the whole work"):
        joining.place()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert joining.place() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="RANK, this process's number, is not"):
        joining.place()
    monkeypatch.setenv("RANK", "1")
    assert joining.place() == (1, 2)


def agree(store: dist.Store, places: list[tuple[int, int]]) -> list[tuple[int, str]]:
    """What processes agree on that come at these places: (number of the host, rank)."""
    answers: dict[int, tuple[int, str]] = {}

    def one(place: tuple[int, int]) -> None:
        answers[place[1]] = joining._agree(store, place, len(places), 60.0)

    threads = [threading.Thread(target=one, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[rank] for rank in range(len(places))]


def test_processes_that_start_again_agree_anew_whatever_the_store_still_holds():
    store = dist.HashStore()
    first, second = agree(store, [(0, 0), (0, 1), (0, 2)]), agree(store, [(1, 1), (0, 2), (1, 0)])
    assert [number for number, _ in first] == [0, 1, 2]
    assert [number for number, _ in second] == [1, 2, 0], "those of host 0 come first"
    assert len({name for _, name in first}) == len({name for _, name in second}) == 1 and first[0][1] != second[0][1]


def test_a_process_that_does_not_come_is_named():
    store = dist.HashStore()
    with pytest.raises(ConnectionError, match="of 3 processes 1, 2 did not come within 0.1 s"):
        joining._agree(store, (0, 0), 3, 0.1)
