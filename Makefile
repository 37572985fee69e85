# SPDX-License-Identifier: MIT
# A thin front for meson: each target says what it runs.

BUILD ?= build
PREFIX ?= /usr/local
JOBS ?=

.PHONY: all setup demo check bench install clean

all: setup
	@ninja -C $(BUILD) $(if $(JOBS),-j $(JOBS))

# Installs what is missing (and only then), configures once, and again when a test or example came or went.
setup:
	@scripts/deps.sh --build
	@scripts/configure.sh $(BUILD) --buildtype=debugoptimized --prefix=$(PREFIX)

demo: all
	@$(BUILD)/tools/uhmm demo

check: all
	@rm -f $(BUILD)/meson-logs/testlog.json
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs; scripts/summary $(BUILD)/meson-logs/testlog.json

bench: all
	@$(BUILD)/tools/uhmm bench thp
	@$(BUILD)/tools/uhmm bench floor
	@$(BUILD)/tools/uhmm bench onewalk
	@$(BUILD)/tools/uhmm bench scale

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf $(BUILD)
