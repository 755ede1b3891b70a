"""Train the embedded classifier on drawn pictures and labels: `python -m backlit.models.train`.

The network has the shape of the paper's (five convolutional layers, max-pooling, three full layers
with dropout: Simonyan et al. 2013, section 2) made small. The pictures' true
boxes are thrown away here.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from . import PREPROCESSING, tiny_convnet
from .convnet import he_initialise
from .draw import Pixels, draw_set
from .shapes import LABELS

# The samples and the tests have seeds of their own.
TRAINING_SEED, HELD_OUT_SEED = 1000, 2000
PART = 10000
WIDTHS = (16, 32, 48, 64, 96)
BATCH = 32


def make_tiny_convnet(classes: int = len(LABELS), seed: int = 0) -> nn.Sequential:
    """The embedded classifier's network: float32 [N,3,96,96] to logits float32 [N,classes].

    conv16 (5x5, stride 2) - conv32 - conv48 - conv64 - conv96 (3x3), max-pooling after the first,
    the second and the fifth, full128 - full128 - full12, dropout before the second full layer.
    Two choices depart from the paper's shape. Each convolution has batch normalisation, which
    `save` folds into it. And the pooling after the fifth goes on until one cell is left, so that
    the full layers do not have to learn every class anew at every place (on a 6 x 6 grid they
    stayed at chance; the card has the figures). The gradient then returns through the few cells
    that won, which lie on the object.

    He initialisation from the seed.
    """
    layers: list[nn.Module] = []
    channels = 3
    for index, width in enumerate(WIDTHS):
        kernel, stride = (5, 2) if index == 0 else (3, 1)
        layers += [
            nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        if index < 2:
            layers.append(nn.MaxPool2d(2))
        channels = width
    # 12 x 12 to one cell; a chain of small windows is the same maximum as one of 12 x 12.
    layers += [nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(3), nn.Flatten()]
    layers += [nn.Linear(channels, 128), nn.ReLU(), nn.Dropout(0.2)]
    layers += [nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, classes)]
    he_initialise(layers, seed)
    return nn.Sequential(*layers)


def normalise(images: Pixels) -> torch.Tensor:
    """Pictures uint8 [N,S,S,3] to the classifier's input, float32 [N,3,S,S], channels last."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(PREPROCESSING.mean).view(1, 3, 1, 1)
    std = torch.tensor(PREPROCESSING.std).view(1, 3, 1, 1)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def _augment(batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Mirror, shift by up to 8 pixels (edges repeat), change brightness and contrast."""
    count, _, side, _ = batch.shape
    flips = torch.from_numpy(rng.uniform(size=count) < 0.5).view(-1, 1, 1, 1)
    batch = torch.where(flips, batch.flip(3), batch)
    left, top = rng.integers(0, 17, 2)
    padded = functional.pad(batch, (8, 8, 8, 8), mode="replicate")
    batch = padded[:, :, top : top + side, left : left + side]
    gain = torch.from_numpy(rng.uniform(0.75, 1.25, (count, 1, 1, 1))).float()
    shift = torch.from_numpy(rng.uniform(-0.4, 0.4, (count, 1, 1, 1))).float()
    return (batch * gain + shift).contiguous(memory_format=torch.channels_last)


def train(
    model: nn.Module,
    images: Pixels,
    truth: npt.NDArray[np.int64],
    *,
    epochs: int,
    rate: float,
    radius: float = 0.0,
    seed: int = 0,
) -> None:
    """Train in place on pictures and labels: AdamW, one-cycle schedule, cross-entropy.

    With a radius, every batch is used twice in a row, the second time moved uphill in the loss by a
    step of that length along the first pass's input gradient (one replay of Shafahi et al. 2019,
    "Adversarial training for free!"). A classifier that such steps do not fool has input gradients
    that lie on the object, which is what saliency is made of.

    Args:
        model: as `make_tiny_convnet` makes it.
        images: uint8 [N,S,S,3].
        truth: labels, int64 [N].
        epochs: passes over the pictures, counting both uses of a batch as one.
        rate: highest learning rate.
        radius: L2 length of the step, in normalised pixels; 0 uses every batch once.
        seed: order, augmentation and dropout.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, epochs])
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    targets = torch.from_numpy(truth)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    batches, passes = len(images) // BATCH, 2 if radius else 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=epochs * batches * passes, pct_start=0.2
    )
    started = time.monotonic()
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        total, right = 0.0, 0
        for start in range(0, batches * BATCH, BATCH):
            index = order[start : start + BATCH]
            batch = _augment(normalise(images[index]), rng)
            target = targets[torch.from_numpy(index)]
            for turn in range(passes):
                batch.requires_grad_(turn + 1 < passes)
                logits = model(batch)
                loss = functional.cross_entropy(logits, target, label_smoothing=0.02)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                if batch.grad is not None:
                    length = batch.grad.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
                    batch = batch.detach() + batch.grad * (radius / length)
            total += loss.item()
            right += int((logits.argmax(1) == target).sum())
        click.echo(
            f"epoch {epoch + 1}/{epochs}  loss {total / batches:.3f}  training accuracy "
            f"{right / (batches * BATCH):.3f}  {time.monotonic() - started:.0f} s",
            err=True,
        )
    model.eval()


def save(model: nn.Sequential, path: Path) -> None:
    """Write one ONNX file of opset 20: `input` float32 [N,3,S,S] to `logits` [N,classes]."""
    example = torch.zeros(2, 3, PREPROCESSING.size, PREPROCESSING.size)
    program = torch.onnx.export(
        model.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
        (example,),
        input_names=["input"],
        output_names=["logits"],
        opset_version=20,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    proto = program.model_proto
    # The exporter writes where in the source each node came from: bulk, and paths of this machine.
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")
    for tensor in proto.graph.initializer:
        tensor.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")
    proto.ClearField("metadata_props")
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def accuracy(path: Path, images: Pixels, truth: npt.NDArray[np.int64]) -> float:
    """Share of pictures uint8 [N,S,S,3] whose top class in ONNX Runtime is the true one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, len(images), BATCH):
        batch = normalise(images[start : start + BATCH]).contiguous().numpy()
        logits = session.run(["logits"], {"input": batch})[0]
        right += int((logits.argmax(1) == truth[start : start + BATCH]).sum())
    return right / len(images)


def _part(arguments: tuple[int, int]) -> tuple[Pixels, npt.NDArray[np.int64]]:
    cv2.setNumThreads(1)
    count, seed = arguments
    return draw_set(count, seed, PREPROCESSING.size)[:2]


def draw_labelled(count: int, seed: int, processes: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Pictures and labels, the boxes thrown away, drawn by several processes.

    Part k of the set, 10000 pictures, is drawn from seed + k, however many processes there are.
    """
    parts = [(min(PART, count - k * PART), seed + k) for k in range(-(-count // PART))]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        drawn = list(pool.map(_part, parts))
    return np.concatenate([images for images, _ in drawn]), np.concatenate([y for _, y in drawn])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=20000, show_default=True, help="Training pictures to draw.")
@click.option("--held-out", default=6000, show_default=True, help="Fresh pictures to score.")
@click.option("--epochs", default=8, show_default=True, help="Passes over the pictures.")
@click.option("--replays", default=2, show_default=True, help="More passes, every batch twice.")
@click.option("--radius", default=2.0, show_default=True, help="Step between a batch's two uses.")
@click.option("--seed", default=0, show_default=True, help="Weights, order and augmentation.")
@click.option("--threads", default=1, show_default=True, help="CPU cores to train on.")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=tiny_convnet(),
    help="ONNX file to write (default: the package's own).",
)
def main(
    count: int,
    held_out: int,
    epochs: int,
    replays: int,
    radius: float,
    seed: int,
    threads: int,
    out: Path,
) -> None:
    """Draw pictures, train the embedded classifier on them, write it and score it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    started = time.monotonic()
    images, truth = draw_labelled(count, TRAINING_SEED, processes=2)
    click.echo(f"{count} pictures drawn in {time.monotonic() - started:.0f} s", err=True)
    model = make_tiny_convnet(seed=seed)
    train(model, images, truth, epochs=epochs, rate=4e-3, seed=seed)
    if replays:
        train(model, images, truth, epochs=replays, rate=1e-3, radius=radius, seed=seed)
    save(model, out)
    out.with_suffix(".labels.txt").write_text("\n".join(LABELS) + "\n", "utf-8")
    fresh, fresh_truth = draw_labelled(held_out, HELD_OUT_SEED, processes=2)
    share = accuracy(out, fresh, fresh_truth)
    click.echo(
        f"{out}: {out.stat().st_size} bytes; held-out accuracy {share:.4f} "
        f"on {held_out} pictures; {time.monotonic() - started:.0f} s in all",
        err=True,
    )


if __name__ == "__main__":
    main()
