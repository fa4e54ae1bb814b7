"""The files that start a cluster, against the schemas of what reads them."""

import copy
import importlib
import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCHEMA = json.loads(Path(__file__).with_name("rayjob_schema.json").read_text(encoding="utf-8"))
PROGRAM = "netadapt_imagenet"


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((EXPERIMENTS / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rayjob():
    return yaml.safe_load((EXPERIMENTS / "rayjob.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def options():
    """Options of the program, by name."""
    from typer.main import get_command

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        module = importlib.import_module(PROGRAM)
    import typer

    app = typer.Typer()
    app.command()(module.main)
    return {name for parameter in get_command(app).params for name in parameter.opts}


def check_cluster(config):
    """Check a file as `ray up` does, defaults of the cloud filled in."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_up_takes_the_cluster_file(cluster):
    check_cluster(cluster)


@pytest.mark.parametrize(
    ("where", "name"),
    [((), "max_worker"), (("docker",), "imag"), (("auth",), "user"), (("available_node_types", "gpu"), "max_worker")],
)
def test_ray_up_refuses_a_misspelt_field_of_the_cluster_file(cluster, where, name):
    wrong = copy.deepcopy(cluster)
    place = wrong
    for part in where:
        place = place[part]
    place[name] = 1
    with pytest.raises(jsonschema.ValidationError, match=rf"'{name}' was unexpected"):
        check_cluster(wrong)


def test_the_rayjob_fits_its_schema(rayjob):
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(rayjob, SCHEMA)


@pytest.mark.parametrize(
    "where",
    [
        (),
        ("spec",),
        ("spec", "rayClusterSpec"),
        ("spec", "rayClusterSpec", "autoscalerOptions"),
        ("spec", "rayClusterSpec", "headGroupSpec"),
        ("spec", "rayClusterSpec", "workerGroupSpecs", 0),
        ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec"),
        ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0),
    ],
)
def test_a_misspelt_field_of_the_rayjob_is_refused(rayjob, where):
    wrong = copy.deepcopy(rayjob)
    place = wrong
    for part in where:
        place = place[part]
    place["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'replica' was unexpected"):
        jsonschema.validate(wrong, SCHEMA)


def test_values_of_the_wrong_type_are_refused(rayjob):
    wrong = copy.deepcopy(rayjob)
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="0 is not of type 'string'"):
        jsonschema.validate(wrong, SCHEMA)


def test_heads_have_no_gpus_and_workers_have(cluster, rayjob):
    nodes = cluster["available_node_types"]
    assert nodes[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert nodes["gpu"]["resources"]["GPU"] == 1
    groups = rayjob["spec"]["rayClusterSpec"]
    head, worker = (
        group["template"]["spec"]["containers"][0] for group in (groups["headGroupSpec"], groups["workerGroupSpecs"][0])
    )
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert groups["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"


def test_no_token_stands_in_the_files(rayjob):
    pods = [rayjob["spec"]["submitterPodTemplate"]]
    pods += [rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]]
    pods += [group["template"] for group in rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    for pod in pods:
        variables = {variable["name"]: variable for variable in pod["spec"]["containers"][0]["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert "value" not in variables["RAY_AUTH_TOKEN"]
        assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "nasray-ray-token"


def test_every_node_mounts_the_shared_folder(cluster, rayjob):
    assert "-v /shared:/shared" in cluster["docker"]["run_options"]
    groups = rayjob["spec"]["rayClusterSpec"]
    for group in (groups["headGroupSpec"], *groups["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert {"name": "shared", "mountPath": "/shared"} in pod["containers"][0]["volumeMounts"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "nasray-shared"


def test_the_commands_use_options_that_the_program_has(rayjob, options):
    text = (EXPERIMENTS / "cluster.yaml").read_text(encoding="utf-8")
    in_comment = text[text.index("'python") + 1 : text.index("--place SWE'") + len("--place SWE")].replace("\n#", "")
    for command in (in_comment, rayjob["spec"]["entrypoint"]):
        words = shlex.split(command)
        assert words[0] == "python"
        assert words[1].endswith(f"experiments/{PROGRAM}.py")
        given = {word for word in words if word.startswith("--")}
        assert {"--address", "--run-dir", "--place"} <= given <= options
        assert words[words.index("--run-dir") + 1].startswith("/shared/")
