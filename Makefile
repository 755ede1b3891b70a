# make demo and make test are all a newcomer needs; both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
# On Linux x86-64 the environment has onnxruntime-gpu, so that a provider that cannot load is tested
# for real; the two builds own the same module, so it is one or the other.
ORT := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' '-')),gpu,cpu)
# A Triton server whose Python backend reads arrays of NumPy 1 alone, and MLServer, which wants an
# older Starlette: not in .venv.
SERVERS := .venv-servers
# Building the package needs nothing of the package.
DIST := .venv-dist

.PHONY: demo test slow fuzz lint docs engines servers oracle planted zoo boxes proving throughput load bench gpu-bench gpu-check precision many dist wheel clean

demo: .venv/ready
	$(BIN)/backlit demo -o out

# One thread per worker: two workers with two spinning pools each take twice as long.
test: .venv/ready-test lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# What make test leaves out: large networks whose kind a smaller one stands for.
slow: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

# Damaged and hostile files, data sets and command lines by the thousand, counted: hours. Cases that
# fail stay in out/fuzz. make fuzz ARGS="--only 'onnx files' --cases 500"
fuzz: .venv/ready-test
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: .venv/ready-test .typing/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .typing/backlit
	$(BIN)/mypy tests/support tests/cases tests/fuzz benchmarks release
	rm -rf .arrows && mkdir -p .arrows && cp -R backlit .arrows/backlit && cp -R export runtime models .arrows/backlit
	cp pyproject.toml .arrows && cd .arrows && ../$(BIN)/lint-imports --no-logo --no-cache

.venv/ready: pyproject.toml setup.py tests/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable ".[$(ORT),boxes,export]"
	touch $@

# torchvision and timm ask for torch as it is built for CUDA; --no-deps keeps the CPU build of the
# constraints, and what timm needs to download weights out.
.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --group test torch scikit-learn
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --no-deps torchvision timm
ifeq ($(ORT),gpu)
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable ".[gpu,tensorrt-check]"
endif
	touch $@

# The site, in .docs/site; a warning or a broken link is an error. It needs no torch.
docs: .venv/ready-docs
	$(BIN)/python docs/generate.py .docs
	cd .docs && ../$(BIN)/zensical build --strict -f zensical.toml
	$(BIN)/python docs/links.py .docs/site

.venv/ready-docs: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --group docs
	touch $@

# A repository in a real Triton server, and a folder in a real MLServer, which make test skips.
servers: $(SERVERS)/ready
	OMP_NUM_THREADS=1 $(SERVERS)/bin/python -m pytest tests/test_triton.py tests/test_triton_server.py tests/test_mlserver.py

$(SERVERS)/ready: pyproject.toml setup.py tests/constraints-servers.txt
	test -x $(SERVERS)/bin/python || $(PYTHON) -m venv $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(SERVERS)/bin/python -m pip install --quiet --constraint tests/constraints-servers.txt --editable ".[cpu,boxes,export,mlserver]" nvidia-pytriton pytest
	touch $@

.typing/ready:
	mkdir -p .typing/backlit
	for part in export runtime models; do ln -sfn ../../$$part .typing/backlit/$$part; done
	for file in __init__.py py.typed; do ln -sfn ../../backlit/$$file .typing/backlit/$$file; done
	touch $@

# Backlit's maps on other engines' arithmetic: OpenVINO, and WebGPU on a Vulkan in software where one
# is installed. An hour; goes on where it stopped. make engines ARGS="--only tiny --providers openvino"
engines: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.engines $(ARGS)

# The gradients of onnx's own operator tests; make oracle PATTERN=conv runs those of that name.
oracle: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.oracle.run --names "$(PATTERN)"

# Faults planted in copies of the package: is each refused by verification, and seen by the tests?
# Half an hour. make planted ARGS="--only Gemm --workers 1"
planted: .venv/ready-test
	$(BIN)/python -m benchmarks.planted.run $(ARGS)

# All of torchvision's classifiers and a model of every timm family: hours; goes on where it stopped.
# make zoo ONLY="vit_*" runs those of that name.
ONLY ?= *
zoo: .venv/ready-test
	$(BIN)/python -m benchmarks.zoo --only "$(ONLY)"
	$(BIN)/python -m benchmarks.zoo --timm --only "$(ONLY)"

# Boxes on labelled real photos, beside the textbook pipeline and a blind centred box: half an
# hour; goes on where it stopped.
boxes: .venv/ready-test
	$(BIN)/python -m benchmarks.boxes

# Boxes on many small networks, trained here on drawn pictures, and on the photos: an hour; goes on
# where it stopped. make proving ARGS="--only 'residual*' --write"
proving: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.proving.run $(ARGS)

# Images per second from JPEG to boxes, beside the script that everybody writes first.
throughput: .venv/ready-test
	$(BIN)/python -m benchmarks.throughput $(FOLDER)

# backlit serve at 1, 8 and 64 clients beside the bare session, then 10,000 requests, some of them bad.
load: .venv/ready-test
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.serve --embedded --rounds 0 --soak 10000

# Backlit beside PyTorch, captum and onnx-ad (where installed) on nine classifiers, into
# docs/measured/bench.md: hours on a quiet machine; goes on where it stopped. make bench ONLY="resnet*"
bench: .venv/ready-test
	$(BIN)/python -m benchmarks.bench.suite --only "$(ONLY)"

# Backlit on an NVIDIA GPU beside PyTorch and captum, into docs/measured/gpu.md and gpu.json; goes on
# where it stopped. make gpu-bench ARGS="--only resnet50 --minutes 9"
gpu-bench: .venv/ready-test
	$(BIN)/python -m benchmarks.gpu.bench $(ARGS)

# What TensorRT's parser and the CUDA provider say of 25 architectures as published: half an hour, no
# GPU needed. make gpu-check ONLY="resnet*"
gpu-check: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gpu.check --only "$(ONLY)"

# A run over 10,000 pictures of which 300 are bad, beside the same run killed 20 times.
many: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.many

# fp16 and bf16 against float32 on labelled real photos.
precision: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.precision.run

# The wheel and the sdist, in dist/: built twice and compared. make dist TAG=v1.2.3 refuses another
# version.
dist: $(DIST)/ready
	$(DIST)/bin/python -m release.dist --tag "$(TAG)"

# That wheel with each extra in an environment of its own, for each Python that there is.
# make wheel PYTHONS="python3.11" EXTRAS="cpu cpu,boxes,export"
PYTHONS ?= python3.11 python3.12 python3.13
wheel: dist
	$(DIST)/bin/python -m release.wheel --pythons "$(PYTHONS)" --extras "$(EXTRAS)"

$(DIST)/ready: pyproject.toml tests/constraints.txt
	test -x $(DIST)/bin/python || $(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DIST)/bin/python -m pip install --quiet --constraint tests/constraints.txt --group dist
	touch $@

clean:
	rm -rf .venv $(SERVERS) $(DIST) .typing .arrows .docs out build dist *.egg-info
