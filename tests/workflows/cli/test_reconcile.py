"""``nucleate reconcile`` with and without a cluster file."""

import json

import yaml

from workflows.records import Pilot


def test_clusters_are_asked_where_a_file_names_them(nucleate, store, launched, tmp_path):
    command = ["reconcile", "-C", launched]
    ran = nucleate(*command)
    assert (ran.code, ran.out) == (0, "nothing to mend\n"), "as on a machine without clusters"

    ran = nucleate(*command, "--cluster", "alps")
    assert ran.code == 2
    assert "clusters.yaml does not exist" in ran.err

    file = tmp_path / "mine.yaml"
    pilots = {"cpu": {"categories": ["cpu"]}}
    silent = {"slurm_conf": str(tmp_path / "gone.conf"), "pilots": pilots}
    file.write_text(yaml.safe_dump({"clusters": {"alps": silent}}))
    assert nucleate(*command, "--clusters", file).out == "nothing to mend\n", "there was nothing to ask it"
    pilot = Pilot(pilot="p", campaign="oxides", cluster="alps", kind="cpu", job_id="81", state="running")
    store.database.pilots.insert_one(pilot.model_dump())
    ran = nucleate(*command, "--clusters", file)
    first, last = ran.out.splitlines()
    assert ran.code == 0
    assert first.startswith("cluster alps does not answer, so nothing there is called dead: ")
    assert last == "nothing found to mend; what runs on alps could not be judged"
    told = json.loads(nucleate(*command, "--clusters", file, "--json").out)
    assert [(cluster["name"], bool(cluster["away"])) for cluster in told["clusters"]] == [("alps", True)]

    ran = nucleate(*command, "--clusters", file, "--cluster", "apls")
    assert ran.code == 2
    assert "did you mean alps?" in ran.err

    file.write_text(yaml.safe_dump({"clusters": {"alps": silent | {"colour": "red"}}}))
    ran = nucleate(*command, "--clusters", file)
    assert ran.code == 2
    assert "colour" in ran.err
