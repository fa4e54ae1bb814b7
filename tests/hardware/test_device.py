import json
from dataclasses import replace

import pytest
import torch

from nasray.hardware.device import DeviceFingerprint, check_device


def test_fingerprint_survives_json() -> None:
    device = DeviceFingerprint.of("cpu")
    assert DeviceFingerprint.from_json(json.loads(json.dumps(device.to_json()))) == device


def test_fingerprint_names_model_threads_and_torch() -> None:
    device = replace(DeviceFingerprint.of("cpu", threads=2), model="AMD EPYC", torch_version="2.13.0+cpu")
    assert device.describe() == "AMD EPYC (2 threads), torch 2.13.0+cpu"
    assert replace(device, threads=1).describe() == "AMD EPYC (1 thread), torch 2.13.0+cpu"
    assert replace(device, model="NVIDIA H200", threads=None).describe() == "NVIDIA H200, torch 2.13.0+cpu"


def test_fingerprint_takes_the_present_threads_of_torch() -> None:
    assert DeviceFingerprint.of("cpu").threads == torch.get_num_threads()


def test_fingerprint_refuses_other_json() -> None:
    with pytest.raises(ValueError, match="must be a JSON object with dtype, kind"):
        DeviceFingerprint.from_json({"kind": "cpu"})


@pytest.mark.parametrize("device", ["tpu9", "meta", "cpu:x"])
def test_device_must_be_a_cpu_or_gpu(device: str) -> None:
    with pytest.raises(ValueError, match=f"`device` must be cpu, cuda or cuda:<index>, got '{device}'"):
        check_device(device)


def test_device_must_exist() -> None:
    with pytest.raises(ValueError, match="`device` must be a GPU that torch sees, got 'cuda:99'"):
        check_device("cuda:99")
