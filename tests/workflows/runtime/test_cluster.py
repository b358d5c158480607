"""The cluster file: where it is, and everything that is wrong with it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.runtime.cluster_file import (
    ClusterFileError,
    cluster_named,
    clusters_path,
    fingerprint,
    load_clusters,
)

GOOD = """
clusters:
  alps:
    account: s1234
    setup: ["module load qe/7.3"]
    environment: {NUCLEATE_ESPRESSO__COMMAND: pw.x}
    limits: {jobs: 20, cores: 512, core_hours: 1000}
    database: {relay: "login1:27117"}
    pilots:
      dft:
        categories: [cpu, light]
        partition: normal
        cores: 64
        nodes: 1
        memory_gb: 240
        minutes: 720
        task: {cores: 4, memory_gb: 8, minutes: 30}
        stages:
          phonon: {cores: 16, memory_gb: 60, minutes: 240}
"""


@pytest.fixture
def read(tmp_path):
    def load(text):
        path = tmp_path / "clusters.yaml"
        path.write_text(text)
        return load_clusters(path)

    return load


def refused(read, text):
    with pytest.raises(ClusterFileError) as caught:
        read(text)
    return str(caught.value)


def test_a_whole_file(read):
    alps = read(GOOD).clusters["alps"]
    assert (alps.limits.cores, alps.pilots["dft"].stages["phonon"].minutes) == (512, 240)
    assert alps.pilots["dft"].usable_minutes == 718


def test_everything_is_said_at_once_with_its_line(read):
    said = refused(
        read,
        """clusters:
  alps:
    schduler: slurm
    limits: {cores: 4, jobz: 3}
    database: {}
    pilots:
      dft:
        categories: [cpu, lihgt]
        cores: "4"
        partition: "--wrap=x"
        stages:
          relx: {cores: 2}
          relax: {corez: 2}
      DFT: {categories: []}
      big: {categories: [cpu], cores: 8, task: {cores: 16}, drain_s: 7200}
""",
    )
    for line, part in (
        (3, "alps.schduler: is not a key here; did you mean scheduler?"),
        (4, "alps.limits.jobz: is not a key here; did you mean jobs?"),
        (5, "give relay or tunnel, exactly one of the two"),
        (8, "did you mean light?"),
        (9, "dft.cores = 4: must be a whole number"),
        (10, "dft.partition"),
        (12, "did you mean relax?"),
        (13, "relax.corez: is not a key here; did you mean cores?"),
        (14, "pilots.DFT: can't be a name"),
        (15, "a task of 16 cores does not fit a job of 8"),
        (15, "7200 s leave nothing"),
    ):
        assert any(f"line {line}: " in one and part in one for one in said.splitlines()), (line, part, said)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("- a", "is a list"),
        ("clusters: {alps: {pilots: {a: {categories: [cpu]}}}}\nclusters: {}", "is given twice (first on line 1)"),
        ("clusters:\n\talps: x", "YAML has no tabs"),
        ("clusters: {}", "clusters"),
        ("a: &x 1\nb: *x", "aliases"),
        ("clusters: {a: {pilots: {b: {categories: [cpu], minutes: 1}}}}", "leaves nothing after drain_s"),
        ("clusters: {a: {limits: {cores: 2}, pilots: {b: {categories: [cpu], cores: 4}}}}", "limits.cores allows 2"),
        ('clusters: {a: {pilots: {b: {categories: [cpu], partition: "x\\ny"}}}}', "partition"),
        (
            "clusters: {a: {setup: module load foo, pilots: {b: {categories: [cpu]}}}}",
            "setup = module load foo: must be a list, such as [module load qe/7.3]",
        ),
        ("clusters: {a: {pilots: {b: {categories: cpu}}}}", "must be a list, such as [cpu, light]"),
        ('clusters: {"a\\n": {pilots: {b: {categories: [cpu]}}}}', "can't be a name"),
        ("clusters: {a: {pilots: {b: {categories: [cpu], memory_gb: .inf}}}}", "finite"),
    ],
)
def test_what_is_no_cluster_file(read, text, part):
    assert part in refused(read, text)


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("NUCLEATE_CONFIG", str(tmp_path / "config.yaml"))
    assert clusters_path() == tmp_path / "clusters.yaml"
    monkeypatch.setenv("NUCLEATE_CLUSTERS", str(tmp_path / "mine.yaml"))
    assert clusters_path() == tmp_path / "mine.yaml"
    assert clusters_path(Path("given.yaml")) == Path("given.yaml")


def test_one_that_is_not_there(tmp_path):
    with pytest.raises(ClusterFileError, match="does not exist"):
        load_clusters(tmp_path / "none.yaml")
    with pytest.raises(ClusterFileError, match="is a directory, not a cluster file"):
        load_clusters(tmp_path)


def test_a_misspelt_name(read):
    with pytest.raises(ClusterFileError, match="no cluster 'alp'; did you mean alps"):
        cluster_named(read(GOOD), "alp", Path("clusters.yaml"))


def test_a_kind_is_another_when_what_is_said_of_it_changes(read):
    before = fingerprint(read(GOOD).clusters["alps"], "dft")
    assert fingerprint(read(GOOD + "      other: {categories: [gpu]}\n").clusters["alps"], "dft") == before
    assert fingerprint(read(GOOD.replace("jobs: 20", "jobs: 30")).clusters["alps"], "dft") == before
    assert fingerprint(read(GOOD.replace("memory_gb: 240", "memory_gb: 250")).clusters["alps"], "dft") != before
    assert fingerprint(read(GOOD.replace("s1234", "s5678")).clusters["alps"], "dft") != before
