# Two commands do everything: `make demo` and `make test`.
BUILD ?= build

.PHONY: all demo test format clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

# A layer of UltraFastBERT's shape, verified on every instruction set and timed against the dense layer.
demo:
	scripts/setup.sh build
	test -f $(BUILD)/build.ninja || meson setup $(BUILD)
	ninja -C $(BUILD) --quiet
	$(BUILD)/tools/fff cpu
	@echo
	$(BUILD)/tools/fff demo

# The whole suite: compilers, sanitizers, link-time optimisation, older and foreign CPUs.
test:
	scripts/setup.sh test
	scripts/test.sh

$(BUILD)/build.ninja:
	meson setup $(BUILD)

format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cc')

clean:
	rm -rf build build-*
