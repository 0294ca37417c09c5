"""Jobs on EC2: what of their resources is checked before anything is asked of AWS."""

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from orchestrator.spec.instance_types import GPU_TYPES, find_gpu_type
from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from orchestrator.spec.problems import SpecError

JOB = """\
name: cloud
training: {epochs: 1, shards: 8}
resources:
  fleet: ec2
  market: spot
  region: eu-west-1
  ladder:
    - {instance: g6.xlarge}
    - {instance: g6.xlarge, count: 2}
    - {instance: g5.12xlarge, workers: 4}
"""


def test_instances_markets_and_region_are_read() -> None:
    resources = load_job(JOB).resources

    assert (resources.fleet, resources.market, resources.region) == ("ec2", "spot", "eu-west-1")
    assert [(rung.instance, rung.world_size) for rung in resources.ladder] == [
        ("g6.xlarge", 1),
        ("g6.xlarge", 2),
        ("g5.12xlarge", 4),
    ]


def test_spot_with_a_way_out_is_the_default() -> None:
    assert load_job(JOB.replace("  market: spot\n", "")).resources.market == "spot_then_on_demand"


def test_what_was_submitted_reads_back() -> None:
    job = load_job(JOB)

    assert JobSpec.model_validate_json(job.model_dump_json()) == job


def test_a_type_newer_than_the_table_is_taken() -> None:
    job = load_job(JOB.replace("instance: g5.12xlarge", "instance: g9-flex.metal-48xl"))

    assert job.resources.ladder[-1].instance == "g9-flex.metal-48xl"


MISTAKES = {
    "a local instance": (
        "{instance: g6.xlarge}",
        "{workers: 1}",
        "8:7: resources.ladder.0.instance: EC2 has no instance type 'local'; write one such as g6.xlarge",
    ),
    "no type at all": ("g5.12xlarge", "V100", "10:18: resources.ladder.2.instance: EC2 has no instance type 'V100'"),
    "a retired type": ("g5.12xlarge", "p3.8xlarge", "10:18: resources.ladder.2.instance: p3.8xlarge is of a family"),
    "more workers than GPUs": (
        "g5.12xlarge",
        "g5.16xlarge",
        "10:40: resources.ladder.2.workers: 4 workers are more than g5.16xlarge has GPUs, which is 1 GPU",
    ),
    "an unknown market": ("market: spot", "market: cheap", "5:11: resources.market: must be"),
    "a zone for a region": ("eu-west-1", "eu-west-1a", "6:11: resources.region: "),
    "a market of one's own machine": (
        "fleet: ec2",
        "fleet: local",
        "5:11: resources.market: the local fleet buys nothing; remove market",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_shown_where_it_is(mistake: str) -> None:
    right, wrong, message = MISTAKES[mistake]

    with pytest.raises(SpecError) as caught:
        load_job(JOB.replace(right, wrong, 1))

    assert f"job.yaml:{message}" in str(caught.value)


@pytest.mark.parametrize("gpu_type", GPU_TYPES, ids=lambda gpu_type: gpu_type.name)
def test_the_table_is_what_aws_tells_of_its_types(gpu_type: object) -> None:
    """moto carries answers of AWS's own DescribeInstanceTypes."""
    known = find_gpu_type(getattr(gpu_type, "name", ""))
    assert known is not None
    told = INSTANCE_TYPES[known.name]
    gpus = told["GpuInfo"]["Gpus"][0]

    assert (known.gpus, known.gpu, known.vcpus) == (gpus["Count"], gpus["Name"], told["VCpuInfo"]["DefaultVCpus"])
    assert gpus["MemoryInfo"]["SizeInMiB"] == pytest.approx(known.gpu_memory_gib * 1024, rel=0.08)


def test_types_are_ordered_by_what_they_can_do() -> None:
    assert list(GPU_TYPES) == sorted(GPU_TYPES, key=lambda known: (known.gpus, known.usd_per_hour))
