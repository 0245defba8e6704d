#!/usr/bin/env bash
# Set up what `make demo` needs (argument demo), or `make test` and `make lint` as well (test, the
# default), saying what is installed before installing it. Run it as often as you like: when nothing is
# missing it only looks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1

# for pyright on firmware/: in firmware/typings, and in for-esp32 there
typings=('micropython-rp2-rpi-pico-w-stubs==1.29.0.post1' 'micropython-esp32-stubs==1.29.0.post1')

scope=${1:-test}

say() { printf 'setup: %s\n' "$*"; }
die() {
  say "$*" >&2
  exit 1
}
case $scope in demo | test) ;; *) die "what to set up is demo or test, not $scope" ;; esac

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
as_root=()
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
quiet=() # what is new here and must not start a service of the system
if [[ $scope == test ]]; then
  # The broker of `wattveil demo --link mqtt`, and a store. Debian's packages start one for the whole
  # system as well, now and at every boot; where a package is new, both are prevented (docs/MQTT.md).
  PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto >/dev/null || quiet+=(mosquitto)
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || quiet+=(postgresql)
  packages+=("${quiet[@]}")
  # Debian only: Ubuntu keeps its armhf packages on other mirrors, and its chromium is a snap.
  if grep -qs '^ID=debian' /etc/os-release; then
    command -v qemu-arm >/dev/null || packages+=(qemu-user) # the 32-bit meters
    [[ -x /usr/bin/chromium ]] || packages+=(chromium)      # the live page's tests; some 300 MB
    command -v chromedriver >/dev/null || packages+=(chromium-driver)
  fi
fi
if grep -qs '^ID=debian' /etc/os-release; then
  command -v gpgv >/dev/null || packages+=(gpgv)
fi

# Runs a command; services of the packages in `quiet` are neither started nor enabled by it.
# shellcheck disable=SC2016  # the other shells expand these
without_services() {
  local policy=/usr/sbin/policy-rc.d status=0 package
  # invoke-rc.d and deb-systemd-invoke ask this file; 101 says: do not
  local text='#!/bin/sh
exit 101'
  if ((${#quiet[@]} > 0)) && [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
    "${as_root[@]}" sh -c 'printf "%s\n" "$1" >"$0" && chmod 755 "$0"' "$policy" "$text"
    "$@" || status=$?
    "${as_root[@]}" rm -f "$policy"
    trap - EXIT
  else
    "$@" || status=$?
  fi
  for package in "${quiet[@]}"; do
    command -v systemctl >/dev/null || break
    "${as_root[@]}" systemctl --quiet disable "$package.service" >/dev/null 2>&1 || true
    [[ ! -d /run/systemd/system ]] || "${as_root[@]}" systemctl stop "$package.service" || true
  done
  return "$status"
}

if ((${#packages[@]} > 0)); then
  if command -v apt-get >/dev/null; then
    say "installing with apt-get: ${packages[*]}"
    ((${#quiet[@]} == 0)) || say "no system service of ${quiet[*]} is started: we run our own"
    if ((EUID != 0)); then
      command -v sudo >/dev/null || die "run as root: apt-get install ${packages[*]}"
      as_root=(sudo)
    fi
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq
      -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
    "${apt[@]}" update </dev/null || say "apt-get update failed; trying with the lists at hand"
    without_services "${apt[@]}" install -y --no-install-recommends "${packages[@]}" \
      </dev/null >/dev/null ||
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
wanted="$(cat pyproject.toml tools/setup.sh | cksum)"
have=$(cat .venv/.wattveil-stamp 2>/dev/null || true)
if [[ $scope == demo && $have != "$wanted "* ]]; then
  say "installing with pip into .venv: wattveil (from here)"
  .venv/bin/python -m pip install -qq --no-input -e .
  printf '%s demo\n' "$wanted" >.venv/.wattveil-stamp
elif [[ $scope == test && ($have != "$wanted test" || ! -d firmware/typings/for-esp32/stdlib) ]]; then
  say "installing with pip into .venv: wattveil (from here) and its [dev] tools, some 1.3 GB"
  .venv/bin/python -m pip install -qq --no-input -e '.[dev]'
  say "installing with pip into firmware/typings: ${typings[*]}"
  rm -rf firmware/typings
  target=firmware/typings
  for stubs in "${typings[@]}"; do
    .venv/bin/python -m pip install -qq --no-input --target "$target" "$stubs"
    target=firmware/typings/for-esp32
  done
  printf '%s test\n' "$wanted" >.venv/.wattveil-stamp
fi

# --- MicroPython -------------------------------------------------------------------------------

runtimes=(micropython)
[[ $scope == demo ]] || runtimes+=(micropython-arm)
.venv/bin/python tools/get_micropython.py "${runtimes[@]}"
