"""The examples of docs/cluster.md are valid bash and YAML, and their commands have the options that they name."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_scripts_are_bash():
    assert len(blocks("bash")) == 3
    for script in blocks("bash"):
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_manifests_are_yaml_and_fit_together():
    (text,) = blocks("yaml")
    service, job = yaml.safe_load_all(text)
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    assert spec["completions"] == spec["parallelism"]
    command = container["command"]
    assert f"--nnodes={spec['completions']}" in command
    assert f"--nproc-per-node={container['resources']['limits']['nvidia.com/gpu']}" in command
    assert f"--master-addr={job['metadata']['name']}-0.{pod['subdomain']}" in command
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
