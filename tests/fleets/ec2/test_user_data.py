"""What an instance does with itself: checked as a shell program, then run, with `shutdown` and `systemd-run` played.

Whatever happens, it ends: that is what most of this is about.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.main import AliveFile
from orchestrator.fleets.ec2.launching import MAX_USER_DATA_BYTES
from orchestrator.fleets.ec2.user_data import user_data
from orchestrator.fleets.protocol import LaunchError
from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.rehearsal.serving import executable
from orchestrator.spec.names import looks_secret
from tests.support.moto_ec2 import PACKAGE, request

PLAYED = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >>"$PLAYED_LOG"
"""
FAILING = "#!/usr/bin/env bash\nexit 1\n"
LONG_BOOT_S = 300
"""With the deep-learning image's first start, and torch installed."""
LEAVING_TAKES_S = 30
"""To say so, and for the machine to shut down."""


def account(**changes: Any) -> CloudAccount:
    facts = {
        "account_id": "123456789012",
        "region": "eu-west-1",
        "launch_template_id": "lt-1",
        "launch_template_version": "1",
        "subnets": {"eu-west-1a": "subnet-1"},
        "security_group_id": "sg-1",
        "instance_profile_arn": "arn:aws:iam::123456789012:instance-profile/elastic",
        "ami": "ami-1",
        "store_url": "s3://jobs/mine",
        "package_key": PACKAGE,
        "environment": {"ELASTIC_BUCKET_OWNER": "123456789012"},
    }
    return CloudAccount(**{**facts, **changes})


class PlayedMachine:
    """A machine whose only commands besides the system's are played, and noted."""

    def __init__(self, directory: Path, script: str) -> None:
        self.root = directory / "elastic"
        self.log = directory / "played"
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.log.touch()
        self.script = directory / "user-data"
        self.script.write_text(script)
        for name in ("shutdown", "systemd-run", "uv", "docker", "nvidia-smi"):
            self.play(name, PLAYED)

    def play(self, name: str, program: str) -> None:
        """From now on this is that command."""
        (self.bin / name).write_text(program)
        (self.bin / name).chmod(0o755)

    def has_elastic(self, program: str = PLAYED) -> None:
        """An AMI with elastic on it already."""
        (self.root / "venv" / "bin").mkdir(parents=True)
        elastic = self.root / "venv" / "bin" / "elastic"
        elastic.write_text(program)
        elastic.chmod(0o755)
        (self.root / "installed").write_text(PACKAGE)

    def run(self, *arguments: str, **environ: str) -> int:
        """Run user data, or what it has installed of itself."""
        script = self.root / "instance" if arguments else self.script
        return subprocess.run(
            ["bash", script, *arguments],
            env={
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "PLAYED_LOG": str(self.log),
                "ELASTIC_ROOT": str(self.root),
                **environ,
            },
            timeout=120,
            check=False,
            capture_output=True,
        ).returncode

    @property
    def played(self) -> list[str]:
        """The commands in the order in which they were called."""
        return self.log.read_text().splitlines()

    @property
    def is_shut_down(self) -> bool:
        return "shutdown -h now" in self.played

    def has_lived_s(self, seconds: int) -> None:
        """Let it have been launched so long ago."""
        self.did("born", seconds)

    def did(self, what: str, ago_s: int) -> None:
        """Let this have happened so long ago."""
        (self.root / what).write_text(f"{uptime_s() - ago_s}\n")


def uptime_s() -> int:
    """Since this machine's boot."""
    return int(float(Path("/proc/uptime").read_text().split()[0]))


@pytest.fixture
def machine(tmp_path: Path) -> PlayedMachine:
    return PlayedMachine(tmp_path, user_data(request(), account()))


# --- as a program -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [None, "trainer:1"])
def test_the_shell_and_shellcheck_find_nothing_wrong(tmp_path: Path, image: str | None) -> None:
    script = tmp_path / "user-data"
    script.write_text(user_data(request(image=image), account()))
    shellcheck = executable("shellcheck")
    assert shellcheck is not None

    subprocess.run(["bash", "-n", script], check=True)
    found = subprocess.run([shellcheck, "--norc", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_same_launch_is_the_same_text() -> None:
    """Another text with the same token would be refused."""
    assert user_data(request(), account()) == user_data(request(), account())


def test_it_fits_and_cloud_init_takes_it_for_a_program() -> None:
    script = user_data(request("j" * 63 + "-g999-n99-a99"), account())

    assert script.startswith("#!/usr/bin/env bash\n")
    assert len(script.encode()) < MAX_USER_DATA_BYTES / 2


def test_it_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can describe an instance can read its user data."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    script = user_data(request(), account())

    assert not [name for name in re.findall(r"\b([A-Za-z_]+)=", script) if looks_secret(name)]
    assert "wJalrXUtnFEMI" not in script and "a-token" not in script
    with pytest.raises(ValueError, match="GITHUB_TOKEN looks like a secret"):
        account(environment={"GITHUB_TOKEN": "ghp_1"})


def test_nothing_in_a_setting_is_run(tmp_path: Path) -> None:
    evil = f"x'; touch {tmp_path}/run; '$(touch {tmp_path}/run)"
    machine = PlayedMachine(tmp_path, user_data(request(), account(environment={"A": evil})))
    machine.run()

    assert not (tmp_path / "run").exists()


def test_a_store_on_somebodys_disk_is_refused() -> None:
    with pytest.raises(LaunchError, match="cannot reach the store file:///jobs: it has to be s3") as caught:
        user_data(request(), account(store_url="file:///jobs"))
    assert caught.value.kind == "fatal"


@pytest.mark.requires("systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path, machine: PlayedMachine) -> None:
    """systemd-run makes them of its options; written down they are these."""
    machine.has_elastic()
    machine.run()
    timer, service = (line for line in machine.played if line.startswith("systemd-run"))
    on = dict(re.findall(r"--(on-[a-z-]+)=(\S+)", timer))
    properties = re.findall(r"--property=(ExecStopPost=.*?now|\S+)", service)
    true = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
    units = {
        "elastic-last-resort.service": true,
        "elastic-last-resort.timer": (
            f"[Timer]\nOnActiveSec={on['on-active']}\nOnUnitActiveSec={on['on-unit-active']}\nAccuracySec=1s\n"
        ),
        "elastic-agent.service": "[Service]\nExecStart=/bin/true\n" + "\n".join(properties) + "\n",
    }
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")


# --- as it runs -------------------------------------------------------------------------------------------------------


def test_the_last_resort_is_armed_before_anything_else(machine: PlayedMachine) -> None:
    machine.has_elastic()
    assert machine.run() == 0

    first, second = machine.played
    assert first.startswith("systemd-run --quiet --unit=elastic-last-resort --on-active=60s --on-unit-active=60s")
    assert first.endswith(f"{machine.root}/instance last-resort")
    assert second.startswith("systemd-run --quiet --unit=elastic-agent")
    assert "ExecStopPost=/usr/bin/env shutdown -h now" in second  # also when the shell around the agent is killed
    assert second.endswith(f"{machine.root}/instance agent")


def test_a_second_boot_ends_it(machine: PlayedMachine) -> None:
    """Timers and agent are gone then, and cloud-init runs user data only once."""
    machine.has_elastic()
    machine.run()

    per_boot = machine.root / "per-boot" / "elastic"
    subprocess.run([per_boot], env={"PATH": f"{machine.bin}:/bin", "PLAYED_LOG": str(machine.log)}, check=True)
    assert machine.is_shut_down


def test_what_the_ami_lacks_is_installed_and_only_that(machine: PlayedMachine) -> None:
    machine.play(
        "uv",
        PLAYED + 'if [[ $1 == venv ]]; then mkdir -p "${@: -1}/bin" && ln -s /bin/true "${@: -1}/bin/python"; fi\n',
    )
    machine.play("sha256sum", PLAYED)
    assert machine.run() == 0

    assert [line.split()[:2] for line in machine.played] == [
        ["systemd-run", "--quiet"],
        ["uv", "venv"],
        ["uv", "pip"],  # boto3, which fetches the wheel
        ["sha256sum", "--check"],
        ["uv", "pip"],
        ["systemd-run", "--quiet"],
    ]
    assert (machine.root / "installed").read_text().strip() == PACKAGE
    assert machine.run() == 0
    assert len([line for line in machine.played if line.startswith("uv")]) == 3


def test_for_an_image_elastic_is_installed_without_what_only_a_trainer_needs(tmp_path: Path) -> None:
    machine = PlayedMachine(tmp_path, user_data(request(image="trainer:1"), account()))
    machine.play(
        "uv",
        PLAYED + 'if [[ $1 == venv ]]; then mkdir -p "${@: -1}/bin" && ln -s /bin/true "${@: -1}/bin/python"; fi\n',
    )
    machine.play("sha256sum", PLAYED)
    assert machine.run() == 0

    installs = [line for line in machine.played if line.startswith("uv pip install")]
    assert f"--override {machine.root}/without" in installs[-1]
    assert 'torch; python_version < "3"' in (machine.root / "without").read_text().splitlines()
    assert not (machine.root / "installed").exists(), "an image made of this machine would have no torch"


BROKEN_BOOTS = {
    "no timer can be armed": ("systemd-run", FAILING),
    "nothing can be installed": ("uv", FAILING),
    "the wheel is not what it should be": ("sha256sum", FAILING),
}


@pytest.mark.parametrize("broken", BROKEN_BOOTS)
def test_a_boot_that_fails_ends_the_instance(machine: PlayedMachine, broken: str) -> None:
    name, program = BROKEN_BOOTS[broken]
    machine.play(name, program)
    machine.run()

    assert machine.is_shut_down
    assert not any("elastic-agent" in line for line in machine.played)


def test_a_disk_that_takes_nothing_ends_the_instance(machine: PlayedMachine) -> None:
    machine.root.touch()  # no directory can be made there
    machine.run()

    assert machine.is_shut_down


@pytest.mark.parametrize("code", [0, 1, 70])
def test_the_agents_end_is_the_instances(machine: PlayedMachine, code: int) -> None:
    machine.has_elastic(f"{PLAYED}exit {code}\n")
    machine.run()
    machine.has_lived_s(100)
    machine.run("agent")

    agent, end = machine.played[-2:]
    assert end == "shutdown -h now"
    assert agent.startswith("elastic --store s3://jobs/mine agent --cloud ec2 --instance job-g1-n0-a0 --job job")
    assert "--workers 1 --cores 2 --gpus all" in agent
    assert "--allowance 3600s" in agent
    age = re.search(r"--age (\d+)s", agent)
    assert age is not None and 100 <= int(age[1]) < 300  # what booting and installing took is paid for


def test_the_agent_knows_where_its_store_is(machine: PlayedMachine) -> None:
    machine.has_elastic('#!/usr/bin/env bash\nenv >>"$PLAYED_LOG"\n')
    machine.run()
    machine.run("agent")

    here = {"AWS_REGION=eu-west-1", "ELASTIC_BUCKET_OWNER=123456789012", f"HOME={machine.root}"}
    assert here <= set(machine.played)


def test_a_rehearsal_leaves_this_machines_gpus_alone(machine: PlayedMachine) -> None:
    machine.has_elastic('#!/usr/bin/env bash\nprintf "<%s>" "$@" >>"$PLAYED_LOG"\necho >>"$PLAYED_LOG"\n')
    machine.run()
    machine.run("agent", ELASTIC_GPUS="")

    assert "<--gpus><><--work-dir>" in machine.played[-2]


def test_without_work_it_outlives_anothers_boot_and_ends_within_ten_minutes(machine: PlayedMachine) -> None:
    """Two instances lose one: the other has no work until the one that is launched instead has booted."""
    machine.has_elastic()
    machine.run()
    machine.run("agent")

    idle_exit = re.search(r"--idle-exit (\d+)s ", machine.played[-2])
    assert idle_exit is not None
    assert LONG_BOOT_S < int(idle_exit[1]) <= 600 - LEAVING_TAKES_S


def test_of_an_image_the_workers_run_in_containers_and_the_agent_needs_no_torch(tmp_path: Path) -> None:
    machine = PlayedMachine(tmp_path, user_data(request(image="trainer:1", allowance_s=None), account()))
    machine.has_elastic()
    machine.run()
    machine.run("agent")

    agent, end = machine.played[-2:]
    assert agent.startswith("elastic --store s3://jobs/mine agent --cloud ec2") and agent.endswith(" --image trainer:1")
    assert "--allowance" not in agent
    assert end == "shutdown -h now"
    assert not [line for line in machine.played if line.startswith("docker")], "the agent pulls, and says how far it is"


LAST_RESORTS: dict[str, tuple[int, str | None, bool, bool]] = {
    # lived, granted since (None: nothing), whether the agent has started, whether it ends
    "young": (100, None, True, False),
    "booting": (600, None, False, False),
    "never came up": (1300, None, False, True),
    "its allowance is used": (3600, None, True, True),
    "the next look would be too late": (3541, None, True, True),
    "it was granted more": (3600, "7200", True, False),
    "that is used too": (7200, "7200", True, True),
    "it was granted less": (600, "600", True, True),
    "it may live on": (10**6, "none", True, False),
    "nobody can tell what it was granted": (100, "garbage", True, True),
}


@pytest.mark.parametrize("case", LAST_RESORTS)
def test_the_last_resort(machine: PlayedMachine, case: str) -> None:
    lived_s, granted, has_started, ends = LAST_RESORTS[case]
    machine.has_elastic()
    machine.run()
    machine.has_lived_s(lived_s)
    if granted is not None:
        (machine.root / "work" / "allowance").write_text(granted)
    if has_started:
        machine.did("started", 30)
    machine.run("last-resort")

    assert machine.is_shut_down == ends


SILENCES: dict[str, tuple[int, int | None, bool]] = {
    # how long ago the agent was started and has made its last turn (None: none), whether it ends
    "it moves": (10**5, 1, False),
    "a turn takes long": (10**5, 600, False),
    "it was stopped, or waits for a disk": (10**5, 960, True),
    "it has only begun": (600, None, False),
    "what starts it is stuck": (960, None, True),
}


@pytest.mark.parametrize("case", SILENCES)
def test_the_last_resort_of_an_agent_that_hangs(tmp_path: Path, case: str) -> None:
    """With neither budget nor deadline there is no allowance that would end it."""
    started_s, moved_s, ends = SILENCES[case]
    machine = PlayedMachine(tmp_path, user_data(request(allowance_s=None), account()))
    machine.has_elastic()
    machine.run()
    machine.has_lived_s(10**6)
    machine.did("started", started_s)
    if moved_s is not None:
        with AliveFile(machine.root / "work" / "alive") as alive:
            alive.keep(uptime_s() - moved_s)
    machine.run("last-resort")

    assert machine.is_shut_down == ends


def test_an_agent_that_is_started_is_timed(machine: PlayedMachine) -> None:
    machine.has_elastic()
    machine.run()
    machine.run("agent")

    assert int((machine.root / "started").read_text()) == pytest.approx(uptime_s(), abs=60)


def test_the_last_resort_needs_nobody_who_is_alive(machine: PlayedMachine) -> None:
    """Its own files gone: it cannot tell how long it lives, so it ends."""
    machine.has_elastic()
    machine.run()
    (machine.root / "born").unlink()
    machine.run("last-resort")

    assert machine.is_shut_down


def test_it_counts_from_its_launch_on_a_machine_of_its_own(tmp_path: Path) -> None:
    """Only where no directory is given it is the whole machine, which the kernel knows the age of."""
    text = user_data(request(), account())

    assert "ELASTIC_ROOT=/opt/elastic" in text
    assert "PER_BOOT=/var/lib/cloud/scripts/per-boot" in text
    assert os.environ.get("ELASTIC_ROOT") is None
