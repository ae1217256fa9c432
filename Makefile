# Ten commands do everything: `make demo`, `make check`, `make test`, `make test-engines`, `make bench`, `make bench-compare`,
# `make train-images`, `make train-text`, `make convert-minilm` and `make docs`.
BUILD ?= build

.PHONY: all demo check test test-engines bench bench-compare train-images train-text convert-minilm train format clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

# A small trained layer, verified on its recorded images; then one of UltraFastBERT's shape, verified on every instruction set
# and timed against the dense layer.
demo:
	scripts/setup.sh build
	test -f $(BUILD)/build.ninja || meson setup $(BUILD)
	ninja -C $(BUILD) --quiet
	$(BUILD)/tools/fff cpu
	@echo
	$(BUILD)/tools/fff verify models/fashion_mnist_4x4/model.safetensors
	@echo
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BUILD)/tools/fff demo

# What to know of a change within five minutes: one compiler, few sizes.
check:
	scripts/setup.sh check
	scripts/ci_quick.sh

# The whole suite: compilers, sanitizers, link-time optimisation, older and foreign CPUs.
test:
	scripts/setup.sh test
	scripts/test.sh

# libfff inside PyTorch, ggml and ONNX Runtime, which are fetched into build-engines/. ENGINES=NAME for one.
test-engines:
	scripts/setup.sh test
	scripts/test_engines.sh $(ENGINES)

# FFF against dense layers of the newest OpenBLAS, MKL and oneDNN, on every instruction set, in some 20 minutes; writes
# bench/results/. FILTER=REGEX, ISA=NAME and ROUTES=FILE select a part.
bench:
	scripts/setup.sh bench
	scripts/bench.sh $(BUILD) $(if $(FILTER),--filter '$(FILTER)') $(if $(ISA),--isa '$(ISA)') $(if $(ROUTES),--routes '$(ROUTES)')

# This tree's library against another commit's, BASE=COMMIT, paired in one process; which rows moved beyond noise. Some minutes.
bench-compare:
	scripts/setup.sh bench
	scripts/bench_compare.sh '$(BASE)' $(BUILD)

# Image classifiers, dense and fast feedforward, on Fashion-MNIST; some minutes. OPTIONS='--seeds 1' and others, see --help. Writes
# build-train/images/. `--save DIR` stores the classifier that models/fashion_mnist_4x4 is.
train-images: train
	$(TRAIN) examples/train_images/train.py $(OPTIONS)

# Small language models, likewise, on the King James text; some six minutes. OPTIONS=--masked for BERTs. Writes build-train/text/.
train-text: train
	scripts/fetch_tokenizers.sh build-train/site
	$(TRAIN) examples/train_text/train.py $(OPTIONS)

# The last feedforward of all-MiniLM-L6-v2, replaced by layers that learn to imitate it; a quarter of an hour. Writes
# build-train/convert/.
convert-minilm: train
	scripts/fetch_tokenizers.sh build-train/site
	scripts/fetch_minilm.sh build-minilm
	$(TRAIN) examples/convert_minilm/convert.py $(OPTIONS)

TRAIN = env PYTHONPATH=python:build-train/site FFF_LIBRARY="$(abspath $(BUILD))/libfff.so" OMP_NUM_THREADS=1 /usr/bin/python3

train:
	scripts/setup.sh train
	test -f $(BUILD)/build.ninja || meson setup $(BUILD)
	ninja -C $(BUILD) --quiet

# The documentation as a site, with the reference of the C and the Python interface: build-docs/html/index.html.
.PHONY: docs
docs:
	scripts/setup.sh docs
	scripts/docs.sh

$(BUILD)/build.ninja:
	meson setup $(BUILD)

format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cc')

clean:
	rm -rf build build-*
