"""`summary.json`, the screen and the top of the page: the same facts, which agree with the other files of the run."""

import html
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from make_runs import Finished

from kerastl.data import CheckedImages, Collection, Record
from kerastl.data.cache import FileCheck
from kerastl.report import summary_facts
from kerastl.runs import Summary, read_csv
from kerastl.workflows.summarize import summarize_data

in_group_of_few = pytest.mark.xdist_group("few")
in_group_of_plain = pytest.mark.xdist_group("plain")
in_group_of_unlabelled = pytest.mark.xdist_group("unlabelled")


def normalized(text: str, run: Finished) -> str:
    """Return a screen without paths, seconds, memory and measured values."""
    for folder, name in ((run.path, "RUN"), (run.path.parent, "FOLDER"), (run.recipe.parent, "DATA")):
        text = text.replace(str(folder), name)
        text = re.sub(rf"[./]*{re.escape(str(folder).lstrip('/'))}", name, text)
    text = re.sub(r"\(\d+\.\d s, .*\)$", "(TIME)", text, flags=re.MULTILINE)
    text = re.sub(r"^Estimated peak memory.*$", "MEMORY", text, flags=re.MULTILINE)
    return re.sub(r"-?\d\.\d{2,3}\b", "#", text)


def sums(counts: dict[str, dict[str, int]]) -> Counter[tuple[str, str]]:
    return Counter({(split, name): n for split, by_class in counts.items() for name, n in by_class.items()})


def check_facts(run: Finished) -> Summary:
    """Check the summary of a run against its other files."""
    summary = Summary.read(run.path)
    rows = read_csv(run.path / "split.csv")
    counted, groups = Counter[tuple[str, str]](), Counter[str]()
    for data in summary.data.values():
        counted += sums(data.splits)
        groups += Counter(data.groups)
        assert (
            sum(data.classes.values())
            == data.images
            == sum(map(sum, (c.values() for c in data.splits.values())))
        )
        assert sum(data.kinds.values()) >= data.images
    assert counted == Counter((row["split"], row["label"]) for row in rows)
    distinct = {(row["split"], row["domain"], row["group"]) for row in rows if row["group"]}
    del groups["all"]
    assert groups == Counter(split for split, _, _ in distinct)
    assert sum(data.unreadable for data in summary.data.values()) == len(run.rows("quarantine.csv"))
    headline, scores = summary.headline, run.json("scores.json")
    assert headline is not None
    of_split = scores[headline.split]
    assert headline.estimate.to_json() == of_split["overall"][headline.metric]
    assert headline.images == sum(map(sum, of_split["confusion"]))
    errors = Counter(
        (row["label"], row["predicted"])
        for row in read_csv(run.path / "predictions.csv")
        if row["split"] == headline.split and row["label"] and row["label"] != row["predicted"]
    )
    if headline.most_confused:
        pair = (headline.most_confused.label, headline.most_confused.predicted)
        assert errors[pair] == headline.most_confused.images == max(errors.values())
    else:
        assert not errors
    return summary


@in_group_of_plain
def test_the_summary_of_a_folder_run_agrees_with_its_files(plain: Finished) -> None:
    summary = check_facts(plain)
    history, freeze = plain.path / "history.jsonl", plain.json("freeze.json")
    assert [phase.trained for phase in summary.phases] == [
        phase["parameters"]["trained"] for phase in freeze["phases"]
    ]
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    for phase in summary.phases:
        losses = {row["epoch"]: row["val_loss"] for row in rows if row["phase"] == phase.phase}
        assert phase.best_epoch == min(losses, key=losses.__getitem__)
        assert phase.best == losses[phase.best_epoch]
    best = min(rows, key=lambda row: row["val_loss"])
    assert summary.kept is not None
    assert (summary.kept.phase, summary.kept.epoch) == (best["phase"], best["epoch"])


@in_group_of_few
def test_the_summary_of_an_adaptation_agrees_with_its_files(few: Finished) -> None:
    summary = check_facts(few)
    assert [*summary.data] == ["source", "target"]
    assert summary.kept is not None
    assert summary.kept.candidate == few.json("adaptation.json")["chosen"]
    inner = Summary.read(few.path / "runs" / "source_only")
    assert inner.phases == summary.phases[: len(inner.phases)]


@pytest.mark.slow
@in_group_of_unlabelled
def test_every_candidate_has_the_phases_that_trained_it(unlabelled: Finished) -> None:
    chosen = unlabelled.json("adaptation.json")["chosen"]
    phases = Summary.read(unlabelled.path / "runs" / chosen).phases
    assert Summary.read(unlabelled.path).phases == phases
    adabn = Summary.read(unlabelled.path / "runs" / "adabn").phases
    assert [phase.phase for phase in adabn] == ["source", "adapt"]


@in_group_of_few
def test_screen_and_page_show_the_same_facts(few: Finished) -> None:
    page = html.unescape((few.path / "report.html").read_text())
    facts = [
        line
        for line in few.answer.err.splitlines()
        if re.match(r"(Source|Target|  \w+|Phase|Model) +\S", line)
    ]
    facts += [
        line for line in few.answer.out.splitlines() if re.match(r"(Kept|Score|Confused|Verdict) +\S", line)
    ]
    assert len(facts) > 12
    for line in facts:
        if not re.match(r"  (Note|epoch)", line):
            assert line.split(maxsplit=1)[1] in page, line


@in_group_of_plain
def test_the_screen_of_a_folder_run(plain: Finished) -> None:
    assert normalized(plain.answer.err, plain) == snapshot("""\
Reading the images
Warning: Excluded 2 unreadable images: <script>alert(1)</0.png: the file is truncated or damaged: it has the header of an image but cannot be decoded; <script>alert(1)</bomb.png: 30000 x 30000 pixels (width x height) exceed the limit of 50000000 pixels
Data        FOLDER/images: 39 images in 2 classes
  Classes   =1+1 .. 20, <script>alert(1)< 19
  Splits    train 23, val 8, test 8 (no groups, such as patients, are defined)
  Images    39 PNG; width 36 px, height 40 px; color; 2 more unreadable and excluded (quarantine.csv)
  Warning   Fewer than 5 test images, so that scores are unreliable: <script>alert(1)< 4, =1+1 .. 4.
  Warning   Only 8 labeled test images: the intervals of the scores will be wide.
Building the model
MEMORY
Model       small_cnn, 94,178 parameters. New classification head; backbone with random weights.
Phases      all: 2 epochs; 93,730 parameters trainable, 448 frozen
            head: 1 epoch; 258 parameters trainable, 93,920 frozen
  epoch 1/3  all: loss #, val_loss #, val_balanced_accuracy #, val_auc #  (TIME)
  epoch 2/3  all: loss #, val_loss #, val_balanced_accuracy #, val_auc #  (TIME)
Phase       all: trained for 2 epochs. Best: epoch 2, val_loss #.
  epoch 3/3  head: loss #, val_loss #, val_balanced_accuracy #, val_auc #  (TIME)
Phase       head: trained for 1 epoch. Best: epoch 3, val_loss #, better than before this phase (#).
Evaluating the model
Checking the predictions of the model
Writing the report
""")
    assert normalized(plain.answer.out, plain) == snapshot("""\

Kept        phase head improved validation (val_loss #, # before): kept phase head, epoch 3
Score       balanced accuracy #, n = 8 test images
            No interval: 8 images (at least 10 are needed).
Few images  the scores of these classes are unreliable: <script>alert(1)< (4), =1+1 .. (4)
Run         RUN
Report      RUN/report.html

  val          accuracy #, balanced_accuracy #, auc #
  test         accuracy #, balanced_accuracy #, auc #
  test         =1+1 .., threshold for specificity 0.9 on val: sensitivity #, specificity #
  test         =1+1 .., threshold for sensitivity 0.9 on val: sensitivity #, specificity #
In parentheses: 95% intervals, which need at least 10 images.
Next:
  kerastl predict RUN IMAGES --out predictions.csv
  kerastl export RUN --out served
""")


@in_group_of_few
def test_the_screen_of_an_adaptation(few: Finished) -> None:
    assert normalized(few.answer.err, few) == snapshot("""\
Reading the images
Source      DATA/a.csv: 72 images in 2 classes
  Classes   dark 36, light 36
  Splits    train 39, val 22, test 11
  Groups    72 (patients): train 39, val 22, test 11
  Images    72 PNG; width 36 px, height 40 px; color
  Warning   Only 11 labeled test images: the intervals of the scores will be wide.
Target      DATA/b.csv: 48 images in 2 classes
  Classes   dark 22, light 10, label not used 16
  Splits    train 8, test 24, without labels 16
  Groups    48 (patients): train 8, test 24, without labels 16
  Images    48 PNG; width 36 px, height 40 px; color
  Warning   Only 24 labeled test images: the intervals of the scores will be wide.
  Note      a.csv: using column 'label' as label.
  Note      a.csv: using column 'patient_id' as group.
  Note      a.csv: using column 'site' as domain.
  Note      b.csv: using column 'label' as label.
  Note      b.csv: using column 'patient_id' as group.
  Note      b.csv: using column 'site' as domain.
  Note      Subgroups by 'age': values are binned at the quartiles of the training images.
Building the model
MEMORY
Model       small_cnn, 94,178 parameters. New classification head; backbone with random weights.
Phases      source: 1 epoch; 93,730 parameters trainable, 448 frozen
            adapt: 3 epochs; 93,282 parameters trainable, 896 frozen
  epoch 1/4  source: loss #, val_loss #, val_balanced_accuracy #, val_auc #  (TIME)
Phase       source: trained for 1 epoch. Best: epoch 1, val_loss #.
  epoch 2/4  adapt: loss #  (TIME)
  epoch 3/4  adapt: loss #  (TIME)
  epoch 4/4  adapt: loss #  (TIME)
Phase       adapt: trained for 3 epochs. Without validation images, the last epoch is kept.
Evaluating the model
Checking the predictions of the model
Writing the report
""")
    assert normalized(few.answer.out, few) == snapshot("""\

Verdict     The recipe has one method, fine-tuning on target labels. No candidates were compared without labels. The effect is under target_test.
Kept        adaptation method fine_tune: phase adapt, epoch 4
Score       AUC by group # (95% interval # to #), n = 24 target test images of 24 groups
Adaptation  AUC by group, adapted minus source only: # (# to #): inconclusive
Run         RUN
Report      RUN/report.html

  val          accuracy # (# to #), balanced_accuracy # (# to #), auc # (# to #), group_auc # (# to #)
  test         accuracy # (# to #), balanced_accuracy # (# to #), auc # (# to #), group_auc # (# to #)
  target_test  accuracy # (# to #), balanced_accuracy # (# to #), auc # (# to #), group_auc # (# to #)
  test         light, threshold for specificity 0.9 on val: sensitivity # (# to #), specificity # (# to #)
  test         light, threshold for sensitivity 0.9 on val: sensitivity # (# to #), specificity # (# to #)
  target_test  light, threshold for specificity 0.9 on val: sensitivity # (# to #), specificity # (# to #)
  target_test  light, threshold for sensitivity 0.9 on val: sensitivity # (# to #), specificity # (# to #)
  prevalence   light: # at the source, # (# to #) at the target by EM, # (# to #) at the target by BBSE, # (# to #) by its test labels
               The estimates are unreliable: the sites differ by more than prevalence (domain classifier AUC # (# to #) with equal prevalence).
  sites        target against source, domain classifier: AUC # (# to #) before adaptation, # (# to #) after
  sites        north against south, domain classifier: AUC # (# to #)
  sites        label predicted from the site, training images: AUC # (# to #)
  Warning: Among the training images, the site alone predicts the label (AUC #, # to #), and the model's features separate the sites. The model may recognize the site instead of the disease, so that scores at these sites do not transfer to others. Evaluate it at a site without training images, or balance the classes at each site.
  test         balanced_accuracy by age: Q1: under 32 #, 3 images; Q2: 32 to under 38 #, 1 images; Q3: 38 to under 47.5 #, 4 images; Q4: 47.5 and over #, 3 images
  test         group_auc by sex: f #, 5 images; m #, 6 images
  target_test  balanced_accuracy by age: Q1: under 32 # (# to #), 13 images; Q2: 32 to under 38 #, 2 images; Q3: 38 to under 47.5 #, 5 images; Q4: 47.5 and over #, 4 images
  target_test  group_auc by sex: f # (# to #), 11 images; m # (# to #), 13 images
In parentheses: 95% intervals, which need at least 10 groups.
Next:
  kerastl predict RUN IMAGES --out predictions.csv
  kerastl export RUN --out served
""")


def data_of(records: list[Record], *checks: FileCheck, augment: tuple[str, ...] = ()):
    filled = (checks * len(records))[: len(records)]
    images = CheckedImages(Collection(Path(), (), tuple(records)), (), filled)
    return summarize_data("photos", images, records, augment=augment)


PHOTO = FileCheck(None, kind="jpg", width=640, height=480)
GRAY, DEEP = FileCheck(None, kind="png", width=64, height=64, is_gray=True), FileCheck(None, True, kind="png")


def records(**counts: int) -> list[Record]:
    """Return records of `<split>_<label>`."""
    return [
        Record(f"{key}{number}", Path(), key.partition("_")[2], key.partition("_")[0])
        for key, count in counts.items()
        for number in range(count)
    ]


MANY = {"train_cat": 90, "train_dog": 90, "test_cat": 40, "test_dog": 40}


@pytest.mark.parametrize(
    ("counts", "checks", "augment", "expected"),
    [
        (MANY, [PHOTO], [], ""),
        (MANY | {"test_dog": 4}, [PHOTO], [], "Fewer than 5 test images, so that scores are unreliable: dog 4."),
        (MANY | {"train_fox": 80}, [PHOTO], [], "unreliable: fox 0."),
        (MANY | {"train_dog": 9}, [PHOTO], [], "imbalanced: 90 training images of cat, 9 of dog."),
        (MANY | {"test_cat": 20, "test_dog": 20}, [PHOTO], [], "Only 40 labeled test images"),
        (MANY, [GRAY, GRAY, PHOTO], [], "Most images are gray (174 of 260)."),
        (MANY, [GRAY], [], ""),
        (MANY, [GRAY], ["random_hue", "random_flip"], "All images are gray, so that random_hue has no effect."),
        (MANY, [PHOTO, DEEP], [], "The bit depth is mixed: 130 of 260 images have 16 bits."),
    ],
)  # fmt: skip
def test_a_warning_names_what_makes_scores_unreliable(counts, checks, augment, expected) -> None:
    warnings = " ".join(data_of(records(**counts), *checks, augment=augment).warnings)
    assert expected in warnings
    assert bool(warnings) == bool(expected)


def test_groups_are_counted_by_domain_and_images_without_a_group_are_not() -> None:
    rows = [("train", "p1", "a"), ("train", "p1", "b"), ("train", None, "b"), ("test", None, "a")]
    members = [
        Record(str(row), Path(), "cat", split, group, domain)
        for row, (split, group, domain) in enumerate(rows)
    ]
    assert data_of(members, PHOTO).groups == {"train": 2, "all": 2}


def test_frame_of_animated_images_is_stated_once() -> None:
    animated = replace(PHOTO, kind="animated gif")
    data = data_of(records(train_a=2, test_a=1), PHOTO, animated, animated)
    facts = dict(summary_facts(Summary(data={"source": data}), "data"))
    assert facts["  Images"].startswith("2 animated GIF (first frame), 1 JPEG; ")


def test_sizes_and_kinds_are_those_of_the_checked_files() -> None:
    data = data_of(records(train_a=2, test_a=1), PHOTO, GRAY, GRAY)
    assert (data.kinds, data.gray) == ({"png": 2, "jpg": 1}, 2)
    assert data.width_px.to_json() == {"smallest": 64, "median": 64, "largest": 640}


def test_labels_that_are_not_used_are_not_counted_as_unlabeled() -> None:
    read = [*records(target_cat=9, target_dog=5), Record("none", Path(), None, "target")]
    used = [replace(record, label=None) if index < 4 else record for index, record in enumerate(read)]
    images = CheckedImages(Collection(Path(), (), tuple(read)), (), (PHOTO,) * len(read))
    data = summarize_data("photos", images, used)
    assert (data.classes, data.withheld) == ({"cat": 5, "dog": 5, "": 5}, 4)
    facts = dict(summary_facts(Summary(data={"target": data}), "data"))
    assert facts["  Classes"] == "cat 5, dog 5, unlabeled 1, label not used 4"


def test_the_range_of_many_classes_does_not_include_unlabeled_images() -> None:
    labeled = records(**{f"train_c{index}": 10 + index for index in range(12)})
    data = data_of([*labeled, *(Record(str(row), Path(), None, "train") for row in range(3))], PHOTO)
    classes = dict(summary_facts(Summary(data={"source": data}), "data"))["  Classes"]
    assert classes.endswith(", ... (10 to 21 each), unlabeled 3")


def test_only_the_first_of_many_classes_with_few_images_are_listed() -> None:
    tested = records(**{f"test_c{index}": 3 for index in range(50)})
    warning = next(text for text in data_of(tested, PHOTO).warnings if "Fewer than" in text)
    assert warning.endswith("c6 3, c7 3 and 42 more.")
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    score = {"split": "test", "metric": "accuracy", "estimate": estimate, "images": 150, "groups": None}
    few = {f"c{index}": 3 for index in range(50)}
    summary = Summary.model_validate({"headline": {**score, "most_confused": None, "few_images": few}})
    assert dict(summary_facts(summary, "result"))["Few images"].endswith("(3) and 42 more")
