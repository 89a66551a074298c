"""Parts without Ray: who reads what, what a folder keeps, and what it refuses."""

import json
import os
import pickle
import random
import resource
from dataclasses import replace

import pytest

from plaudit.data import read_rows
from plaudit.judging import Runner, Summary
from plaudit.scale.parts import TRIES, Identity, InputFile, Manifest, PartFolder, Reading
from plaudit.scale.ray_judging import Job, PartJudge, _Setting
from plaudit.scale.reading import Source, check_file, read_stretch, reading_of, stretches
from plaudit.types import DataError, UserError
from tests.judging.rewards import WordCount
from tests.scale.inputs import folder_of_files, lines, records

WHO = Identity("words", "f" * 32, 0, "labelled", 4, False, None, {})


def manifest_of(source, part_rows, who=WHO):
    files = source.files()
    facts = [check_file(source, place) for place in range(len(files))]
    return Manifest(who, reading_of(files, facts), part_rows)


@pytest.mark.parametrize("seed", range(20))
def test_every_part_is_read_once_from_a_file_that_it_begins_in(seed):
    draw = random.Random(seed)
    files = tuple(InputFile(str(place), 0, "", draw.choice([0, 1, 3, 10, 100])) for place in range(draw.randint(1, 12)))
    manifest = Manifest(WHO, Reading("", files), draw.choice([1, 4, 7, 64, 500]))
    wanted = [part for part in range(manifest.parts) if draw.random() < 0.7]
    found = stretches(manifest, wanted)
    assert sorted(part for stretch in found for part in stretch.parts) == wanted
    for stretch in found:
        start = sum(file.rows for file in files[: stretch.place])
        first = -(-start // manifest.part_rows)
        assert start + stretch.skip == manifest.range(first)[0]
        assert 0 <= stretch.skip < files[stretch.place].rows


@pytest.mark.parametrize("part_rows", [4, 32, 1000])
def test_rows_and_ids_are_those_of_one_process(tmp_path, part_rows):
    source = Source(str(folder_of_files(tmp_path / "in")))
    manifest = manifest_of(source, part_rows)
    whole = list(read_rows(source.file))
    found = {}
    for stretch in stretches(manifest, [part for part in range(manifest.parts) if part != 1]):
        found |= dict(read_stretch(source, manifest, stretch))
    assert found
    for part, rows in found.items():
        first, after = manifest.range(part)
        assert rows == whole[first:after]


def test_what_reading_shows_is_what_one_process_sees(tmp_path):
    folder = folder_of_files(tmp_path / "in")
    (folder / "b2.jsonl").write_bytes(lines(records(3)) + b'{"prompt": "half\n')
    source = Source(str(folder), skip_bad=True)
    reading = manifest_of(source, 8).reading
    stream = read_rows(source.file, skip_bad=True)
    assert reading.rows == stream.validate()
    assert (reading.layout, dict(reading.notes)) == (stream.layout, dict(stream.notes))
    assert [str(error) for error in reading.skipped] == [str(error) for error in stream.skipped]
    with pytest.raises(DataError) as ours:
        manifest_of(Source(str(folder)), 8)
    with pytest.raises(DataError) as theirs:
        read_rows(str(folder)).validate()
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\n\n", b'{"prompt": 1}\n'])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_unusable_files_get_the_same_sentence(tmp_path, content, skip_bad):
    (tmp_path / "a.jsonl").write_bytes(content)
    source = Source(str(tmp_path / "a.jsonl"), skip_bad=skip_bad)
    with pytest.raises(DataError) as theirs:
        read_rows(source.file, skip_bad=skip_bad).validate()
    with pytest.raises(DataError) as ours:
        manifest_of(source, 8)
    assert str(ours.value) == str(theirs.value)


def test_a_limit_ends_in_the_same_row(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(50)) + b"{broken\n")
    source = Source(str(tmp_path / "a.jsonl"), limit=11)
    manifest = manifest_of(source, 4)
    assert manifest.parts == 3
    (stretch,) = stretches(manifest, range(3))
    assert [row for _, rows in read_stretch(source, manifest, stretch) for row in rows] == list(read_rows(source.file, limit=11))
    with pytest.raises(UserError, match="--limit"):
        Source(str(folder_of_files(tmp_path / "in")), limit=3).files()


def test_a_file_that_shrinks_after_it_was_checked_is_noticed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(records(20)))
    source = Source(str(path))
    manifest = manifest_of(source, 8)
    path.write_bytes(lines(records(19)))
    with pytest.raises(DataError, match="fewer rows"):
        list(read_stretch(source, manifest, stretches(manifest, range(3))[0]))


@pytest.mark.parametrize("name", ["-", "hub:owner/name"])
def test_what_only_one_process_can_read_is_refused(name):
    with pytest.raises(UserError, match="every worker"):
        Source(name).stream()


@pytest.fixture
def begun(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(20)))
    source = Source(str(tmp_path / "a.jsonl"))
    folder, manifest = PartFolder(tmp_path / "out"), manifest_of(source, 8)
    folder.begin(manifest)
    return source, folder, manifest


def judge(source, folder, manifest, part):
    rows = dict(read_stretch(source, manifest, stretches(manifest, [part])[0]))[part]
    summary = Summary()
    with folder.writing(part, summary) as write:
        for result in Runner(WordCount()).run(rows):
            summary.add(result)
            write(result)


def test_a_folder_goes_on_by_what_is_missing(begun):
    source, folder, manifest = begun
    assert folder.begun(WHO, source.files()) == manifest
    judge(source, folder, manifest, 1)
    assert folder.missing(manifest) == [0, 2]
    with pytest.raises(RuntimeError), folder.writing(0, Summary()) as write:
        write(next(Runner(WordCount()).run(read_rows(source.file))))
        raise RuntimeError("killed")
    assert folder.missing(manifest) == [0, 2]
    for part in (0, 2):
        judge(source, folder, manifest, part)
    whole = Summary()
    for result in Runner(WordCount()).run(read_rows(source.file)):
        whole.add(result)
    assert folder.summary(range(3)).to_json() == whole.to_json()
    assert sorted(entry.name[0] for entry in os.scandir(folder.path)).count(".") == 0
    text = json.loads((folder.path / "manifest.json").read_text())
    assert text["parts"]["part-00002.jsonl"] == [16, 20]


def test_a_part_that_kills_its_process_is_given_up(begun):
    source, folder, manifest = begun
    for _ in range(TRIES):
        folder._count_try(0)  # what a process does that is killed before it ends
    with pytest.raises(UserError, match="part-00000.jsonl was begun 5 times"):
        judge(source, folder, manifest, 0)
    folder.sweep()
    judge(source, folder, manifest, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"fingerprint": "0" * 32}, "settings of the reward"), ({"seed": 1}, "seed: 0 there, 1 now"), ({"limit": 5}, "limit")],
)
def test_parts_of_another_run_are_refused(begun, changed, said):
    source, folder, _ = begun
    with pytest.raises(UserError, match=said):
        folder.begun(Identity(**{**vars(WHO), **changed}), source.files())


def test_parts_of_other_input_and_strange_folders_are_refused(begun, tmp_path):
    source, folder, _ = begun
    (tmp_path / "a.jsonl").write_bytes(lines(records(20, seed=5)))
    with pytest.raises(UserError, match=r"a\.jsonl has changed"):
        folder.begun(WHO, source.files())
    (folder.path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        folder.begun(WHO, source.files())
    with pytest.raises(UserError, match="not empty"):
        PartFolder(tmp_path).begun(WHO, source.files())
    with pytest.raises(UserError, match="is a file"):
        PartFolder(tmp_path / "a.jsonl").begun(WHO, source.files())


def test_a_summary_that_is_gone_is_named(begun):
    source, folder, manifest = begun
    judge(source, folder, manifest, 0)
    (folder.path / "part-00000.summary.json").unlink()
    with pytest.raises(UserError, match=r"delete part-00000\.jsonl"):
        folder.summary([0])


def test_a_full_disk_is_one_sentence_and_leaves_no_part(begun, tmp_path):
    source, folder, manifest = begun
    rows = dict(read_stretch(source, manifest, stretches(manifest, [0])[0]))[0]
    job = Job(source, WordCount, folder.path, 1)
    setting = _Setting(job, replace(manifest, identity=replace(WHO, fingerprint=WordCount().fingerprint())), str(tmp_path), None)
    batch = {"part": [0], "rows": [pickle.dumps(rows)], "problem": [""]}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = os.getcwd()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))  # a file may have so many bytes, and no more
        (full,) = PartJudge(setting)(batch)["done"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.chdir(before)
    assert pickle.loads(full).problem == f"{folder.path} cannot be written: File too large"
    assert os.listdir(folder.path) == ["manifest.json"]
