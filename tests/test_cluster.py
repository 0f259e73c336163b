"""cluster.yaml against Ray's own schema, and what it must keep closed."""

import configparser
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.mark.ray
def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "prepare", "train"}


def test_tokens_are_on_and_servers_on_loopback(cluster: dict[str, Any]) -> None:
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    (mlflow,) = [command for command in commands if "mlflow server" in command]
    assert "--app-name basic-auth" in mlflow
    assert "--host 127.0.0.1" in mlflow
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in (ROOT / "cluster.yaml").read_text()
    assert cluster["provider"]["use_internal_ips"] is True
    assert all(node["node_config"]["SecurityGroupIds"] for node in cluster["available_node_types"].values())


def test_versions_are_those_of_the_constraints(cluster: dict[str, Any]) -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    images = [cluster["docker"]["image"], cluster["available_node_types"]["train"]["docker"]["worker_image"]]
    assert all(f":{pinned['ray']}-py311" in image for image in images)


def test_what_leaves_the_machine_is_a_list_without_secrets_but_rays_token(cluster: dict[str, Any]) -> None:
    sources = set(cluster["file_mounts"].values())
    code = {"cubeprep", "modeling", "jobs", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert sources == code | {"~/.ray/auth_token"}
    assert all((ROOT / name).exists() for name in code)
    assert "chmod 600 /home/ray/.ray/auth_token" in cluster["setup_commands"]


def test_pip_can_install_what_is_sent(cluster: dict[str, Any], tmp_path: Path) -> None:
    """Metadata name files, and setuptools looks for packages and data."""
    from setuptools.config.pyprojecttoml import read_configuration

    for source in cluster["file_mounts"].values():
        if not source.startswith("~"):
            (tmp_path / source).symlink_to(ROOT / source)
    found = read_configuration(tmp_path / "pyproject.toml", expand=True)
    assert set(found["tool"]["setuptools"]["packages"]) >= {"cubeprep", "modeling", "jobs", "cubeprep.readers"}
    assert (tmp_path / found["project"]["readme"]).is_file()
    assert all((tmp_path / name).is_file() for name in found["project"]["license-files"])


def test_mlflows_password_is_made_on_the_head_and_for_its_owner_alone(cluster: dict[str, Any], tmp_path: Path) -> None:
    (command,) = [text for text in cluster["head_setup_commands"] if "mlflow_auth.ini" in text]
    assert not [text for text in cluster["setup_commands"] if "mlflow" in text]
    command = command.replace("/home/ray", str(tmp_path))
    assert command.count(str(tmp_path)) == 5
    contents = []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # some systems have no `python`
    for _ in range(2):
        subprocess.run(["bash", "-euc", command], check=True, env=os.environ | {"PATH": path})
        paths = tmp_path / ".mlflow" / "credentials", tmp_path / "mlflow_auth.ini"
        assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
        contents.append([path.read_text() for path in paths])
    assert contents[0] == contents[1]
    told, server = configparser.ConfigParser(), configparser.ConfigParser()
    told.read(paths[0])
    server.read(paths[1])
    assert len(told["mlflow"]["mlflow_tracking_password"]) == 48
    assert server["mlflow"]["admin_password"] == told["mlflow"]["mlflow_tracking_password"]
    (start,) = [text for text in cluster["head_start_ray_commands"] if "mlflow server" in text]
    assert start.startswith("umask 077;")


def test_images_have_a_digest_or_a_word_why_not(cluster: dict[str, Any]) -> None:
    lines = (ROOT / "cluster.yaml").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if " image: " in line)
    assert "@sha256:" in lines[first] or any("not by digest" in line for line in lines[first - 4 : first])


@pytest.fixture(scope="module")
def ray_job() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docs" / "rayjob.yaml").read_text())


def test_the_ray_job_has_what_kuberay_needs(ray_job: dict[str, Any], cluster: dict[str, Any]) -> None:
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    spec = ray_job["spec"]
    job = spec["entrypoint"].split()
    assert (ROOT / f"{job[2].replace('.', '/')}.py").is_file()
    assert spec["shutdownAfterJobFinishes"] is True
    rays = spec["rayClusterSpec"]
    pinned = cluster["docker"]["image"].rpartition(":")[2].split("-")[0]
    assert rays["rayVersion"] == pinned
    groups = [rays["headGroupSpec"], *rays["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert f"ray{pinned}-py311" in container["image"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert set(container["resources"]) == {"requests", "limits"}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in rays["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_ray_job_is_closed(ray_job: dict[str, Any]) -> None:
    rays = ray_job["spec"]["rayClusterSpec"]
    assert rays["authOptions"] == {"mode": "token"}
    assert rays["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_the_image_has_the_versions_files_and_settings_of_the_cluster(cluster: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "Containerfile").read_text()
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    (base,) = [rest.removeprefix("BASE=") for step, rest in steps if step == "ARG" and rest.startswith("BASE=")]
    assert base == cluster["docker"]["image"]
    assert cluster["available_node_types"]["train"]["docker"]["worker_image"] in text
    sent = {source for source in cluster["file_mounts"].values() if not source.startswith("~")}
    copied = {name for step, rest in steps if step == "COPY" for name in rest.split()[1:-1]}
    context = (ROOT / "docs" / "Containerfile.dockerignore").read_text().split()
    allowed = {line[1:] for line in context if line.startswith("!")}
    assert copied == allowed == sent
    compiler, install = (rest for step, rest in steps if step == "RUN")
    needed = "--no-install-recommends gcc libc6-dev"  # Ray's images for CPUs have none
    assert needed in compiler
    assert needed in cluster["setup_commands"][2]
    assert install.split()[-4:] == [*cluster["setup_commands"][1].split()[-3:], "'mlflow[auth]'"]
    (settings,) = [rest.split() for step, rest in steps if step == "ENV"]
    options = [option.split() for option in cluster["docker"]["run_options"]]
    assert settings == [value for name, value in options if name == "--env"]
