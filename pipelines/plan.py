"""The plan: which jobs a configuration asks for, from names alone.

Read by the Snakefile on every start, so nothing here opens a media file, a label file or an
image, and nothing imports torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import ConfigError, DataError, digest
from ..cache.atomic import atomic_write
from ..extract.parts import part_of
from ..extract.settings import LABELS, TENSOR_FILES, StreamSettings, TextSettings, VisualSettings
from .config import Config, parse_config
from .datasets import dataset_of
from .fallback import LOCAL

if TYPE_CHECKING:
    from ..extract.dataset import Dataset, Track
    from ..fuse.settings import FuseSettings

EXTRACTION = 2
"""Raised by hand when the same settings give other numbers, so that the workflow runs again."""
ABSENT = (-1, -1)
"""Size and time of a file that is not there."""
SCORING = ("protocol", "smoothing", "faces", "resamples", "traces", "maps", "published")
"""Settings of stage two that change no training."""


def prepare_jobs(config: Config) -> None:
    """Set what jobs inherit: the `concord` of this very environment, activated or not, and the
    device, which is no parameter of a job since it changes no result.
    """  # noqa: D205
    own = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", os.defpath)])
    os.environ["CONCORD_DEVICE"] = config.device


def count_gpus() -> int:
    """Count this machine's GPUs without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def streams_of(config: Config, chosen: Sequence[str]) -> dict[str, StreamSettings | None]:
    """Choose streams of a configuration, all of them by default, with their settings.

    Raises:
        ConfigError: A stream that is not configured; the message lists those that are.
    """
    known: dict[str, StreamSettings | None] = {LABELS: None, **config.streams}
    for name in chosen:
        if name not in known:
            raise ConfigError(f"stream {name!r} is not configured; configured: {', '.join(known)}")
    return {name: known[name] for name in chosen or known}


def _is_told(track: Track) -> bool:
    """Say whether more than its files determines a track's rows."""
    return not (track.rows is track.clock is track.form is None)


def _by_default(fuse: FuseSettings, names: Sequence[str]) -> FuseSettings:
    """Put some settings back to their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(fuse)}
    return dataclasses.replace(fuse, **{name: defaults[name] for name in names})


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A part of the configuration for a command's `--config`; a sweep is too long for an argument.

    The name is a digest of the content: other settings are another parameter of a job, and a
    workflow that is running never finds another one's settings in its file.
    """

    path: str
    text: str

    def write(self) -> None:
        """Write the file where it is not there yet."""
        if not Path(self.path).exists():
            atomic_write(Path(self.path), self.text.encode())


@dataclass(frozen=True)
class Plan:
    """Jobs and their files."""

    config: Config

    @classmethod
    def of(cls, values: dict[str, Any]) -> Plan:
        """Make the plan of a workflow's configuration, checking it first."""
        return cls(parse_config(json.loads(json.dumps(values))))

    @cached_property
    def dataset(self) -> Dataset:
        """The data set's tracks.

        Raises:
            DataError: Not laid out as its adapter expects, a split is empty, or a test track is
                among those to be trained on.
        """
        dataset = dataset_of(self.config)
        dataset.refuse_leaks()
        missing = {"train", "val"} - {track.split for track in dataset.tracks}
        if missing:
            raise DataError(
                f"{dataset.root}: no track in {' and '.join(sorted(missing))}; "
                "expected label files in Train_Set and in Validation_Set, or tracks of both in "
                "the table"
            )
        return dataset

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Job name to the streams that it computes with one decode."""
        grouped = {stream for streams in self.config.groups.values() for stream in streams}
        groups = dict(self.config.groups)
        for stream in (LABELS, *self.config.streams):
            if stream not in grouped:
                groups[stream.replace("/", "-")] = (stream,)
        return groups

    @property
    def only_group(self) -> str:
        """The one group of a plan that has one."""
        (group,) = self.groups
        return group

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """Parts that hold a source; a small data set may leave some of them empty."""
        return tuple(sorted(self._by_part))

    def check(self) -> None:
        """Find the data set's tracks, unless a manifest will tell of them.

        Raises:
            DataError: As `dataset`.
        """
        if not self.config.falls_back:
            _ = self.dataset

    def over(self, stream: str) -> Plan:
        """Give the plan by which a stream is computed: labels may lie in a folder of their own."""
        return self._own_labels if self.config.labels and stream == LABELS else self

    @cached_property
    def _own_labels(self) -> Plan:
        data = dataclasses.replace(self.config.data, path=self.config.labels)
        name = self.config.data_name
        return Plan(
            dataclasses.replace(
                self.config,
                data=dataclasses.replace(data, name=name),
                stores=(LOCAL,),
                labels="",
                streams={},
                groups={},
            )
        )

    def _of_group(self, group: str) -> Plan:
        return self.over(self.groups[group][0])

    def receipts(self, groups: Sequence[str] | None = None) -> list[str]:
        """Give the receipts of the parts of some groups, of all by default."""
        return [
            self.path(f"receipts/{group}/{part}.json")
            for group in (self.groups if groups is None else groups)
            for part in self._of_group(group).parts
        ]

    # --- fall-back stores

    @property
    def fetching(self) -> str:
        """What fetching is told."""
        plain = dataclasses.asdict(self.config)
        plain["data"]["name"] = self.config.data_name
        names = ("data", "streams", "groups", "parts", "failure_budget", "shards")
        names += ("stores", "labels", "cache_limit", "unreachable")
        return json.dumps({name: plain[name] for name in names}, sort_keys=True)

    def receipts_after(self, fetched: str) -> list[str]:
        """Give what is joined once it is known what was fetched.

        Args:
            fetched: What fetching wrote.
        """
        record = json.loads(Path(fetched).read_bytes())
        last = [self.path("receipts/fetched.json")] if record["fetched"] else []
        return [*self.receipts(record["compute"]), *last]

    @property
    def round(self) -> int:
        """Give a number that is raised when something that was fetched is not here any more."""
        record = self._fetched
        shards = [Path(self.config.store_path, name) for name in record.get("shards", ())]
        return record.get("round", 0) + (not all(shard.is_dir() for shard in shards))

    @property
    def _fetched(self) -> dict[str, Any]:
        try:
            return json.loads(Path(self.path("fetched.json")).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}

    def mark_used(self) -> None:
        """Take note that what was fetched is used now."""
        from ..cache.pulled import use

        use(self.config.store_path, [Path(name).name for name in self._fetched.get("shards", ())])

    # --- jobs

    def path(self, name: str) -> str:
        """Give a path below the results folder."""
        return f"{self.config.results}/{name}"

    def inputs(self, group: str, part: int) -> list[str]:
        """Files that a job of (group, part) reads."""
        plan = self._of_group(group)
        if plan is not self:
            return plan.inputs(plan.only_group, part)
        streams = self.groups[group]
        files: list[str] = []
        for track in self._by_part.get(part, []):
            files += self._files(track, streams)
        found = [f"{self.dataset.root}/{name}" for name in dict.fromkeys(files)]
        if self.config.data.adapter == "table":
            # A table may name what is not there: that source goes to quarantine, alone.
            found = [name for name in found if self._mark(name) != ABSENT]
        return [*found, *self._weights(streams)]

    def _weights(self, streams: Sequence[str]) -> list[str]:
        """Weights that are files, or folders of some: other bytes, another recipe."""
        used = [s.weights for name in streams if (s := self.config.streams.get(name)) is not None]
        files: list[str] = []
        for name in dict.fromkeys(weights.removeprefix("inflate:") for weights in used if weights):
            if Path(name).suffix in TENSOR_FILES:
                files.append(name)
            elif Path(name).is_dir():
                files += [str(path) for path in sorted(Path(name).iterdir()) if path.is_file()]
        return files

    def stamp(self, group: str, part: int) -> str:
        """Give a digest of names, sizes and times of a job's inputs, and of what a table says.

        Snakemake looks for newer files only; one that is replaced by an older file shows here.
        Files that the workflow makes itself need no stamp.
        """
        plan = self._of_group(group)
        if plan is not self:
            return plan.stamp(plan.only_group, part)
        if self.config.data.is_made:
            return ""
        marks = [(name, *self._mark(name)) for name in self.inputs(group, part)]
        tracks = filter(_is_told, self._by_part.get(part, []))
        told = [(track.name, track.rows, track.clock, track.form) for track in tracks]
        return digest([marks, told] if told else marks)[:16]

    def _mark(self, path: str) -> tuple[int, int]:
        """Give size and time of a file, looked at once."""
        if path not in self._marks:
            try:
                stat = Path(path).stat()
            except OSError:
                self._marks[path] = ABSENT
            else:
                self._marks[path] = stat.st_size, stat.st_mtime_ns
        return self._marks[path]

    @cached_property
    def _marks(self) -> dict[str, tuple[int, int]]:
        return {}

    @cached_property
    def _by_part(self) -> dict[int, list[Track]]:
        """Part to its tracks, without those that hold none."""
        found: dict[int, list[Track]] = {}
        for track in self.dataset.tracks:
            found.setdefault(part_of(track.source, self.config.parts), []).append(track)
        return found

    def _files(self, track: Track, streams: Sequence[str]) -> list[str]:
        found = [track.labels, track.template]
        for stream in streams:
            settings = self.config.streams.get(stream)
            if isinstance(settings, VisualSettings) and settings.reads == "faces":
                found.append(track.faces)
            elif settings is not None:
                found.append(track.media)
            if isinstance(settings, VisualSettings) and settings.reads == "boxes":
                found.append(track.boxes)
            if isinstance(settings, TextSettings):
                found.append(track.transcript)
        return [name for name in found if name is not None]

    def demo_outputs(self) -> tuple[list[str], list[str]]:
        """Files and face folders that making the data set gives."""
        root = self.config.data.path
        files: dict[str, None] = {}
        folders: dict[str, None] = {}
        for track in self.dataset.tracks:
            made = (track.media, track.labels, track.transcript, track.template)
            files |= {f"{root}/{name}": None for name in made if name}
            folders |= {f"{root}/{track.faces}": None} if track.faces else {}
        return list(files), list(folders)

    @cached_property
    def fuse_settings(self) -> SettingsFile:
        """What stage two is told."""
        return self._settings(self.config.fuse)

    @cached_property
    def batch_settings(self) -> SettingsFile:
        """What training is told: the same whatever runs are scored by afterwards."""
        return self._settings(_by_default(self.config.fuse, SCORING))

    def _settings(self, fuse: FuseSettings) -> SettingsFile:
        streams = dataclasses.asdict(self.config)["streams"]
        told = {"streams": streams, "fuse": dataclasses.asdict(_by_default(fuse, ["batches"]))}
        text = json.dumps(told, sort_keys=True)
        return SettingsFile(self.path(f"settings/{digest(text)[:16]}.json"), text)

    def write_settings(self) -> None:
        """Write the files that stage two's jobs are told by."""
        self.fuse_settings.write()
        if self.batches:
            self.batch_settings.write()

    @property
    def batches(self) -> list[str]:
        """Receipts of stage two's batches; none where one job trains all runs."""
        count = self.config.fuse.batches
        return [self.path(f"batches/{i}of{count}.json") for i in range(count)] if count > 1 else []

    def extraction(self, group: str) -> str:
        """Give the settings that a group's job is told."""
        plan = self._of_group(group)
        if plan is not self:
            return plan.extraction(plan.only_group)
        plain = dataclasses.asdict(self.config)
        streams = {s: plain["streams"][s] for s in self.groups[group] if s != LABELS}
        data = {**plain["data"], "name": self.config.data_name}
        shards = plain["shards"]
        return json.dumps({"data": data, "shards": shards, "streams": streams}, sort_keys=True)

    def gpu_of(self, group: str) -> int:
        """GPUs that a group's job takes."""
        return 0 if self.groups[group] == (LABELS,) else self.gpu

    @property
    def gpu(self) -> int:
        """GPUs that a job takes; found without importing torch."""
        if self.config.device == "auto":
            return int(count_gpus() > 0)
        return int(self.config.device.startswith("cuda"))
