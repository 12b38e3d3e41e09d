"""A figure of results/: numbers, and how they are drawn. The file says which numbers it shows."""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.drawing import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture(ABC):
    """The numbers of a figure."""

    @property
    def digest(self) -> str:
        """A hash of the numbers. The picture's file says it too."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()

    def stands_in(self, file: Path) -> bool:
        """Whether a PNG shows this, and no other numbers."""
        return file.is_file() and self.digest.encode() in file.read_bytes()

    @abstractmethod
    def figure(self) -> "Figure":
        """The numbers, drawn."""

    def draw(self, file: Path) -> None:
        """Writes a PNG."""
        with pictures.style():
            metadata = {"Description": self.digest}
            self.figure().savefig(file, metadata=metadata, pil_kwargs={"optimize": True})
