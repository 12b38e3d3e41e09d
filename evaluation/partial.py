"""An evaluation on disk while it is under way. What is done survives a kill, and several jobs can share the work.

EVAL_DIR/partial/ holds about.json, which says what is evaluated and how, and units*.jsonl, with a line for each unit
that is done. Each process appends to a file of its own. A line ends with its checksum. A line that is damaged, or that
a kill cut short, does not count: its unit is run again.
"""

import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from config.command import printable
from evaluation.about import About, read_about
from evaluation.units import Part
from runtime.distributed import World
from runtime.files import claim, open_to_write, write_whole

_PART = TypeAdapter(Part)
_SUMMED = re.compile(rb'(.*), "crc32": (\d+)\}', re.DOTALL)


class Partial:
    """The parts of an evaluation below its folder.

    Args:
        directory: the evaluation's folder.
        shard: (i, n), the i-th of n shards of the work.
        made: whether this program made the folder for the evaluation.
    """

    def __init__(self, directory: Path, shard: tuple[int, int] = (1, 1), made: bool = False) -> None:
        self.directory, self._folder, self._shard, self._made = directory, directory / "partial", shard, made
        self._name = f"shard{shard[0]}of{shard[1]}"

    def about(self) -> About | None:
        """What the parts on disk are parts of; None without any. Raises ValueError if about.json is damaged."""
        file = self._folder / "about.json"
        if not file.is_file():
            return None
        try:
            return read_about(file)
        except ValueError as error:
            why = str(error).removeprefix(f"{file}: ")
            raise ValueError(f"{file} is damaged: remove {self._folder}, or give another eval_dir ({why})") from None

    def parts(self) -> list[Part]:
        """The parts on disk, in the order of their units."""
        if (about := self.about()) is None:
            return []
        by_unit = {part.unit: part for file in sorted(self._folder.glob("units*.jsonl")) for part in _read(file)}
        return [by_unit[unit] for unit in sorted(by_unit) if about.fits(by_unit[unit])]

    def has(self, about: About) -> bool:
        """Whether parts of this evaluation are on disk. Raises ValueError for parts of another one."""
        on_disk = self.about()
        if on_disk is not None and (difference := about.difference(on_disk)):
            raise ValueError(
                f"{self.directory} holds parts of a different evaluation ({difference}): give another eval_dir"
            )
        return on_disk is not None

    def complete(
        self, about: About, world: World, run: Callable[[Sequence[int]], Generator[Part, None, None]], notes: list[str]
    ) -> list[Part]:
        """Runs the units of this shard that are not on disk, and keeps each once it is done.

        All processes call it, and `run` gets the numbers of each process's own units.

        Args:
            about: what is evaluated.
            world: the processes.
            run: runs units, and yields their parts.
            notes: what to say before the work begins.

        Returns:
            All parts that are done, in every process those of this call, in the main one also those of earlier calls.

        Raises:
            ValueError: the parts on disk are of another evaluation, another job works on this shard, or logits were not
                finite.
        """
        earlier = self._begin(about) if world.is_main else []
        finished = world.from_main({part.unit for part in earlier})
        shard, shards = self._shard
        left = [unit for unit in range(about.units)[shard - 1 :: shards] if unit not in finished]
        if world.is_main:
            print(
                "".join(f"{printable(note)}\n" for note in notes + self._notes(len(finished), about.units)),
                end="",
                file=sys.stderr,
            )
        parts: list[Part] = []
        with self._own_file(world) as file, closing(run(left[world.rank :: world.size])) as running:
            world.gather_objects(None)  # all have their files before one may give up, and remove the folder
            for part in running:
                try:
                    part.check()
                except ValueError:
                    self._abandon()
                    raise
                _append(file, part)
                parts.append(part)
        return earlier + [part for others in world.gather_objects(parts) for part in others]

    def _begin(self, about: About) -> list[Part]:
        """Starts an evaluation, or goes on with one and returns its parts."""
        going_on = self.has(about)
        self._made |= not self.directory.exists()
        if self._folder.is_symlink():
            raise ValueError(f"{self._folder} should be a folder, but it is a link: remove it")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claim()
        if not going_on:
            write_whole(self._folder / "about.json", about.to_json(), self._name)  # two shards may begin together
        return self.parts() if going_on else []

    def _claim(self) -> None:
        """Keeps other jobs from this shard for as long as this object, or its process, lives."""
        self._claimed = open_to_write(self._folder / f"{self._name}.lock", "w")
        shard, shards = self._shard
        what = f"shard {shard}/{shards}" if shards > 1 else "the same evaluation"
        claim(self._claimed, f"another job is at work on {what} in {self.directory}: wait, or give another eval_dir")

    def _notes(self, done: int, units: int) -> list[str]:
        if units == 1:
            return []
        kept = f"finished parts are kept in {self.directory}; after a kill, eval_dir={self.directory} goes on with them"
        return [f"{done} of {units} units were done before" if done else kept]

    def _own_file(self, world: World) -> IO[str]:
        """The file to which this process appends."""
        name = f"units_{self._name}_process{world.rank}of{world.size}.jsonl"
        file = open_to_write(self._folder / name, "a+")
        file.write("\n")  # ends a line that a kill cut short
        return file

    def remove(self) -> None:
        """Removes the parts."""
        shutil.rmtree(self._folder)

    def _abandon(self) -> None:
        """Leaves nothing behind, unless a unit is done or another shard has begun. Any process may call it."""
        others = [file for file in self._folder.glob("shard*.lock") if file.stem != self._name]
        if others or self.parts():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._made:
            with suppress(OSError):  # something else is in it
                self.directory.rmdir()


def _append(file: IO[str], part: Part) -> None:
    """Writes a part as one line, and waits until the disk has it."""
    tallies = {str(depth): tally._asdict() for depth, tally in part.tallies.items()}
    text = json.dumps(part._asdict() | {"tallies": tallies})[:-1]
    file.write(f'{text}, "crc32": {zlib.crc32(text.encode())}}}\n')
    file.flush()
    os.fsync(file.fileno())


def _read(file: Path) -> Iterator[Part]:
    """The whole parts in a file. Older files have no checksums."""
    if not file.is_file():
        raise ValueError(f"{file} should be a plain file")
    for line in file.read_bytes().split(b"\n"):
        summed = _SUMMED.fullmatch(line)
        if summed and zlib.crc32(summed[1]) != int(summed[2]):
            continue
        with suppress(ValidationError):  # empty, or cut short
            yield _PART.validate_json(summed[1] + b"}" if summed else line)
