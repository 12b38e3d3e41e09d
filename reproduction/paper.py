"""results/paper.json: the numbers that ours are compared with, the test sets, and what tables and figures show."""

from config.json_file import read_json
from config.load import validate
from reproduction.records import ROOT, Evaluation, Stored

FILE = ROOT / "results" / "paper.json"


class TestSet(Stored):
    """Test puzzles, and the folders in data/ whose test split they are."""

    __test__ = False  # for pytest

    datasets: list[str]
    puzzles: int
    called: str
    about: str


class Setting(Stored):
    """How much an evaluation computes, and with which noise.

    `noise_scale` None: the noise of training. `perturb_std` above 0: trajectories from the stored start differ by this
    noise, and the highest q_halt answers.
    """

    depth: int = 1
    breadth: int = 1
    streaming: bool = False
    noise_scale: float | None = None
    perturb_std: float = 0

    @property
    def as_trained(self) -> bool:
        """Whether all trajectories run to this depth with the noise of training."""
        return not (self.streaming or self.perturb_std or self.noise_scale is not None)


class Number(Setting):
    """An accuracy in percent that the paper reports, and the recipes whose runs it is compared with.

    `nfe` is the mean number of outer iterations, `steps` how long the model was trained, if the paper says so.
    `summary` names the run that the front page shows beside it.
    """

    model: str
    recipes: list[str]
    exact: float
    source: str
    nfe: float | None = None
    steps: int | None = None
    summary: str | None = None


class AuthorsCurve(Stored):
    """Accuracy while the authors trained, every so many steps."""

    label: str
    every: int
    exact: list[float]


class Figures(Stored):
    """The label of every run that each figure shows."""

    depth: dict[str, str]
    breadth: dict[str, str]
    training: dict[str, str]


class Task(Stored):
    """What the paper reports of a task, and what its tables and figures show.

    `ladder` has what each recipe adds to the one before it.
    """

    title: str
    dataset: str
    paper_test_set: str
    compared_on: str
    also_on: list[str] = []
    remark: str
    numbers: list[Number]
    figures: Figures
    curves: list[AuthorsCurve] = []
    ladder: dict[str, str] = {}


class Paper(Stored):
    """results/paper.json: tasks, test sets and sources by name."""

    test_sets: dict[str, TestSet]
    tasks: dict[str, Task]
    sources: dict[str, str]

    def test_set(self, evaluation: Evaluation) -> str | None:
        """The name of the test set that an evaluation was made on, or on a part of; None if it is another one.

        The folder's name alone does not tell: a folder that another source filled has another number of puzzles.
        """
        whole = evaluation.settings.max_puzzles is None
        for name, test_set in self.test_sets.items():
            fits = evaluation.puzzles == test_set.puzzles if whole else evaluation.puzzles <= test_set.puzzles
            if evaluation.settings.split == "test" and evaluation.dataset in test_set.datasets and fits:
                return name
        return None


def read_paper() -> Paper:
    """The paper's numbers. Raises ValueError, in one sentence, if the file does not hold them."""
    return validate(Paper, read_json(FILE, dict), FILE)
