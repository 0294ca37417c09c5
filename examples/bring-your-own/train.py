"""Plain PyTorch, nothing of elastic: a small network learns scikit-learn's digits, on as many workers as there are."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn

run, rank, world = Path(os.environ["ELASTIC_RUN_DIR"]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
config = json.loads(Path(os.environ["ELASTIC_CONFIG"]).read_text())
asked_to_stop = torch.zeros(1)
signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.fill_(1))
# Workers of one machine meet over a file, so that no port is opened; of several, at MASTER_ADDR and MASTER_PORT.
dist.init_process_group("gloo", init_method=os.environ.get("ELASTIC_RENDEZVOUS"), rank=rank, world_size=world)
torch.manual_seed(config["seed"])

pixels, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
pixels, train, test = pixels.float() / 16, slice(0, 1437), slice(1437, None)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)))
optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
step, saved_step, saved_at_s = 0, -1, time.monotonic()
if (run / "resume").exists():  # a checkpoint of before, as it was written
    state = torch.load(run / "resume" / "state.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    step = state["step"]


def save() -> None:
    """Rank 0 writes; the rename makes it whole at once. A step is written once."""
    global saved_step, saved_at_s
    if rank == 0 and step != saved_step:
        part = run / "checkpoints" / ".part"
        part.mkdir()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save(state, part / "state.pt")
        part.rename(run / "checkpoints" / f"step-{step:012d}")
    saved_step, saved_at_s = step, time.monotonic()


while step < config["steps"]:
    drawn = torch.randint(1437, (config["batch"],), generator=torch.Generator().manual_seed(step))[rank::world]
    loss = nn.functional.cross_entropy(model(pixels[drawn]), digits[drawn])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    step += 1
    if rank == 0 and step % config["report_every"] == 0:
        with torch.no_grad():
            accuracy = (model.module(pixels[test]).argmax(1) == digits[test]).float().mean().item()
        report = {"step": step, "total_steps": config["steps"], "loss": loss.item(), "accuracy": accuracy}
        with open(run / "progress.jsonl", "a") as progress:
            progress.write(json.dumps(report) + "\n")
    stop = asked_to_stop.clone()
    dist.all_reduce(stop, dist.ReduceOp.MAX)  # all workers stop after the same step
    if stop:
        save()
        sys.exit(75)  # drained: to be gone on with
    if time.monotonic() - saved_at_s >= float(os.environ["ELASTIC_CHECKPOINT_EVERY_S"]):
        save()
save()
