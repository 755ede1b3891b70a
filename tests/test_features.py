"""Maps of feature maps: which tensors they are made of, and their numbers against torch."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from backlit.export import export
from backlit.export.autodiff.backward import waists
from backlit.export.maps.grids import Grid, grid
from backlit.runtime import Session
from backlit.runtime.boxes.recipes import RECIPES, fitted
from backlit.runtime.errors import OptionError
from torch import nn

ALL = ("saliency", "features", "gains", "gradcam", "layercam")
SIDE = 32


class Residual(nn.Module):
    """Blocks with skip connections: what lies inside a block is no waist."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
            for _ in range(4)
        )
        self.head = nn.Linear(8, 5)

    def features(self, x):
        tensors = [self.stem(x)]
        for block in self.blocks:
            tensors.append(tensors[-1] + block(tensors[-1]))
        return tensors

    def forward(self, x):
        return self.head(torch.tanh(self.features(x)[-1]).mean((2, 3)))


class Tokens(nn.Module):
    """Patches as tokens, with a class token before them, as in a vision transformer."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.mix = nn.ModuleList(nn.Linear(17, 17) for _ in range(4))
        self.head = nn.Linear(6, 5)

    def tokens(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        tensors = [torch.cat([self.token.expand(len(t), 1, 6), t], 1)]
        for mix in self.mix:
            t = tensors[-1]
            tensors.append(t + torch.tanh(mix(t.transpose(1, 2)).transpose(1, 2)))
        return tensors

    def forward(self, x):
        return self.head(self.tokens(x)[-1][:, 0])


def run(path, images, index):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [y.name for y in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": images, "class_index": index}), strict=True))


def images(n=2):
    return np.random.default_rng(3).uniform(-1, 1, (n, 3, SIDE, SIDE)).astype(np.float32)


def gradients(scores, tensors, index):
    """[N,K,*S] for each tensor."""
    rows = [
        [torch.autograd.grad(scores[n, c], tensors, retain_graph=True) for c in row]
        for n, row in enumerate(index)
    ]
    return [
        np.stack([[each[i][n].detach().numpy() for each in row] for n, row in enumerate(rows)])
        for i in range(len(tensors))
    ]  # fmt: skip


def scaled(maps):
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    return (maps - low) / (high - low)


def gained(tensor, gradient):
    """[N,K,h,w] of a feature map [N,C,h,w] and the gradients by it [N,K,C,h,w]."""
    features = tensor.detach().numpy()[:, None]
    apart = features - features.mean((3, 4), keepdims=True)
    return scaled(np.maximum(gradient * apart, 0).sum(2))


INDEX = np.array([[0, 3, 4], [2, 2, 1]])


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    torch.manual_seed(0)
    model = Residual().eval()
    path = tmp_path_factory.mktemp("features") / "residual.onnx"
    report = export(model, path, size=SIDE, input="float32", maps=ALL)
    return model, path, report.contract


def expected(model, x):
    """Of stem's Conv and Relu, four sums and tanh, 60 to 75 % is 5 of 7, 20 to 50 % 2 to 4."""
    tensors = model.features(torch.tensor(x))
    last = torch.tanh(tensors[-1])
    scores = model.head(last.mean((2, 3)))
    third, end, *early = gradients(scores, [tensors[3], last, *tensors[:3]], INDEX)
    features = last.detach().numpy()[:, None]
    return {
        "features": scaled(np.abs(third).mean(2)),
        "gains": np.mean([gained(*pair) for pair in zip(tensors, early, strict=False)], 0),
        "gradcam": np.maximum((end.mean((3, 4), keepdims=True) * features).sum(2), 0),
        "layercam": np.maximum((np.maximum(end, 0) * features).sum(2), 0),
    }


def test_maps_are_what_torch_says(residual):
    model, path, contract = residual
    x = images()
    found = run(path, x, INDEX)
    for name, right in expected(model, x).items():
        np.testing.assert_allclose(found[name], right, rtol=2e-4, atol=1e-6, err_msg=name)
        made = contract.map(name)
        assert found[name].shape == (2, 3, made.height, made.width) == (2, 3, 8, 8)
        assert len(made.tensors) == (3 if name == "gains" else 1)
    assert np.ptp(found["gradcam"]) > 1e-4 < np.ptp(found["layercam"])  # the rectifier leaves some


def test_tokens_lie_over_the_image(tmp_path):
    torch.manual_seed(1)
    model = Tokens().eval()
    contract = export(model, tmp_path / "m.onnx", size=SIDE, input="float32", maps=ALL).contract
    x = images()
    found = run(tmp_path / "m.onnx", x, INDEX)
    tensors = model.tokens(torch.tensor(x))
    made = contract.map("features")
    assert (made.height, made.width) == (4, 4)
    right = gradients(model.head(tensors[-1][:, 0]), tensors, INDEX)
    each = [scaled(np.abs(g).mean(-1)[:, :, 1:].reshape(2, 3, 4, 4)) for g in right[:-1]]
    # Of convolution, tokens, tokens with the class token and four sums: 5 of 7, the second sum.
    assert len(made.tensors) == 1
    np.testing.assert_allclose(found["features"], each[2], rtol=2e-4, atol=1e-5)
    # Those between 20 and 50 % begin with the convolution's tokens, before the class token.
    assert len(contract.map("gains").tensors) == 3
    cells = [t if t.shape[1] == 16 else t[:, 1:] for t in tensors]
    early = [g[:, :, -16:] for g in right]
    products = [
        np.maximum(g * (t - t.mean(1, keepdims=True)).detach().numpy()[:, None], 0).sum(-1)
        for g, t in zip(early, cells, strict=True)
    ]
    gains = [scaled(p.reshape(2, 3, 4, 4)) for p in products[:2]]
    patches = scaled(products[0].reshape(2, 3, 4, 4))
    np.testing.assert_allclose(found["gains"], np.mean([patches, *gains], 0), rtol=2e-4, atol=1e-5)


def test_half_precision_keeps_the_scale(residual, tmp_path):
    model, path, _ = residual
    file = tmp_path / "h.onnx"
    export(model, file, size=SIDE, input="float32", maps=ALL, precision="fp16")
    single, half = run(path, images(), INDEX), run(file, images(), INDEX)
    for name in ("gradcam", "layercam"):
        np.testing.assert_allclose(half[name], single[name], atol=2e-2 * single[name].max())


@pytest.mark.parametrize("target", ["portable", "openvino"])
def test_without_pixels_the_rest_is_the_same_and_cheaper(residual, tmp_path, target):
    model, path, _ = residual
    file = tmp_path / "f.onnx"
    export(model, file, size=SIDE, input="float32", maps="features", target=target)
    whole, alone = (run(p, images(), INDEX) for p in (path, file))
    assert list(alone) == ["scores", "class", "score", "features"]
    np.testing.assert_allclose(alone["features"], whole["features"], rtol=1e-4, atol=1e-6)
    nodes = [len(onnx.load(p).graph.node) for p in (path, file)]
    assert nodes[1] < nodes[0]
    steps = [n for n in onnx.load(file).graph.node if n.op_type in ("ConvTranspose", "Conv")]
    forward = 1 + 2 * len(model.blocks)
    assert len(steps) == forward + 2  # back through the last block alone, two convolutions


def test_half_precision_keeps_the_map(residual, tmp_path):
    model, path, _ = residual
    export(
        model, tmp_path / "h.onnx", size=SIDE, input="float32", maps="features", precision="mixed"
    )
    single, half = (run(p, images(), INDEX)["features"] for p in (path, tmp_path / "h.onnx"))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - single).max() < 2e-2


def test_a_classifier_without_feature_maps(tmp_path):
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 7), nn.Tanh(), nn.Linear(7, 4))
    contract = export(mlp, tmp_path / "m.onnx", size=SIDE).contract
    assert [made.name for made in contract.maps] == ["saliency"]
    session = Session(tmp_path / "m.onnx")
    assert fitted("default", session.contract) is RECIPES["pixels"]
    with pytest.raises(OptionError, match=r"no 'features' map; it has: saliency(.|\n)*--maps"):
        session.saliency(np.zeros((SIDE, SIDE, 3), np.uint8), map="features")
    with pytest.raises(OptionError, match="has no feature maps"):
        export(mlp, tmp_path / "n.onnx", size=SIDE, maps="features")
    assert not (tmp_path / "n.onnx").exists()


def test_recipes_of_a_file_without_pixel_maps(residual, tmp_path):
    model, *_ = residual
    contract = export(model, tmp_path / "f.onnx", size=SIDE, maps="features", verify=False).contract
    assert fitted("default", contract) is RECIPES["default"]
    with pytest.raises(OptionError, match="no 'saliency' map"):
        fitted("paper", contract)


@pytest.mark.parametrize("output", ["pixels", "", ("saliency", "saliency")])
def test_maps_that_do_not_exist(tmp_path, output):
    with pytest.raises(OptionError, match="choose among saliency, gradient"):
        export(Residual(), tmp_path / "m.onnx", size=SIDE, maps=output)


def test_a_coarse_map_is_enlarged_over_the_image(residual, tmp_path):
    model, *_ = residual
    export(model, tmp_path / "u.onnx", size=SIDE, maps=("saliency", "features"), verify=False)
    session = Session(tmp_path / "u.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    (found,) = session.saliency(picture, [1], map="features")
    coarse = session.run(picture[None], np.array([[1]]))["features"][0, 0]
    assert found.maps.shape == (1, SIDE, SIDE)
    np.testing.assert_allclose(found.maps[0, 1::4, 1::4], found.maps[0, 2::4, 2::4], atol=0.3)
    block_means = found.maps[0].reshape(8, 4, 8, 4).mean((1, 3))
    assert np.corrcoef(block_means.ravel(), coarse.ravel())[0, 1] > 0.95
    assert np.unravel_index(block_means.argmax(), (8, 8)) == np.unravel_index(
        coarse.argmax(), (8, 8)
    )
    (both,) = session.saliency(picture, [1], crops=2, map="features")
    mirrored = session.run(picture[None, :, ::-1], np.array([[1]]))["features"][0, 0, :, ::-1]
    mean = both.maps[0].reshape(8, 4, 8, 4).mean((1, 3))
    assert np.corrcoef(mean.ravel(), ((coarse + mirrored) / 2).ravel())[0, 1] > 0.95


def value(*dims, dtype=ir.DataType.FLOAT):
    return ir.val("v", dtype, ["N", *dims])


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        ((384, 14, 14), (14, 14, 1, 0)),
        ((14, 14, 384), (14, 14, 3, 0)),  # channels last, as in Swin
        ((512, 13, 13), (13, 13, 1, 0)),  # pooling without padding
        ((196, 768), (14, 14, 2, 0)),
        ((197, 768), (14, 14, 2, 1)),  # and a class token
        ((201, 768), (14, 14, 2, 5)),  # and registers
        ((64, 112, 112), None),  # as fine as the image
        ((512, 1, 1), None),
        ((1000,), None),
        ((300, 10), None),  # no grid of an image
    ],
)
def test_what_lies_over_the_image(dims, expected):
    v = value(*dims)
    assert grid(v, 224, 224) == (Grid(v, *expected) if expected else None)


def test_a_wide_image():
    v = value(8, 7, 14)
    assert grid(v, 112, 224) == Grid(v, 7, 14, 1)
    assert grid(v, 224, 112) is None
    assert grid(value(8, 7, 7, dtype=ir.DataType.INT64), 112, 112) is None


def test_waists_are_what_everything_goes_through():
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[N,4] x) => (float[N,4] y) {
            a = Relu(x)
            b = Relu(a)
            c = Neg(a)
            d = Add(b, c)
            s = Shape(d)
            e = Relu(d)
            f = Reshape(e, s)
            l, r = Split<axis = 1, num_outputs = 2>(f)
            m = Concat<axis = 1>(r, l)
            i = Cast<to = 7>(m)
            k = Cast<to = 1>(i)
            n = Add(m, k)
            y = Neg(n)
        }
    """)
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    found = waists(graph, graph.inputs[0], graph.outputs[0])
    assert [v.name for v in found] == ["a", "d", "e", "f", "m", "n"]


def test_a_session_computes_only_the_maps_it_is_asked_for(residual, tmp_path):
    model, *_ = residual
    export(model, tmp_path / "u.onnx", size=SIDE, verify=False)
    whole = Session(tmp_path / "u.onnx")
    lean = Session(tmp_path / "u.onnx", maps=["features"])
    assert [made.name for made in lean.contract.maps] == ["features"]
    picture = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    index = np.array([[1, -1], [0, 3]])
    found = lean.run(picture, index)
    assert list(found.maps) == ["features"]
    np.testing.assert_array_equal(found["features"], whole.run(picture, index)["features"])
    with pytest.raises(OptionError, match="no 'saliency' map; it has: features"):
        found.saliency  # noqa: B018
    with pytest.raises(OptionError, match="no 'layercam' map; it has: saliency, features"):
        Session(tmp_path / "u.onnx", maps=["layercam"])
    (boxes,) = lean.localize(picture[0])
    (same,) = whole.localize(picture[0])
    assert boxes.boxes == same.boxes


class Attention(nn.Module):
    """Patches of 8 pixels, then tokens that attend to themselves, without a skip connection."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 8, 8)
        self.down = nn.Conv2d(6, 6, 2, 2)
        self.weigh = nn.Linear(4, 8 * 8 * 2)
        self.head = nn.Linear(2 * 8 * 8, 5)

    def forward(self, x):
        t = torch.tanh(self.down(torch.tanh(self.patch(x)))).flatten(2)
        weights = torch.softmax(self.weigh(t.mean(1)).reshape(-1, 2, 8, 8), -1)
        return self.head(torch.sin(weights).flatten(1))


def test_attention_weights_are_no_feature_map(tmp_path):
    torch.manual_seed(0)
    contract = export(Attention(), tmp_path / "m.onnx", size=SIDE, maps=ALL).contract
    assert {made.name: (made.height, made.width) for made in contract.maps[1:]} == {
        "features": (2, 2),
        "gains": (4, 4),
        "gradcam": (2, 2),
        "layercam": (2, 2),
    }
