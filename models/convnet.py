"""The paper's network in full: `backlit export backlit.models.convnet:make_convnet`.

Simonyan, Vedaldi, Zisserman 2013 (arXiv 1312.6034), section 2, give the widths
conv64-conv256-conv256-conv256-conv256-full4096-full4096-full1000 and no more. What they leave open
is filled in from the networks theirs descends from, Krizhevsky et al. 2012 (AlexNet) and Chatfield
et al. 2014 (CNN-F, CNN-M: same group, same widths from the second convolution on):

* input: 224 x 224 RGB;
* conv1: 11 x 11, stride 4, padding 2, to 55 x 55 (AlexNet, CNN-F);
* conv2: 5 x 5, padding 2, stride 1; conv3 to conv5: 3 x 3, padding 1 (AlexNet, CNN-F);
* a ReLU after every convolution and full layer but the last;
* local response normalisation after conv1 and conv2: n = 5, k = 2, alpha = 1e-4, beta = 0.75
  (AlexNet's; there alpha multiplies the sum over n channels, in PyTorch and ONNX their mean, so
  it is written 5e-4 here);
* max-pooling 3 x 3, stride 2, without padding (AlexNet) after conv1, conv2 and conv5:
  55 - 27 - 13 - 6, so that the first full layer sees 256 x 6 x 6;
* dropout 0.5 on the inputs of the second and third full layers (the paper has dropout; CNN-F says
  where);
* no grouped convolutions: AlexNet's were for two GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def make_convnet(classes: int = 1000, seed: int = 0) -> nn.Sequential:
    """The paper's network with random weights, in evaluation mode.

    Takes float32 [N,3,224,224] and returns unnormalised class scores float32 [N,classes]. About
    60 million parameters for 1000 classes.

    Args:
        classes: number of classes.
        seed: He initialisation draws from a generator of its own, so the global one is untouched
            and the same seed gives the same weights.
    """
    # On the meta device nothing is drawn twice and the global generator stays as it was.
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 256, 5, padding=2),
            nn.ReLU(),
            nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Flatten(),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, classes),
        )
    model.to_empty(device="cpu")
    he_initialise(model, seed)
    model.eval()
    return model


def he_initialise(layers: Iterable[nn.Module], seed: int) -> None:
    """Draw convolutional and full layers' weights after He et al. 2015, in order; biases are 0."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
