#!/usr/bin/env bash
# Set up all that `make demo` and `make test` need, saying what is installed before installing it.
# Run it as often as you like: when nothing is missing it only looks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1

typings='micropython-rp2-rpi-pico-w-stubs==1.29.0.post1' # for pyright on firmware/

say() { printf 'setup: %s\n' "$*"; }
die() {
  say "$*" >&2
  exit 1
}

# One set-up at a time: `make demo` and `make test` may be started together.
if command -v flock >/dev/null; then
  exec 9>.setup.lock
  flock 9
fi

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$(command -v "$name")
      return
    fi
  done
  return 1
}

# --- the distribution's packages ---------------------------------------------------------------

packages=()
if find_python; then
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    case $("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
      /usr/bin/python3.*) packages+=("$(basename "$(readlink -f "$python")")-venv") ;;
      *) die "$python has no ensurepip: repair it, or put another Python 3.11 or newer on PATH" ;;
    esac
  fi
else
  packages+=(python3-venv)
fi
[[ -e /etc/ssl/certs/ca-certificates.crt || ! -d /etc/apt ]] || packages+=(ca-certificates)
# The 32-bit meters: Debian only, since Ubuntu keeps its armhf packages on other mirrors.
if grep -qs '^ID=debian' /etc/os-release; then
  command -v qemu-arm >/dev/null || packages+=(qemu-user)
  command -v gpgv >/dev/null || packages+=(gpgv)
fi

if ((${#packages[@]} > 0)); then
  if command -v apt-get >/dev/null; then
    say "installing with apt-get: ${packages[*]}"
    as_root=()
    if ((EUID != 0)); then
      command -v sudo >/dev/null || die "run as root: apt-get install ${packages[*]}"
      as_root=(sudo)
    fi
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq
      -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
    "${apt[@]}" update </dev/null || say "apt-get update failed; trying with the lists at hand"
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null ||
      say "could not install: ${packages[*]}; going on without"
  else
    say "missing here, and there is no apt-get to install it: ${packages[*]}"
  fi
fi

# --- Python ------------------------------------------------------------------------------------

find_python || die "needs Python 3.11 or newer as python3 on PATH"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv || die "python3 cannot make .venv (on Debian: apt-get install python3-venv)"
fi
wanted=$(cat pyproject.toml tools/setup.sh | cksum)
if [[ $wanted != "$(cat .venv/.wattveil-stamp 2>/dev/null)" || ! -d firmware/typings/stdlib ]]; then
  say "installing with pip into .venv: wattveil (from here) and its [dev] tools"
  .venv/bin/python -m pip install -qq --no-input -e '.[dev]'
  say "installing with pip into firmware/typings: $typings"
  rm -rf firmware/typings
  .venv/bin/python -m pip install -qq --no-input --target firmware/typings "$typings"
  printf '%s\n' "$wanted" >.venv/.wattveil-stamp
fi

# --- MicroPython -------------------------------------------------------------------------------

.venv/bin/python tools/get_micropython.py
