"""The plan of the stand-in: its films, its tracks, and which oddity of the corpus is where.

Names follow Aff-Wild2's styles; pictures, sound, words and labels are made up. The folder holds the
sixth label release and a part of the first, in which one track of today's test set still trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..extract.dataset import Split

NTSC = Fraction(30_000, 1001)
CINEMA = Fraction(24_000, 1001)
PROFILE = "standin"
RELEASE, OLDER = "ABAW6", "ABAW1"
LABELS: dict[Split, str] = {
    "train": "my annotations/6th ABAW Annotations/VA_Estimation_Challenge/Train_Set",
    "val": "my annotations/6th ABAW Annotations/VA_Estimation_Challenge/Val_Set",
    "test": "my annotations/6th ABAW Annotations/VA_Estimation_Challenge/TestSet",
}
"""Label folders, a wrapper of the user's around them; of test tracks, templates in their place."""
OLDER_LABELS: dict[Split, str] = {
    "train": "annotations/VA_Set/Training_Set",
    "val": "annotations/VA_Set/Validation_Set",
}
OLDER_TRACKS: dict[Split, tuple[str, ...]] = {
    "train": (
        "102",
        "102-30-640x360",
        *(f"122-60-1920x1080-{part}" for part in range(1, 5)),
        "234",
    ),
    "val": ("38", "video76"),
}
"""The older release; `234` is the track that changed sides."""
FACES = "cropped_aligned"
MORE_FACES = "cropped_aligned_new_50_vids/cropped_aligned_new_50_vids"
TRANSCRIPTS = "transcripts"
TEMPLATES = {
    "CVPR_5th_ABAW_VA_test_set_sample.txt": ",",
    "CVPR_6th_ABAW_VA_test_set_example.txt": ",0.5,-0.5",
}
"""Template to what follows each image."""
TEST_LIST = "Valence_Arousal_Estimation_Challenge_test_set_release.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One source."""

    source: str
    rate: Fraction = Fraction(30)
    """Frames per second; with `variable` on average."""
    file: str
    """Path of its file."""
    more: int = 0
    """Rows that its tracks have beyond its frames."""
    variable: bool = False
    """Its frames are shown for unequal times."""
    sound: Literal["mono", "stereo", "silent", "short", "none"] = "mono"
    """`short` ends before the picture does."""
    sound_start: float = 0.0
    """Seconds by which the sound begins after the picture; before it where negative."""
    family: str = ""
    """The recording that it is a part of."""
    words: Literal["", "empty", "overlapping", "late", "german", "contracted", "none"] = ""
    """What is odd about its transcript; `none`: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One track; rows are 0-based."""

    name: str
    source: str
    split: Split
    rows: int
    decimals: int = 3
    unlabelled: tuple[range, ...] = ()
    withdrawn: range = range(0)
    """Rows that only the older release has labels of."""
    lines: tuple[tuple[int, str], ...] = ()
    """Rows whose labels are written just so."""
    mark: str = ""
    """What the label file begins with."""
    end: str = "\n"
    """How its lines end."""
    faces: str = FACES
    """Folder of its face folder; empty where it has none."""
    faceless: tuple[range, ...] = ()
    beyond: int = 0
    """Face crops numbered beyond the rows."""
    capital: range = range(0)
    """Rows whose crop is a .JPG."""
    corrupt: range = range(0)
    """Rows whose crop is damaged."""
    litter: tuple[str, ...] = ()
    """Other files in the face folder."""

    @property
    def folder(self) -> str | None:
        """Its face folder."""
        return f"{self.faces}/{self.name}" if self.faces else None


FILMS = (
    Film(source="102", file="batch1/102.mp4", more=1, words="contracted"),
    Film(source="102-30-640x360", file="batch1/102-30-640x360.avi", rate=Fraction(25)),
    *(
        Film(
            source=f"122-60-1920x1080-{part}",
            file=f"batch1/122-60-1920x1080-{part}.mp4",
            more=part % 2,
            family="122-60-1920x1080",
        )
        for part in range(1, 5)
    ),
    Film(
        source="video45_3",
        file="batch2/video45_3.mp4",
        rate=NTSC,
        more=1,
        sound="stereo",
        family="video45",
        words="overlapping",
    ),
    Film(source="10-60-1280x720", file="batch1/10-60-1280x720.mp4"),
    Film(source="46-30-484x360", file="batch1/46-30-484x360.mp4", sound_start=0.4),
    Film(source="86-24-1920x1080", file="batch1/86-24-1920x1080.mp4", rate=CINEMA, words="late"),
    Film(source="video31", file="batch2/video31.mp4", more=1),
    Film(source="486", file="batch2/486.mp4", rate=Fraction(6)),
    Film(source="203", file="batch1/203.MP4", rate=Fraction(20), variable=True),
    Film(source="311", file="batch1/311.wav", words="none"),
    Film(source="video59", file="batch2/video59.mp4", sound_start=-0.3, words="german"),
    Film(source="video76", file="batch2/video76.mp4", rate=Fraction(22_527, 1000)),
    Film(source="476", file="batch2/476.AVI", rate=Fraction(25)),
    Film(source="38", file="batch1/38.mp4", words="empty"),
    Film(source="video2", file="batch2/video2.mp4", more=2),
    Film(source="234", file="batch1/234.mp4", more=1),
    Film(source="video4", file="batch2/video4.avi", rate=Fraction(25), sound="none", words="none"),
    Film(source="461", file="batch2/461.mp4", more=-3, sound="silent"),
    Film(source="43-30-406x720", file="batch1/43-30-406x720.mp4", more=1, sound="short"),
    Film(source="video65", file="batch2/video65.mp4", rate=Fraction(25), more=-1),
)
"""`311` has no film, and a sound file without a byte."""

TRACKS = (
    Plan(name="102", source="102", split="train", rows=160, faceless=(range(5),)),
    Plan(
        name="102-30-640x360",
        source="102-30-640x360",
        split="train",
        rows=150,
        decimals=2,
        withdrawn=range(60, 67),
    ),
    Plan(name="122-60-1920x1080-1", source="122-60-1920x1080-1", split="train", rows=120),
    Plan(
        name="122-60-1920x1080-2",
        source="122-60-1920x1080-2",
        split="train",
        rows=110,
        end="\r\n",
    ),
    Plan(
        name="122-60-1920x1080-3",
        source="122-60-1920x1080-3",
        split="train",
        rows=100,
        mark="\ufeff",
    ),
    Plan(
        name="122-60-1920x1080-4", source="122-60-1920x1080-4", split="train", rows=90, decimals=1
    ),
    Plan(name="video45_3", source="video45_3", split="train", rows=140),
    Plan(name="10-60-1280x720", source="10-60-1280x720", split="train", rows=130),
    Plan(
        name="10-60-1280x720_right",
        source="10-60-1280x720",
        split="train",
        rows=130,
        unlabelled=(range(25), range(30, 60), range(66, 90), range(95, 110), range(115, 130)),
    ),
    Plan(
        name="46-30-484x360_left",
        source="46-30-484x360",
        split="train",
        rows=120,
        unlabelled=(range(50, 70),),
    ),
    Plan(name="46-30-484x360_right", source="46-30-484x360", split="train", rows=120),
    Plan(
        name="86-24-1920x1080",
        source="86-24-1920x1080",
        split="train",
        rows=150,
        decimals=14,
        unlabelled=(range(20),),
    ),
    Plan(name="video31", source="video31", split="train", rows=900, faceless=(range(400, 720),)),
    Plan(name="486", source="486", split="train", rows=73, faces=MORE_FACES, beyond=52),
    Plan(
        name="203",
        source="203",
        split="train",
        rows=160,
        lines=(
            (0, "-1,1"),
            (1, "1,-1"),
            *((row, "0,0") for row in range(2, 10)),
            (10, "1,0"),
            (11, "0.25,1"),
        ),
        capital=range(10, 15),
        corrupt=range(40, 43),
        litter=(".DS_Store", "._00001.jpg", "notes.csv"),
    ),
    Plan(name="311", source="311", split="train", rows=80),
    Plan(name="video59", source="video59", split="val", rows=150),
    Plan(
        name="video59_right",
        source="video59",
        split="val",
        rows=150,
        unlabelled=(range(40),),
        faceless=(range(130, 150),),
    ),
    Plan(
        name="video76",
        source="video76",
        split="val",
        rows=180,
        unlabelled=(range(90, 100), range(165, 180)),
        faceless=(range(20, 22), range(60, 64), range(95, 103)),
    ),
    Plan(
        name="476",
        source="476",
        split="val",
        rows=120,
        faces=MORE_FACES,
        beyond=1,
        lines=((30, "-5,0.2"), (31, "0.1,-5"), (32, "-5.0,-5.0"), (33, "-5.0,0.3")),
    ),
    Plan(
        name="38",
        source="38",
        split="val",
        rows=60,
        lines=tuple((row, "0.25,0.4") for row in range(60)),
    ),
    Plan(name="video2", source="video2", split="test", rows=220),
    Plan(
        name="video2_left",
        source="video2",
        split="test",
        rows=220,
        faceless=(range(100), range(115, 220)),
    ),
    Plan(name="234", source="234", split="test", rows=160),
    Plan(name="video4", source="video4", split="test", rows=200, faces=""),
    Plan(name="461", source="461", split="test", rows=150, faces=MORE_FACES),
    Plan(name="43-30-406x720", source="43-30-406x720", split="test", rows=170),
    Plan(
        name="video65",
        source="video65",
        split="test",
        rows=150,
        faceless=tuple(range(row, row + 2) for row in range(8, 148, 12)),
    ),
)
